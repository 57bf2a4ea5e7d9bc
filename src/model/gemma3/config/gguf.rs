//! GGUF metadata, read as llama.cpp reads it: what the file does not say is what llama.cpp hard-codes for `gemma3`.

use super::{Rope, TextConfig, every_nth_is_full, limit};
use crate::error::{Error, Kind, Place, Result};
use crate::nn::AttentionKind;
use crate::weights::gguf::{Array, Metadata};
use std::ops::RangeInclusive;
use std::path::Path;

pub(super) const PREFIX: &str = "gemma3.";

/// Keys that say nothing about the numbers.
const HARMLESS: [&str; 1] = ["attention.value_length"];

/// What begins keys of a tower, which a file of Ollama holds beside the language model: nothing here reads it.
const OF_TOWERS: [&str; 2] = ["vision.", "mm."];

/// As Ollama names the rotation of the full layers. Its own engine reads it, which bends no logits of a Gemma 3, though
/// its earlier converters wrote a soft cap.
const OLLAMAS_ROPE: &str = "rope.global.freq_base";

struct Reader<'a> {
    metadata: &'a Metadata,
    place: Place,
    used: Vec<String>,
    problems: Vec<Error>,
}

pub(super) fn read(metadata: &Metadata, path: &Path) -> Result<(TextConfig, Vec<String>)> {
    let place = Place::Path(path.into());
    match metadata.str("general.architecture") {
        Some("gemma3") => {}
        Some(other) => {
            return Err(Error::new(Kind::Config, format!("`general.architecture` is `{other}`; supported: `gemma3`"))
                .at(place)
                .hint("this program tunes Gemma 3 text models"));
        }
        None => return Err(Error::new(Kind::Config, "`general.architecture` is missing").at(place)),
    }
    let mut reader = Reader { metadata, place, used: Vec::new(), problems: Vec::new() };
    let config = reader.build();
    let Reader { place, used, mut problems, .. } = reader;

    let mut ignored = Vec::new();
    for key in metadata.keys() {
        let Some(name) = key.strip_prefix(PREFIX).filter(|name| !used.iter().any(|u| u == name)) else { continue };
        if HARMLESS.contains(&name) || OF_TOWERS.iter().any(|prefix| name.starts_with(prefix)) {
            ignored.push(key.to_string());
        } else {
            let what =
                format!("`{key}`: this program does not know this key, and it may change what the model computes");
            problems.push(Error::new(Kind::Config, what).at(place.clone()));
        }
    }
    if problems.is_empty() {
        config.check(&place, &mut problems);
    }
    match Error::many(problems) {
        Some(error) => Err(error),
        None => Ok((config, ignored)),
    }
}

