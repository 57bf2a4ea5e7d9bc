//! `adapter_config.json` as PEFT writes it: read strictly, written with every key of PEFT 0.21.2.

use super::refusals::{ignored_keys, unsupported_keys};
use crate::adapter::target::{ALL_LINEAR, ExcludeModules, TargetModules, tail_match};
use crate::error::{Error, Kind, Place, Result};
use regex::Regex;
use serde_json::{Map, Value, json};
use std::path::Path;

/// The name of the file in an adapter folder.
pub const CONFIG_FILE: &str = "adapter_config.json";

/// The PEFT release whose set of keys is written.
const PEFT_VERSION: &str = "0.21.2";

/// A LoRA adapter's settings, in PEFT's words.
#[derive(Debug, Clone, PartialEq)]
pub struct AdapterConfig {
    /// Rank of modules without a `rank_pattern`.
    pub r: usize,
    /// Numerator of the scale, for modules without an `alpha_pattern`.
    pub lora_alpha: f64,
    /// Share of inputs dropped on the side path while training, in `[0, 1)`.
    pub lora_dropout: f64,
    /// Which modules have an adapter.
    pub target_modules: TargetModules,
    /// Which of those have none after all.
    pub exclude_modules: ExcludeModules,
    /// Scale by `lora_alpha / sqrt(r)` in place of `lora_alpha / r`.
    pub use_rslora: bool,
    /// A trained magnitude per output (DoRA).
    pub use_dora: bool,
    /// How A and B began where that was not PEFT's default (`gaussian`); says nothing about the result.
    pub init_lora_weights: Option<String>,
    /// The base model: a hub id or a folder.
    pub base_model_name_or_path: Option<String>,
    /// The revision of that hub id.
    pub revision: Option<String>,
    /// Ranks that differ from `r`: an expression over the end of a module path, and the rank; the first match counts.
    pub rank_pattern: Vec<(String, usize)>,
    /// Alphas that differ from `lora_alpha`, by the same rule.
    pub alpha_pattern: Vec<(String, f64)>,
}

impl AdapterConfig {
    /// A plain LoRA of rank `r` on `target_modules`, without a base named.
    pub fn new(r: usize, lora_alpha: f64, target_modules: TargetModules) -> Self {
        AdapterConfig {
            r,
            lora_alpha,
            lora_dropout: 0.0,
            target_modules,
            exclude_modules: ExcludeModules::default(),
            use_rslora: false,
            use_dora: false,
            init_lora_weights: None,
            base_model_name_or_path: None,
            revision: None,
            rank_pattern: Vec::new(),
            alpha_pattern: Vec::new(),
        }
    }

    /// Reads `adapter_config.json` of an adapter folder; also returns the keys that were ignored.
    ///
    /// # Errors
    /// A missing folder or file, and as [`AdapterConfig::parse`].
    pub fn read(dir: &Path) -> Result<(Self, Vec<String>)> {
        let path = dir.join(CONFIG_FILE);
        let bytes = std::fs::read(&path).map_err(|error| {
            if error.kind() != std::io::ErrorKind::NotFound {
                return Error::io("reading", &path, error);
            }
            let what =
                if dir.is_dir() { format!("no `{CONFIG_FILE}` in this folder") } else { "no such folder".into() };
            Error::new(Kind::Adapter, what)
                .at_path(dir)
                .hint(format!("an adapter is a folder with `{CONFIG_FILE}` and `adapter_model.safetensors`"))
        })?;
        let text = std::str::from_utf8(&bytes).map_err(|error| {
            let offset = error.valid_up_to() as u64;
            Error::new(Kind::Adapter, "the file is not UTF-8 text").at(Place::Byte { path: path.clone(), offset })
        })?;
        Self::parse(text, &path)
    }

    /// Reads the text of an `adapter_config.json`; `path` is shown in errors. Also returns the ignored keys.
    ///
    /// # Errors
    /// All problems at once: text that is not JSON, a PEFT method other than LoRA, a missing or mistyped key, an
    /// expression that is not valid here, and every setting that would change numbers in a way not supported.
    pub fn parse(text: &str, path: &Path) -> Result<(Self, Vec<String>)> {
        let value: Value = serde_json::from_str(text).map_err(|error| {
            let place = Place::Text { path: path.into(), line: error.line(), column: error.column() };
            Error::new(Kind::Adapter, format!("not valid JSON: {error}")).at(place)
        })?;
        let Value::Object(keys) = value else {
            return Err(Error::new(Kind::Adapter, "the file holds no JSON object").at_path(path));
        };
        match keys.get("peft_type").and_then(Value::as_str) {
            Some("LORA") => {}
            Some(other) => {
                let what = format!("`peft_type` is `{other}`; only `LORA` adapters can be used");
                return Err(Error::new(Kind::Adapter, what).at_path(path));
            }
            None => {
                return Err(Error::new(Kind::Adapter, "`peft_type` is missing")
                    .at_path(path)
                    .hint("this is not a PEFT adapter's `adapter_config.json`"));
            }
        }
        let mut reader = Reader { keys: &keys, problems: Vec::new() };
        let config = reader.config();
        let mut problems = reader.problems;
        problems.extend(unsupported_keys(&keys));
        match Error::many(problems.into_iter().map(|error| error.or_at(Place::Path(path.into()))).collect()) {
            Some(error) => Err(error),
            None => Ok((config, ignored_keys(&keys))),
        }
    }

