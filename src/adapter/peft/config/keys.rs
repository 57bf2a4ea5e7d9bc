//! The supported keys of `adapter_config.json`, each checked for its type; every problem is collected.

use super::AdapterConfig;
use crate::adapter::TargetLayers;
use crate::adapter::target::{ExcludeModules, TargetModules, tail_match};
use crate::error::{Error, Kind};
use crate::model::SCORE_MODULE;
use crate::weights::names::PROJECTOR;
use serde_json::{Map, Value};

/// Takes the supported keys out of the object; the problems come beside a stand-in for what is wrong.
pub(super) fn from_keys(keys: &Map<String, Value>) -> (AdapterConfig, Vec<Error>) {
    let mut reader = Reader { keys, problems: Vec::new() };
    let config = reader.config();
    (config, reader.problems)
}

/// The object, and what was wrong with it so far.
struct Reader<'a> {
    keys: &'a Map<String, Value>,
    problems: Vec<Error>,
}

impl Reader<'_> {
    fn config(&mut self) -> AdapterConfig {
        let r = self.rank("r");
        let lora_alpha = match self.keys.get("lora_alpha").map(|alpha| (as_alpha(alpha), alpha.is_number())) {
            Some((Some(alpha), _)) => alpha,
            Some((None, true)) => self.wrong("lora_alpha", AN_ALPHA, 1.0),
            _ => self.wrong("lora_alpha", "a number", 1.0),
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
        let layers = self.layers(&target_modules);
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
            layers,
            use_rslora: self.flag("use_rslora"),
            use_dora: self.flag("use_dora"),
            init_lora_weights,
            base_model_name_or_path: self.text("base_model_name_or_path"),
            revision: self.text("revision"),
            modules_to_save: self.modules_to_save(),
            rank_pattern: self.pattern("rank_pattern", "a rank of at least 1", as_rank),
            alpha_pattern: self.pattern("alpha_pattern", AN_ALPHA, as_alpha),
        }
    }

    /// The modules that are trained whole; one of another name is a problem.
    fn modules_to_save(&mut self) -> Vec<String> {
        let mut names = match self.keys.get("modules_to_save").unwrap_or(&Value::Null) {
            Value::Null => return Vec::new(),
            value => match strings(value) {
                Some(names) => names,
                None => return self.wrong("modules_to_save", "a list of names", Vec::new()),
            },
        };
        // PEFT names both words for a classifier's head, whichever the model has.
        if names.iter().any(|name| is_module(name, SCORE_MODULE)) {
            names.retain(|name| name != "classifier");
        }
        for name in names.iter().filter(|name| !is_whole_module(name)) {
            let what = format!(
                "`modules_to_save` entry `{name}` cannot be used: a module trained whole, of which only `{PROJECTOR}` and \
                 `{SCORE_MODULE}` are supported"
            );
            self.problems.push(Error::new(Kind::Adapter, what));
        }
        names
    }

    /// PEFT takes one number or a list of them, and one expression or a list of them.
    fn layers(&mut self, targets: &TargetModules) -> TargetLayers {
        let number = |value: &Value| value.as_u64().and_then(|number| usize::try_from(number).ok());
        let numbers = match self.keys.get("layers_to_transform").unwrap_or(&Value::Null) {
            Value::Null => Some(Vec::new()),
            Value::Array(items) => items.iter().map(number).collect(),
            one => number(one).map(|number| vec![number]),
        };
        let layers_to_transform = numbers
            .unwrap_or_else(|| self.wrong("layers_to_transform", "a layer's number or a list of them", Vec::new()));
        let patterns = match self.keys.get("layers_pattern").unwrap_or(&Value::Null) {
            Value::Null => Some(Vec::new()),
            Value::String(one) if one.is_empty() => Some(Vec::new()),
            Value::String(one) => Some(vec![one.clone()]),
            value => strings(value),
        };
        let layers_pattern =
            patterns.unwrap_or_else(|| self.wrong("layers_pattern", "a name or a list of them", Vec::new()));
        if !layers_to_transform.is_empty() && !matches!(targets, TargetModules::Names(_)) {
            let what = "`layers_to_transform` stands beside a `target_modules` that is a text, which PEFT refuses";
            self.problems.push(Error::new(Kind::Adapter, what).hint("write `target_modules` as a list of names"));
        }
        TargetLayers { layers_to_transform, layers_pattern }
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

const AN_ALPHA: &str = "a number that f32 can hold";

/// A number that is computed with in f32: neither infinite there nor, unless it is 0, lost.
fn as_alpha(value: &Value) -> Option<f64> {
    value.as_f64().filter(|&alpha| (alpha as f32).is_finite() && (alpha == 0.0 || alpha as f32 != 0.0))
}

/// Whether this names the module that can be trained whole, by the end of its path.
fn is_whole_module(name: &str) -> bool {
    is_module(name, PROJECTOR) || is_module(name, SCORE_MODULE)
}

/// Whether this names that module by the end of its path.
pub(super) fn is_module(name: &str, module: &str) -> bool {
    name.strip_suffix(module).is_some_and(|before| before.is_empty() || before.ends_with('.'))
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
