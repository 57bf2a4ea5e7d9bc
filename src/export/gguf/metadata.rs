//! What a GGUF file says of its model beside the architecture's own keys.

use crate::weights::gguf::{Array, Metadata, Value, Vocabulary};

/// Where a model comes from.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct General {
    /// The model's name, for people.
    pub name: String,
    /// The base model, where the file holds another: a Hub id, or a name for people.
    pub base: Option<Origin>,
    /// The general metadata of the GGUF file that the weights came from.
    pub inherited: Vec<(String, Value)>,
}

/// A model by its name.
#[derive(Debug, Clone, PartialEq)]
pub enum Origin {
    /// On the Hub: `google/gemma-3-1b-it`.
    Hub(String),
    /// Somewhere else.
    Named(String),
}

/// Of the general keys of another file, those that say nothing of what is written now.
const ITS_OWN: [&str; 5] = [
    "general.architecture",
    "general.alignment",
    "general.file_type",
    "general.quantization_version",
    "general.quantized_by",
];

impl General {
    /// The general keys of a GGUF file that are true of what is made from it.
    pub fn inherit(metadata: &Metadata) -> Vec<(String, Value)> {
        let keys = metadata.keys().filter(|key| key.starts_with("general.") && !ITS_OWN.contains(key));
        keys.filter_map(|key| Some((key.to_owned(), metadata.get(key)?.clone()))).collect()
    }

    /// The keys.
    pub fn keys(&self) -> Vec<(String, Value)> {
        let text = |key: &str, value: &str| (format!("general.{key}"), Value::String(value.to_owned()));
        let mut own = vec![text("type", "model"), text("name", &self.name), text("license", "gemma")];
        if let Some(base) = &self.base {
            own.push(("general.base_model.count".to_owned(), Value::Unsigned(1)));
            match base {
                Origin::Hub(id) => {
                    let (owner, name) = id.split_once('/').unwrap_or(("", id));
                    own.push(text("base_model.0.name", name));
                    own.push(text("base_model.0.organization", owner));
                    own.push(text("base_model.0.repo_url", &format!("https://huggingface.co/{id}")));
                }
                Origin::Named(name) => own.push(text("base_model.0.name", name)),
            }
        }
        let replaced = |key: &str| {
            own.iter().any(|(known, _)| known == key) || self.base.is_some() && key.starts_with("general.base_model.")
        };
        let kept: Vec<_> = self.inherited.iter().filter(|(key, _)| !replaced(key)).cloned().collect();
        own.into_iter().chain(kept).collect()
    }
}

/// The tokenizer's keys; `end_of_turn` is the id of the token that ends a turn.
pub fn tokenizer(
    vocabulary: &Vocabulary,
    end_of_turn: Option<u32>,
    chat_template: Option<&str>,
) -> Vec<(String, Value)> {
    let key = |name: &str| format!("tokenizer.ggml.{name}");
    let mut keys = vec![
        (key("model"), Value::String("llama".into())),
        (key("pre"), Value::String("default".into())),
        (key("tokens"), Value::Array(Array::String(vocabulary.tokens.clone()))),
        (key("scores"), Value::Array(Array::F32(vocabulary.scores.clone()))),
        (key("token_type"), Value::Array(Array::I32(vocabulary.types.clone()))),
    ];
    let ids = [
        ("bos_token_id", vocabulary.bos),
        ("eos_token_id", vocabulary.eos),
        ("unknown_token_id", vocabulary.unknown),
        ("padding_token_id", vocabulary.padding),
        ("eot_token_id", end_of_turn),
    ];
    keys.extend(ids.into_iter().filter_map(|(name, id)| Some((key(name), Value::Unsigned(id?.into())))));
    keys.push((key("add_bos_token"), Value::Bool(true)));
    keys.push((key("add_eos_token"), Value::Bool(false)));
    keys.push((key("add_space_prefix"), Value::Bool(false)));
    keys.extend(chat_template.map(|text| ("tokenizer.chat_template".to_owned(), Value::String(text.to_owned()))));
    keys
}

/// What a file says that has no tokenizer.
pub fn no_tokenizer() -> Vec<(String, Value)> {
    vec![("tokenizer.ggml.model".to_owned(), Value::String("none".into()))]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(keys: Vec<(String, Value)>) -> Vec<String> {
        keys.into_iter().map(|(key, value)| format!("{} = {value}", key.trim_start_matches("general."))).collect()
    }

    #[test]
    fn a_base_on_the_hub_is_linked() {
        let base = Some(Origin::Hub("google/gemma-3-1b-it".into()));
        let general = General { name: "support".into(), base, inherited: Vec::new() };
        assert_eq!(
            shown(general.keys()),
            [
                "type = \"model\"",
                "name = \"support\"",
                "license = \"gemma\"",
                "base_model.count = 1",
                "base_model.0.name = \"gemma-3-1b-it\"",
                "base_model.0.organization = \"google\"",
                "base_model.0.repo_url = \"https://huggingface.co/google/gemma-3-1b-it\"",
            ]
        );
    }

    #[test]
    fn what_another_file_says_of_the_model_stays() {
        let text = |key: &str, value: &str| (key.to_owned(), Value::String(value.into()));
        let metadata: Metadata = [
            text("general.name", "Gemma"),
            text("general.architecture", "gemma3"),
            text("general.size_label", "270M"),
            text("general.base_model.0.name", "older"),
            text("gemma3.x", ""),
            ("general.file_type".to_owned(), Value::Unsigned(15)),
        ]
        .into_iter()
        .collect();
        let inherited = General::inherit(&metadata);
        let general = General { name: "support".into(), base: None, inherited: inherited.clone() };
        let rest = ["base_model.0.name = \"older\"", "size_label = \"270M\""];
        assert_eq!(shown(general.keys())[3..], rest);
        let tuned = General { base: Some(Origin::Named("g.gguf".into())), ..general };
        assert_eq!(
            shown(tuned.keys())[3..],
            ["base_model.count = 1", "base_model.0.name = \"g.gguf\"", "size_label = \"270M\""]
        );
    }
}