impl Reader<'_> {
    fn build(&mut self) -> TextConfig {
        let layers = self.size("block_count", None, limit::LAYERS);
        let hidden_size = self.size("embedding_length", None, limit::HIDDEN);
        let heads = self.size("attention.head_count", None, limit::HEADS);
        let head_dim = self.size("attention.key_length", Some(256), limit::HEAD_DIM);
        for key in ["attention.value_length", "rope.dimension_count"] {
            let given = self.size(key, Some(head_dim), limit::HEAD_DIM);
            if given != head_dim {
                self.problem(key, &format!("it is {given}, unlike `{PREFIX}attention.key_length` ({head_dim})"));
            }
        }
        let is_ollamas = self.metadata.contains(&format!("{PREFIX}{OLLAMAS_ROPE}"));
        for key in ["attn_logit_softcapping", "final_logit_softcapping"] {
            if is_ollamas {
                self.used.push(key.to_owned());
            } else if self.float(key).is_some_and(|cap| cap != 0.0) {
                self.problem(key, "soft-capped logits are not supported");
            }
        }
        let layer_types = self.layer_types(layers);
        let max_position_embeddings = self.size("context_length", Some(131_072), limit::POSITIONS);
        let vocabulary = self.metadata.array("tokenizer.ggml.tokens").map(|tokens| tokens.len() as u64);
        let vocab_size = match vocabulary.or_else(|| self.whole("vocab_size")) {
            Some(n) if (1..=limit::VOCABULARY).contains(&n) => n as usize,
            Some(n) => {
                self.problem("vocab_size", &format!("{n} tokens; supported: 1 to {}", limit::VOCABULARY));
                1
            }
            None => {
                self.problem("vocab_size", "missing, and there is no `tokenizer.ggml.tokens` either");
                1
            }
        };
        self.used.push("vocab_size".into());
        TextConfig {
            vocab_size,
            hidden_size,
            intermediate_size: self.size("feed_forward_length", None, limit::INTERMEDIATE),
            num_hidden_layers: layers,
            num_attention_heads: heads,
            num_key_value_heads: self.size("attention.head_count_kv", Some(heads), limit::HEADS),
            head_dim,
            rms_norm_eps: self.positive("attention.layer_norm_rms_epsilon", 1e-6, limit::EPS),
            // GGUF does not store it. Every size scales by its head width but 27B, which llama.cpp tells by its layers.
            query_pre_attn_scalar: if layers == 62 { hidden_size / heads.max(1) } else { head_dim } as f64,
            sliding_window: self.size("attention.sliding_window", Some(max_position_embeddings), limit::POSITIONS),
            layer_types,
            rope_local: Rope {
                theta: self.either("rope.freq_base_swa", "rope.local.freq_base", 10_000.0),
                factor: 1.0,
            },
            rope_global: Rope {
                theta: self.either("rope.freq_base", OLLAMAS_ROPE, 1_000_000.0),
                factor: self.rope_factor(),
            },
            max_position_embeddings,
            // The weights decide: llama.cpp takes the embedding where a file has no `output.weight`.
            tie_word_embeddings: true,
            bos_token_id: self.token("bos").or(Some(2)),
            eos_token_ids: self.stop_tokens(),
            pad_token_id: self.token("padding").or(Some(0)),
            multimodal: false,
            images: None,
        }
    }

    /// The kinds of layers: every so manieth is full, or a word for each, as Ollama writes it.
    fn layer_types(&mut self, layers: usize) -> Vec<AttentionKind> {
        const KEY: &str = "attention.sliding_window_pattern";
        let Some(Array::Bool(sliding)) = self.metadata.array(&format!("{PREFIX}{KEY}")) else {
            let pattern = self.size(KEY, Some(6), limit::LAYERS);
            return every_nth_is_full(layers, pattern);
        };
        self.used.push(KEY.into());
        if sliding.len() != layers {
            self.problem(KEY, &format!("it has {} layers, the model {layers}", sliding.len()));
        }
        let kind = |sliding: &bool| if *sliding { AttentionKind::Sliding } else { AttentionKind::Full };
        sliding.iter().map(kind).collect()
    }

    /// A rotation's base under llama.cpp's name, or under Ollama's.
    fn either(&mut self, name: &str, ollamas: &str, default: f64) -> f64 {
        let ollamas = self.positive(ollamas, default, limit::THETA);
        self.positive(name, ollamas, limit::THETA)
    }

    /// `rope.scaling.*`: none or linear, on the full layers only.
    fn rope_factor(&mut self) -> f64 {
        let kind = self.take("rope.scaling.type", |m, key| m.str(key).map(str::to_string));
        let legacy = if self.metadata.f64(&format!("{PREFIX}rope.scale_linear")).is_some() {
            self.positive("rope.scale_linear", 1.0, limit::ROPE_FACTOR)
        } else {
            1.0
        };
        let factor = self.positive("rope.scaling.factor", legacy, limit::ROPE_FACTOR);
        match kind.as_deref() {
            Some("linear") | None => factor,
            Some("none") => 1.0,
            Some(other) => {
                self.problem("rope.scaling.type", &format!("it is `{other}`; supported: `linear` or `none`"));
                1.0
            }
        }
    }

    /// The file's end tokens, and Gemma's end of turn, which converters leave out and llama.cpp adds by its text.
    fn stop_tokens(&self) -> Vec<u32> {
        let tokens = self.metadata.strings("tokenizer.ggml.tokens").unwrap_or_default();
        let turn = tokens.iter().position(|token| token == "<end_of_turn>").and_then(|i| u32::try_from(i).ok());
        let mut ids: Vec<u32> =
            [self.token("eos").or(Some(1)), self.token("eot"), turn].into_iter().flatten().collect();
        ids.sort_unstable();
        ids.dedup();
        ids
    }

    fn token(&self, which: &str) -> Option<u32> {
        self.metadata.u64(&format!("tokenizer.ggml.{which}_token_id")).and_then(|id| u32::try_from(id).ok())
    }

    fn take<T>(&mut self, name: &str, get: impl Fn(&Metadata, &str) -> Option<T>) -> Option<T> {
        self.used.push(name.to_string());
        let key = format!("{PREFIX}{name}");
        let value = get(self.metadata, &key);
        if value.is_none() && self.metadata.contains(&key) {
            self.problem(name, "it has a type that is not supported (a value per layer?)");
        }
        value
    }

    fn whole(&mut self, name: &str) -> Option<u64> {
        self.take(name, |m, key| m.u64(key))
    }

    /// A float of the file, as the shortest decimal that is the same f32: 1e-6, not 9.999999974752427e-7.
    fn float(&mut self, name: &str) -> Option<f64> {
        self.take(name, |m, key| m.f64(key)).map(|value| {
            let narrow = value as f32;
            if f64::from(narrow) == value { narrow.to_string().parse().unwrap_or(value) } else { value }
        })
    }

    fn size(&mut self, name: &str, default: Option<usize>, max: u64) -> usize {
        let had_problems = self.problems.len();
        match (self.whole(name), default) {
            (Some(n), _) if (1..=max).contains(&n) => n as usize,
            (Some(n), _) => {
                self.problem(name, &format!("it is {n}; supported: 1 to {max}"));
                1
            }
            (None, Some(default)) => default,
            (None, None) => {
                if self.problems.len() == had_problems {
                    self.problem(name, "it is missing");
                }
                1
            }
        }
    }

    fn positive(&mut self, name: &str, default: f64, range: RangeInclusive<f64>) -> f64 {
        match self.float(name) {
            None => default,
            Some(value) if range.contains(&value) => value,
            Some(value) => {
                let supported = match value > 0.0 {
                    true => format!("a number from {:e} to {:e}", range.start(), range.end()),
                    false => "a number above 0".into(),
                };
                self.problem(name, &format!("it is {value}; supported: {supported}"));
                default
            }
        }
    }

    fn problem(&mut self, name: &str, what: &str) {
        self.problems.push(Error::new(Kind::Config, format!("`{PREFIX}{name}`: {what}")).at(self.place.clone()));
    }
}