    /// The text of `adapter_config.json`, with every key that PEFT writes, sorted as PEFT sorts them.
    pub fn to_json(&self) -> String {
        let target_modules = match &self.target_modules {
            TargetModules::Names(names) => json!(names),
            TargetModules::AllLinear => json!(ALL_LINEAR),
            TargetModules::Regex(pattern) => json!(pattern),
        };
        let exclude_modules = match &self.exclude_modules {
            ExcludeModules::Names(names) if names.is_empty() => Value::Null,
            ExcludeModules::Names(names) => json!(names),
            ExcludeModules::Regex(pattern) => json!(pattern),
        };
        let init_lora_weights = match self.init_lora_weights.as_deref() {
            None | Some("true") => json!(true),
            Some("false") => json!(false),
            Some(name) => json!(name),
        };
        let ranks: Map<String, Value> = self.rank_pattern.iter().map(|(key, r)| (key.clone(), json!(r))).collect();
        let alphas: Map<String, Value> =
            self.alpha_pattern.iter().map(|(key, alpha)| (key.clone(), number(*alpha))).collect();
        let keys = json!({
            "alora_invocation_tokens": null,
            "alpha_pattern": alphas,
            "arrow_config": null,
            "auto_mapping": null,
            "base_model_name_or_path": self.base_model_name_or_path,
            "bias": "none",
            "corda_config": null,
            "ensure_weight_tying": false,
            "eva_config": null,
            "exclude_modules": exclude_modules,
            "fan_in_fan_out": false,
            "inference_mode": true,
            "init_lora_weights": init_lora_weights,
            "kasa_config": null,
            "layer_replication": null,
            "layers_pattern": null,
            "layers_to_transform": null,
            "loftq_config": {},
            "lora_alpha": number(self.lora_alpha),
            "lora_bias": false,
            "lora_dropout": self.lora_dropout,
            "lora_ga_config": null,
            "megatron_config": null,
            "megatron_core": "megatron.core",
            "modules_to_save": null,
            "monteclora_config": null,
            "peft_type": "LORA",
            "peft_version": PEFT_VERSION,
            "qalora_group_size": 16,
            "r": self.r,
            "rank_pattern": ranks,
            "revision": self.revision,
            "target_modules": target_modules,
            "target_parameters": null,
            "task_type": "CAUSAL_LM",
            "trainable_token_indices": null,
            "use_bdlora": null,
            "use_dora": self.use_dora,
            "use_qalora": false,
            "use_rslora": self.use_rslora,
            "velora_config": null,
        });
        format!("{keys:#}\n")
    }

    /// Prepares the rank and scale of single modules.
    ///
    /// # Errors
    /// A key of `rank_pattern` or `alpha_pattern` that is not a valid expression.
    pub fn patterns(&self) -> Result<Patterns> {
        let ranks = self.rank_pattern.iter().map(|(key, r)| Ok((tail_match("rank_pattern", key)?, *r)));
        let alphas = self.alpha_pattern.iter().map(|(key, alpha)| Ok((tail_match("alpha_pattern", key)?, *alpha)));
        Ok(Patterns {
            r: self.r,
            lora_alpha: self.lora_alpha,
            use_rslora: self.use_rslora,
            ranks: ranks.collect::<Result<_>>()?,
            alphas: alphas.collect::<Result<_>>()?,
        })
    }
}

/// Ranks and scales of single modules, by PEFT's pattern rules.
#[derive(Debug, Clone)]
pub struct Patterns {
    r: usize,
    lora_alpha: f64,
    use_rslora: bool,
    ranks: Vec<(Regex, usize)>,
    alphas: Vec<(Regex, f64)>,
}

impl Patterns {
    /// The rank of the module at `path`.
    pub fn rank(&self, path: &str) -> usize {
        self.ranks.iter().find(|(regex, _)| regex.is_match(path)).map_or(self.r, |(_, r)| *r)
    }

    /// The factor `s` in `y = x W^T + s (x A^T) B^T` of the module at `path`: `alpha / r`, or `alpha / sqrt(r)`.
    pub fn scaling(&self, path: &str) -> f64 {
        let alpha = self.alphas.iter().find(|(regex, _)| regex.is_match(path)).map_or(self.lora_alpha, |(_, a)| *a);
        let r = self.rank(path) as f64;
        if self.use_rslora { alpha / r.sqrt() } else { alpha / r }
    }
}

/// A whole number as an integer (PEFT's `lora_alpha` is one), any other as it is.
fn number(value: f64) -> Value {
    const EXACT: f64 = 9_007_199_254_740_992.0; // 2^53: integers below it are exact in f64
    if value.fract() == 0.0 && value.abs() < EXACT { json!(value as i64) } else { json!(value) }
}

