//! Writing the metadata of a GGUF file.

use super::gguf::{NO_CUTOFF, PREFIX};
use super::{TextConfig, gguf};
use crate::error::{Error, Kind, Result};
use crate::model::gemma3::config::gguf::written;
use crate::model::gemma3n::gate::SparseMlp;
use crate::nn::AttentionKind;
use crate::weights::gguf::{Array, Constant, Demands, Metadata, Value};
use crate::weights::names::{LayerNorm, Projection, TensorId};
use std::path::Path;

impl TextConfig {
    /// The `gemma3n.*` keys of a GGUF file with this language model, and `general.architecture`.
    ///
    /// # Errors
    /// [`Kind::Config`] if a reader of the keys would not get this model back.
    pub fn to_gguf(&self) -> Result<Vec<(String, Value)>> {
        let whole = |value: usize| Value::Unsigned(value as u64);
        let float = |value: f64| Value::F32(value as f32);
        let cutoffs = self.activation_sparsity_pattern.iter().map(|&share| SparseMlp::cutoff_of(share));
        let slides = self.layer_types.iter().map(|kind| *kind == AttentionKind::Sliding);
        let widths: Vec<i32> = self.intermediate_size.iter().filter_map(|&f| i32::try_from(f).ok()).collect();
        let keys = vec![
            ("context_length", whole(self.max_position_embeddings)),
            ("embedding_length", whole(self.hidden_size)),
            ("embedding_length_per_layer_input", whole(self.hidden_size_per_layer_input)),
            ("block_count", whole(self.num_hidden_layers())),
            ("feed_forward_length", Value::Array(Array::I32(widths))),
            ("attention.head_count", whole(self.num_attention_heads)),
            ("attention.head_count_kv", whole(self.num_key_value_heads)),
            ("attention.key_length", whole(self.head_dim)),
            ("attention.value_length", whole(self.head_dim)),
            ("attention.layer_norm_rms_epsilon", float(self.rms_norm_eps)),
            ("attention.sliding_window", whole(self.sliding_window)),
            ("attention.sliding_window_pattern", Value::Array(Array::Bool(slides.collect()))),
            ("attention.shared_kv_layers", whole(self.num_kv_shared_layers)),
            ("altup.active_idx", whole(self.altup_active_idx)),
            ("altup.num_inputs", whole(self.altup_num_inputs)),
            (
                "activation_sparsity_scale",
                Value::Array(Array::F32(cutoffs.map(|cutoff| cutoff.unwrap_or(NO_CUTOFF)).collect())),
            ),
            ("final_logit_softcapping", float(self.final_logit_softcapping.unwrap_or(0.0))),
            ("rope.freq_base", float(self.rope_global.theta)),
            ("rope.freq_base_swa", float(self.rope_local.theta)),
            ("vocab_size", whole(self.vocab_size)),
        ];
        let keys = written::named(PREFIX, keys, self.rope_global);
        self.check_read(&keys)?;
        Ok(keys)
    }

    /// Makes sure that a reader of the keys gets this model back.
    fn check_read(&self, keys: &[(String, Value)]) -> Result<()> {
        let metadata: Metadata = keys.iter().cloned().collect();
        let (read, _) = gguf::read(&metadata, Path::new("<gguf>"))?;
        let ropes = |config: &TextConfig| [config.rope_local, config.rope_global];
        if written::are_same(ropes(self), ropes(&read)) {
            return Ok(());
        }
        Err(Error::new(Kind::Config, "`rope_parameters` of this model cannot be said in a GGUF file")
            .hint("llama.cpp scales no positions of sliding layers; `gemma-tune merge` writes a Hugging Face folder"))
    }

    /// What llama.cpp's reader asks of the file, and what it takes from the published sizes instead of from the file.
    ///
    /// It wants keys and values of layers that read others' as well, though it computes with none of them, and a row of the
    /// per-layer table for each row of the embedding: a word beyond that table is told what the first row says.
    pub fn gguf_demands(&self) -> Demands {
        let (d, kv) = (self.hidden_size, self.num_key_value_heads * self.head_dim);
        let zeros = |id, shape: &[usize]| Constant { id, shape: shape.to_vec(), value: 0.0, gives_way: true };
        let shared = (self.first_shared_layer()..self.num_hidden_layers()).flat_map(|layer| {
            let of = [Projection::K, Projection::V].map(|id| zeros(TensorId::Projection(layer, id), &[kv, d]));
            of.into_iter().chain([zeros(TensorId::LayerNorm(layer, LayerNorm::KNorm), &[self.head_dim])])
        });
        let unscaled = if self.altup_correct_scale { 0 } else { self.num_hidden_layers() };
        let ones = (0..unscaled).map(|layer| {
            let id = TensorId::LayerNorm(layer, LayerNorm::CorrectScale);
            Constant { id, shape: vec![d], value: 1.0, gives_way: false }
        });
        Demands {
            constants: shared.chain(ones).collect(),
            rows: vec![(TensorId::EmbedTokensPerLayer, self.vocab_size)],
            warnings: self.fixed_otherwise(),
        }
    }

