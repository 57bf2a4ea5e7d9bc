//! `adapter_config.json` as PEFT writes it: read strictly, written with every key of PEFT 0.21.2.

mod keys;
mod refusals;

use self::keys::from_keys;
use self::refusals::{ignored_keys, unsupported_keys};
use crate::adapter::TargetLayers;
use crate::adapter::target::{self, ExcludeModules, TargetModules, tail_match};
use crate::error::{Error, Kind, Place, Result};
use crate::model::SCORE_MODULE;
use regex::Regex;
use serde::Serialize;
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
    /// In which layers they have.
    pub layers: TargetLayers,
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
    /// Modules that are trained whole: in Gemma 3 `multi_modal_projector`, of a reward model `score`.
    pub modules_to_save: Vec<String>,
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
            layers: TargetLayers::default(),
            use_rslora: false,
            use_dora: false,
            init_lora_weights: None,
            base_model_name_or_path: None,
            revision: None,
            modules_to_save: Vec::new(),
            rank_pattern: Vec::new(),
            alpha_pattern: Vec::new(),
        }
    }

    /// Whether it is a reward model, with a head that judges texts in the place of the one that writes them.
    pub fn judges(&self) -> bool {
        self.modules_to_save.iter().any(|name| keys::is_module(name, SCORE_MODULE))
    }

    /// Reads `adapter_config.json` of an adapter folder; also returns the keys that were ignored.
    ///
    /// # Errors
    /// A missing folder or file, and as [`AdapterConfig::parse`].
    pub fn read(dir: &Path) -> Result<(Self, Vec<String>)> {
        let path = dir.join(CONFIG_FILE);
        let bytes = crate::input::read(&path).map_err(|error| {
            if error.kind() != std::io::ErrorKind::NotFound {
                return Error::input(Kind::Adapter, "reading", &path, error);
            }
            let what =
                if dir.is_dir() { format!("no `{CONFIG_FILE}` in this folder") } else { "no such folder".into() };
            let is = format!("an adapter is a folder with `{CONFIG_FILE}` and `adapter_model.safetensors`");
            Error::new(Kind::Adapter, what).at_path(dir).hint(match dir.join("config.json").is_file() {
                true => format!("this is a model's folder, which is named as the base or by itself; {is}"),
                false => is,
            })
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
        let (config, mut problems) = from_keys(&keys);
        problems.extend(unsupported_keys(&keys));
        match Error::many(problems.into_iter().map(|error| error.or_at(Place::Path(path.into()))).collect()) {
            Some(error) => Err(error),
            None => Ok((config, ignored_keys(&keys))),
        }
    }

    /// The text of `adapter_config.json`, with every key that PEFT writes, sorted as PEFT sorts them.
    pub fn to_json(&self) -> String {
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
        fn some<T: Serialize>(list: &[T]) -> Value {
            if list.is_empty() { Value::Null } else { json!(list) }
        }
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
            "layers_pattern": some(&self.layers.layers_pattern),
            "layers_to_transform": some(&self.layers.layers_to_transform),
            "loftq_config": {},
            "lora_alpha": number(self.lora_alpha),
            "lora_bias": false,
            "lora_dropout": self.lora_dropout,
            "lora_ga_config": null,
            "megatron_config": null,
            "megatron_core": "megatron.core",
            "modules_to_save": some(&self.modules_to_save),
            "monteclora_config": null,
            "peft_type": "LORA",
            "peft_version": PEFT_VERSION,
            "qalora_group_size": 16,
            "r": self.r,
            "rank_pattern": ranks,
            "revision": self.revision,
            "target_modules": self.target_modules,
            "target_parameters": null,
            "task_type": if self.judges() { "SEQ_CLS" } else { "CAUSAL_LM" },
            "trainable_token_indices": null,
            "use_bdlora": null,
            "use_dora": self.use_dora,
            "use_qalora": false,
            "use_rslora": self.use_rslora,
            "velora_config": null,
        });
        format!("{keys:#}\n")
    }

    /// A test of module paths: whether a module has an adapter.
    ///
    /// # Errors
    /// An expression that is not valid here.
    pub fn matcher(&self) -> Result<impl Fn(&str) -> bool + use<>> {
        let module = target::matcher(&self.target_modules, &self.exclude_modules)?;
        let layer = self.layers.matcher(&self.target_modules)?;
        Ok(move |path: &str| module(path) && layer(path))
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

#[cfg(test)]
mod tests;
