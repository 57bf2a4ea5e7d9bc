//! The keys of an architecture in GGUF metadata, each taken once; every problem at once.

use super::super::limit;
use crate::error::{Error, Kind, Place, Result};
use crate::weights::gguf::{Array, Metadata};
use std::ops::RangeInclusive;
use std::path::Path;

/// Keys that say nothing about the numbers.
const HARMLESS: [&str; 1] = ["attention.value_length"];

/// What begins keys of a tower, which a file of Ollama holds beside the language model: nothing here reads it.
const OF_TOWERS: [&str; 2] = ["vision.", "mm."];

/// The keys of one architecture.
pub(in crate::model) struct Keys<'a> {
    metadata: &'a Metadata,
    /// Before each of them: `gemma3.`.
    prefix: &'static str,
    place: Place,
    used: Vec<String>,
    problems: Vec<Error>,
}

impl<'a> Keys<'a> {
    /// Those that begin with `prefix`, the architecture's name and a dot; `path` is for messages.
    ///
    /// # Errors
    /// Metadata of another architecture.
    pub fn new(metadata: &'a Metadata, prefix: &'static str, path: &Path) -> Result<Self> {
        let (place, supported) = (Place::Path(path.into()), prefix.trim_end_matches('.'));
        match metadata.str("general.architecture") {
            Some(found) if found == supported => {
                Ok(Keys { metadata, prefix, place, used: Vec::new(), problems: Vec::new() })
            }
            Some(other) => {
                let what = format!("`general.architecture` is `{other}`; supported: `{supported}`");
                Err(Error::new(Kind::Config, what).at(place))
            }
            None => Err(Error::new(Kind::Config, "`general.architecture` is missing").at(place)),
        }
    }

    /// What was read of them, as `config`, and the keys that have no effect; `check` looks at what no single key shows.
    ///
    /// # Errors
    /// Every problem, and every key that was not taken.
    pub fn finish<T>(self, config: T, check: impl FnOnce(&T, &Place, &mut Vec<Error>)) -> Result<(T, Vec<String>)> {
        let Keys { metadata, prefix, place, used, mut problems } = self;
        let mut ignored = Vec::new();
        for key in metadata.keys() {
            let Some(name) = key.strip_prefix(prefix).filter(|name| !used.iter().any(|u| u == name)) else { continue };
            if HARMLESS.contains(&name) || OF_TOWERS.iter().any(|prefix| name.starts_with(prefix)) {
                ignored.push(key.to_string());
            } else {
                let what =
                    format!("`{key}`: this program does not know this key, and it may change what the model computes");
                problems.push(Error::new(Kind::Config, what).at(place.clone()));
            }
        }
        if problems.is_empty() {
            check(&config, &place, &mut problems);
        }
        match Error::many(problems) {
            Some(error) => Err(error),
            None => Ok((config, ignored)),
        }
    }

    /// The number of words: those of the vocabulary, or what the file says where it has none.
    pub fn vocab_size(&mut self) -> usize {
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
        vocab_size
    }

    /// The width of a head, which is that of all its parts.
    pub fn head_dim(&mut self) -> usize {
        let head_dim = self.size("attention.key_length", Some(256), limit::HEAD_DIM);
        for key in ["attention.value_length", "rope.dimension_count"] {
            let given = self.size(key, Some(head_dim), limit::HEAD_DIM);
            if given != head_dim {
                let prefix = self.prefix;
                self.problem(key, &format!("it is {given}, unlike `{prefix}attention.key_length` ({head_dim})"));
            }
        }
        head_dim
    }