    /// What llama.cpp fixes for this architecture and this model has otherwise.
    fn fixed_otherwise(&self) -> Vec<String> {
        /// Layers with keys and values of their own, and with a sparse gate.
        const WITH_KEYS: usize = 20;
        const SPARSE: usize = 10;
        let (layers, first) = (self.num_hidden_layers(), self.first_shared_layer());
        let source = |layer: usize| match self.layer_types[layer] {
            AttentionKind::Sliding => WITH_KEYS - 2,
            AttentionKind::Full => WITH_KEYS - 1,
        };
        let shares = first == layers.min(WITH_KEYS) && (first..layers).all(|at| self.kv_source(at) == source(at));
        let cutoff = |layer: usize| (layer < SPARSE).then(|| SparseMlp::cutoff_of(0.95)).flatten();
        let mut sparsity =
            self.activation_sparsity_pattern.iter().map(|&share| SparseMlp::cutoff_of(share)).enumerate();
        let sparse = sparsity.all(|(layer, found)| found == cutoff(layer));
        let wrong = [
            ("num_kv_shared_layers", !shares, "layers from the 21st on read the last two before them"),
            ("activation_sparsity_pattern", !sparse, "0.95 in the first 10 layers, 0 in the others"),
            ("altup_active_idx", self.altup_active_idx != 0, "0"),
            ("final_logit_softcapping", self.final_logit_softcapping != Some(30.0), "30"),
            ("rope_parameters", self.rope_global.factor != 1.0, "one scale of positions for layers of both kinds"),
        ];
        let refused = [
            ("laurel_rank", self.laurel_rank != 64, "64"),
            ("hidden_size_per_layer_input", self.hidden_size_per_layer_input != 256, "256"),
            ("altup_num_inputs", self.altup_num_inputs != 4, "4"),
            (
                "intermediate_size",
                self.intermediate_size.windows(2).any(|pair| pair[0] != pair[1]),
                "one for all layers",
            ),
        ];
        let say = |what: &'static str| {
            move |(key, _, fixed): (&str, bool, &str)| {
                format!("Warning: llama.cpp {what}: `{key}` is fixed there: {fixed}")
            }
        };
        let wrong = wrong.into_iter().filter(|row| row.1).map(say("computes another model from this file"));
        let refused = refused.into_iter().filter(|row| row.1).map(say("does not load this file"));
        wrong.chain(refused).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ModelConfig;

    fn published(name: &str) -> TextConfig {
        let found = ModelConfig::published(&format!("google/gemma-3n-{name}-it")).unwrap();
        let Some(ModelConfig::Gemma3n(config)) = found else { panic!("{name}") };
        config
    }

    #[test]
    fn every_published_size_is_read_back() {
        for name in ["E2B", "E4B"] {
            let config = published(name);
            let keys: Metadata = config.to_gguf().unwrap().into_iter().collect();
            let (read, ignored) = TextConfig::from_gguf(&keys, Path::new("x")).unwrap();
            let ours = TextConfig {
                vocab_size_per_layer_input: config.vocab_size,
                altup_coef_clip: None,
                bos_token_id: read.bos_token_id,
                eos_token_ids: read.eos_token_ids.clone(),
                pad_token_id: read.pad_token_id,
                multimodal: false,
                images: None,
                sounds: None,
                ..config.clone()
            };
            assert_eq!(read, ours, "{name}");
            assert_eq!(ignored, Vec::<String>::new(), "{name}");
            let demands = config.gguf_demands();
            assert_eq!(demands.warnings, Vec::<String>::new(), "{name}");
            assert_eq!(demands.constants.len(), 3 * config.num_kv_shared_layers);
            assert!(demands.constants.iter().all(|constant| constant.gives_way && constant.value == 0.0));
            assert_eq!(demands.rows, [(TensorId::EmbedTokensPerLayer, 262_400)]);
        }
    }