/// Takes the supported keys out of the object, collecting every problem.
struct Reader<'a> {
    keys: &'a Map<String, Value>,
    problems: Vec<Error>,
}

impl Reader<'_> {
    fn config(&mut self) -> AdapterConfig {
        let r = self.rank("r");
        let lora_alpha = match self.keys.get("lora_alpha").and_then(Value::as_f64) {
            Some(alpha) => alpha,
            None => self.wrong("lora_alpha", "a number", 1.0),
        };
        let lora_dropout = match self.keys.get("lora_dropout").unwrap_or(&Value::Null) {
            Value::Null => 0.0,
            value => match value.as_f64().filter(|p| (0.0..1.0).contains(p)) {
                Some(p) => p,
                None => self.wrong("lora_dropout", "a number from 0 up to, not including, 1", 0.0),
            },
        };
        let target_modules = match self.keys.get("target_modules") {
            // An expression that only Python understands is no reason to refuse: the tensors tell the same.
            Some(Value::String(text)) => TargetModules::from_text(text),
            Some(value) => match strings(value) {
                Some(names) => TargetModules::Names(names),
                None => self.wrong("target_modules", "a list of names or a string", TargetModules::AllLinear),
            },
            None => self.wrong("target_modules", "a list of names or a string", TargetModules::AllLinear),
        };
        let exclude_modules = match self.keys.get("exclude_modules").unwrap_or(&Value::Null) {
            Value::Null => ExcludeModules::default(),
            Value::String(pattern) => ExcludeModules::Regex(pattern.clone()),
            value => match strings(value) {
                Some(names) => ExcludeModules::Names(names),
                None => self.wrong("exclude_modules", "a list of names or a string", ExcludeModules::default()),
            },
        };
        let init_lora_weights = match self.keys.get("init_lora_weights") {
            Some(Value::String(name)) => Some(name.clone()),
            Some(Value::Bool(false)) => Some("false".into()),
            _ => None,
        };
        AdapterConfig {
            r,
            lora_alpha,
            lora_dropout,
            target_modules,
            exclude_modules,
            use_rslora: self.flag("use_rslora"),
            use_dora: self.flag("use_dora"),
            init_lora_weights,
            base_model_name_or_path: self.text("base_model_name_or_path"),
            revision: self.text("revision"),
            rank_pattern: self.pattern("rank_pattern", "a rank of at least 1", as_rank),
            alpha_pattern: self.pattern("alpha_pattern", "a number", Value::as_f64),
        }
    }

    fn wrong<T>(&mut self, key: &str, expected: &str, stand_in: T) -> T {
        let what = match self.keys.get(key) {
            None | Some(Value::Null) => format!("`{key}` is missing; expected {expected}"),
            Some(value) => format!("`{key}` must be {expected}, found {}", short(value)),
        };
        self.problems.push(Error::new(Kind::Adapter, what));
        stand_in
    }

    fn rank(&mut self, key: &str) -> usize {
        match self.keys.get(key).and_then(as_rank) {
            Some(r) => r,
            None => self.wrong(key, "a whole number of at least 1", 1),
        }
    }

    fn flag(&mut self, key: &str) -> bool {
        match self.keys.get(key).unwrap_or(&Value::Null) {
            Value::Null => false,
            Value::Bool(flag) => *flag,
            _ => self.wrong(key, "true or false", false),
        }
    }

    fn text(&mut self, key: &str) -> Option<String> {
        match self.keys.get(key).unwrap_or(&Value::Null) {
            Value::Null => None,
            Value::String(text) => Some(text.clone()),
            _ => self.wrong(key, "a string", None),
        }
    }

    fn pattern<T>(&mut self, key: &str, expected: &str, take: fn(&Value) -> Option<T>) -> Vec<(String, T)> {
        let keys = self.keys;
        let object = match keys.get(key).unwrap_or(&Value::Null) {
            Value::Null => return Vec::new(),
            Value::Object(object) => object,
            _ => return self.wrong(key, "an object", Vec::new()),
        };
        let mut taken = Vec::with_capacity(object.len());
        for (pattern, value) in object {
            self.problems.extend(tail_match(key, pattern).err());
            match take(value) {
                Some(value) => taken.push((pattern.clone(), value)),
                None => {
                    let what = format!("`{key}` entry `{pattern}` must be {expected}, found {}", short(value));
                    self.problems.push(Error::new(Kind::Adapter, what));
                }
            }
        }
        taken
    }
}

fn as_rank(value: &Value) -> Option<usize> {
    value.as_u64().and_then(|r| usize::try_from(r).ok()).filter(|r| *r >= 1)
}

fn strings(value: &Value) -> Option<Vec<String>> {
    value.as_array()?.iter().map(|item| item.as_str().map(str::to_owned)).collect()
}

/// A value as JSON, cut to what fits in a message.
pub(super) fn short(value: &Value) -> String {
    const LONGEST: usize = 60; // characters
    let text = value.to_string();
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("`{}…`", &text[..end]),
        None => format!("`{text}`"),
    }
}

#[cfg(test)]
mod tests;