    /// `rope.scaling.*`: none or linear, on the full layers only.
    pub fn rope_factor(&mut self) -> f64 {
        let kind = self.take("rope.scaling.type", |m, key| m.str(key).map(str::to_string));
        let legacy = if self.metadata.f64(&format!("{}rope.scale_linear", self.prefix)).is_some() {
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
    pub fn stop_tokens(&self) -> Vec<u32> {
        let tokens = self.metadata.strings("tokenizer.ggml.tokens").unwrap_or_default();
        let turn = tokens.iter().position(|token| token == "<end_of_turn>").and_then(|i| u32::try_from(i).ok());
        let mut ids: Vec<u32> =
            [self.token("eos").or(Some(1)), self.token("eot"), turn].into_iter().flatten().collect();
        ids.sort_unstable();
        ids.dedup();
        ids
    }

    /// The id of a special token.
    pub fn token(&self, which: &str) -> Option<u32> {
        self.metadata.u64(&format!("tokenizer.ggml.{which}_token_id")).and_then(|id| u32::try_from(id).ok())
    }

    fn take<T>(&mut self, name: &str, get: impl Fn(&Metadata, &str) -> Option<T>) -> Option<T> {
        self.used.push(name.to_string());
        let key = format!("{}{name}", self.prefix);
        let value = get(self.metadata, &key);
        if value.is_none() && self.metadata.contains(&key) {
            self.problem(name, "it has a type that is not supported (a value per layer?)");
        }
        value
    }

    /// A whole number, if it is there.
    pub fn whole(&mut self, name: &str) -> Option<u64> {
        self.take(name, |m, key| m.u64(key))
    }

    /// A float of the file, as the shortest decimal that is the same f32: 1e-6, not 9.999999974752427e-7.
    pub fn float(&mut self, name: &str) -> Option<f64> {
        self.take(name, |m, key| m.f64(key)).map(|value| {
            let narrow = value as f32;
            if f64::from(narrow) == value { narrow.to_string().parse().unwrap_or(value) } else { value }
        })
    }

    /// A size from 1 to `max`; where it is left out `default`, without which that is a problem.
    pub fn size(&mut self, name: &str, default: Option<usize>, max: u64) -> usize {
        match (self.whole(name), default) {
            (Some(n), _) if (1..=max).contains(&n) => n as usize,
            (Some(n), _) => {
                self.problem(name, &format!("it is {n}; supported: 1 to {max}"));
                1
            }
            (None, Some(default)) => default,
            (None, None) => {
                self.require(name);
                1
            }
        }
    }

    /// A number in `range`; where it is left out `default`.
    pub fn positive(&mut self, name: &str, default: f64, range: RangeInclusive<f64>) -> f64 {
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

    /// A value per layer, of those that `read` makes of an array, or that one may stand for all of; `None` where it is left
    /// out.
    pub fn per_layer<T: Clone>(
        &mut self,
        name: &str,
        layers: usize,
        read: impl Fn(&Array) -> Option<Vec<T>>,
        one: impl Fn(&Metadata, &str) -> Option<T>,
    ) -> Option<Vec<T>> {
        let values = self.take(name, |m, key| match m.array(key) {
            Some(array) => read(array),
            None => one(m, key).map(|value| vec![value; layers]),
        })?;
        if values.len() == layers {
            return Some(values);
        }
        self.problem(name, &format!("it has {} values for {layers} layers", values.len()));
        None
    }

    /// Whether a key is there.
    pub fn has(&self, name: &str) -> bool {
        self.metadata.contains(&format!("{}{name}", self.prefix))
    }

    /// Whether a key has an array.
    pub fn is_array(&self, name: &str) -> bool {
        self.metadata.array(&format!("{}{name}", self.prefix)).is_some()
    }

    /// Notes a key that is missing.
    pub fn require(&mut self, name: &str) {
        if !self.metadata.contains(&format!("{}{name}", self.prefix)) {
            self.problem(name, "it is missing");
        }
    }

    /// Notes that something is wrong with a key.
    pub fn problem(&mut self, name: &str, what: &str) {
        let what = format!("`{}{name}`: {what}", self.prefix);
        self.problems.push(Error::new(Kind::Config, what).at(self.place.clone()));
    }
}