    #[test]
    fn what_llama_cpp_fixes_otherwise_is_said() {
        let warned = |change: fn(&mut TextConfig)| {
            let mut config = published("E2B");
            change(&mut config);
            let warnings = config.gguf_demands().warnings;
            assert_eq!(warnings.len(), 1, "{warnings:?}");
            warnings[0].clone()
        };
        let computes = "Warning: llama.cpp computes another model from this file: ";
        let expected = format!("{computes}`final_logit_softcapping` is fixed there: 30");
        assert_eq!(warned(|c| c.final_logit_softcapping = None), expected);
        assert!(warned(|c| c.num_kv_shared_layers = 9).starts_with(&format!("{computes}`num_kv_shared_layers`")));
        assert!(warned(|c| c.layer_types[19] = AttentionKind::Sliding).contains("`num_kv_shared_layers`"));
        assert!(warned(|c| c.activation_sparsity_pattern[10] = 0.5).contains("`activation_sparsity_pattern`"));
        assert!(warned(|c| c.altup_active_idx = 1).contains("`altup_active_idx`"));
        assert!(warned(|c| c.rope_global.factor = 8.0).contains("`rope_parameters`"));
        let refuses = "Warning: llama.cpp does not load this file: ";
        assert_eq!(warned(|c| c.laurel_rank = 32), format!("{refuses}`laurel_rank` is fixed there: 64"));
        assert!(warned(|c| c.altup_num_inputs = 3).starts_with(refuses));
        assert!(warned(|c| c.hidden_size_per_layer_input = 128).starts_with(refuses));
        assert!(warned(|c| c.intermediate_size[3] = 4096).starts_with(refuses));
    }

    #[test]
    fn a_scale_that_the_model_does_without_is_one() {
        let config = TextConfig { altup_correct_scale: false, ..published("E2B") };
        let ones = config.gguf_demands().constants.into_iter().filter(|constant| !constant.gives_way);
        let ones: Vec<Constant> = ones.collect();
        assert_eq!(ones.len(), config.num_hidden_layers());
        assert!(ones.iter().all(|constant| constant.value == 1.0 && constant.shape == [2048]));
    }

    #[test]
    fn positions_that_no_reader_scales_are_refused() {
        let mut config = published("E2B");
        config.rope_local.factor = 2.0;
        let error = config.to_gguf().unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert!(error.what().contains("`rope_parameters`"), "{error}");
    }

    #[test]
    fn wrong_keys_are_named_together() {
        let mut keys: Metadata = published("E2B").to_gguf().unwrap().into_iter().collect();
        let mut change: Vec<(String, Value)> =
            keys.keys().filter_map(|key| Some((key.to_owned(), keys.get(key)?.clone()))).collect();
        for (key, value) in &mut change {
            match key.trim_start_matches(PREFIX) {
                "activation_sparsity_scale" => *value = Value::Array(Array::F32(vec![f32::NAN; 30])),
                "attention.sliding_window_pattern" => *value = Value::Array(Array::Bool(vec![true; 7])),
                "feed_forward_length" => *value = Value::Array(Array::I32(vec![-1; 30])),
                "altup.num_inputs" => *value = Value::Unsigned(99),
                _ => {}
            }
        }
        change.push(("gemma3n.more".into(), Value::Bool(true)));
        let cutoffs = |cutoff: f32| Value::Array(Array::F32(vec![cutoff; 30]));
        for (cutoff, works) in [(1.6, true), (-3.0, true), (5.0, true), (9.0, false), (f32::INFINITY, false)] {
            let with: Metadata = published("E2B").to_gguf().unwrap().into_iter().collect();
            let with = with.keys().filter_map(|key| Some((key.to_owned(), with.get(key)?.clone())));
            let with = with.filter(|(key, _)| !key.ends_with("sparsity_scale"));
            let with = with.chain([(format!("{PREFIX}activation_sparsity_scale"), cutoffs(cutoff))]).collect();
            assert_eq!(TextConfig::from_gguf(&with, Path::new("x")).is_ok(), works, "{cutoff}");
        }
        keys = change.into_iter().collect();
        let said = TextConfig::from_gguf(&keys, Path::new("x")).unwrap_err().to_string();
        for part in [
            "`gemma3n.activation_sparsity_scale`: it has NaN",
            "`gemma3n.attention.sliding_window_pattern`: it has 7 values for 30 layers",
            "`gemma3n.feed_forward_length`: it has a type that is not supported",
            "`gemma3n.altup.num_inputs`: it is 99; supported: 1 to 64",
            "`gemma3n.more`: this program does not know this key",
        ] {
            assert!(said.contains(part), "{part}\n{said}");
        }
    }
}
