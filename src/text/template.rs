//! The chat template of a model: where it is found, and that ours agrees with it.

use super::conversation::{Conversation, Role};
use super::jinja::Jinja;
use super::render::{self, Rendered};
use super::tokenizer::{read_config, token_name};
use super::tools;
use crate::atomic;
use crate::error::{Error, Kind, Place, Result};
use crate::weights::gguf::Vocabulary;
use serde_json::Value;
use std::path::Path;
use std::sync::Arc;

/// Gemma 3's template, for models that carry none (the pre-trained ones, and their GGUF files).
const GEMMA3: &str = include_str!("gemma3.jinja");

/// How conversations become text. Cloning shares it.
///
/// Text and spans come from our own renderer of Gemma 3's format; the model's template is the witness that the format
/// is the one that the model knows ([`ChatTemplate::verify`]).
#[derive(Debug, Clone)]
pub struct ChatTemplate(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    source: String,
    bos: String,
    /// The model's own template; `None` if it has none.
    own: Option<Own>,
}

#[derive(Debug)]
struct Own {
    jinja: Jinja,
    place: Option<Place>,
}

impl ChatTemplate {
    /// Gemma 3's format, for a model without a template of its own.
    pub fn gemma3() -> Self {
        ChatTemplate(Arc::new(Inner { source: GEMMA3.into(), bos: "<bos>".into(), own: None }))
    }

    /// The template of a model folder: `chat_template.jinja`, `tokenizer_config.json` or `chat_template.json`, in this
    /// order; Gemma 3's where the folder has none.
    ///
    /// # Errors
    /// Files that are no JSON, and templates that do not compile.
    pub fn from_model_folder(folder: &Path) -> Result<Self> {
        let config_path = folder.join("tokenizer_config.json");
        let config = read_config(&config_path)?.unwrap_or(Value::Null);
        let token = |key: &str, usual: &str| token_name(&config[key]).unwrap_or(usual).to_owned();
        let jinja_path = folder.join("chat_template.jinja");
        let json_path = folder.join("chat_template.json");
        let found = match crate::input::read_to_string(&jinja_path) {
            Ok(source) => Some((source, jinja_path)),
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::io("reading the chat template", &jinja_path, e));
            }
            Err(_) => match named(&config).map_err(|e| e.at_path(&config_path))? {
                Some(source) => Some((source, config_path)),
                None => {
                    let config = read_config(&json_path)?.unwrap_or(Value::Null);
                    named(&config).map_err(|e| e.at_path(&json_path))?.map(|source| (source, json_path))
                }
            },
        };
        match found {
            Some((source, path)) if !source.trim().is_empty() => {
                let place = Place::Path(path);
                let template = ChatTemplate::new(
                    source,
                    &token("bos_token", "<bos>"),
                    &token("eos_token", "<eos>"),
                    Some(place.clone()),
                );
                template.map_err(|e| e.or_at(place))
            }
            _ => Ok(ChatTemplate::gemma3()),
        }
    }

    /// The template in a GGUF's metadata; Gemma 3's where it has none.
    ///
    /// # Errors
    /// A template that does not compile.
    pub fn from_gguf(vocabulary: &Vocabulary) -> Result<Self> {
        let token = |id: Option<u32>, usual| id.and_then(|id| vocabulary.token(id)).unwrap_or(usual);
        match &vocabulary.chat_template {
            Some(source) if !source.trim().is_empty() => {
                ChatTemplate::from_source(source, token(vocabulary.bos, "<bos>"), token(vocabulary.eos, "<eos>"))
            }
            _ => Ok(ChatTemplate::gemma3()),
        }
    }

    /// The Jinja template `source`, which may write the tokens `bos` and `eos`.
    ///
    /// # Errors
    /// A template that does not compile.
    pub fn from_source(source: &str, bos: &str, eos: &str) -> Result<Self> {
        ChatTemplate::new(source.to_owned(), bos, eos, None)
    }

    fn new(source: String, bos: &str, eos: &str, place: Option<Place>) -> Result<Self> {
        let jinja = Jinja::new(&source, bos, eos)?;
        Ok(ChatTemplate(Arc::new(Inner { source, bos: bos.into(), own: Some(Own { jinja, place }) })))
    }

    /// The template's source.
    pub fn source(&self) -> &str {
        &self.0.source
    }

    /// The text that begins each conversation.
    pub fn bos(&self) -> &str {
        &self.0.bos
    }

    /// Whether the model has no template of its own, as pre-trained models do, so that Gemma 3's stands in.
    pub fn is_built_in(&self) -> bool {
        self.0.own.is_none()
    }

    /// Renders a conversation, tools included, with the bytes of each of the model's turns.
    ///
    /// `add_generation_prompt` ends the text where the model begins to speak.
    ///
    /// # Errors
    /// Turns that do not alternate between user and assistant, a system message that is not the first, no turns, or
    /// tools that make no sense ([`tools::lower`]).
    pub fn render(&self, conversation: &Conversation, add_generation_prompt: bool) -> Result<Rendered> {
        render::render(&*tools::lower(conversation)?, &self.0.bos, add_generation_prompt)
    }

    /// Proves that the model's own template renders the conversation to the same text as [`ChatTemplate::render`].
    ///
    /// Tools are lowered to plain turns before both, since Gemma's template ignores them.
    ///
    /// # Errors
    /// What [`ChatTemplate::render`] refuses, what the template refuses, and the first difference between the two.
    pub fn verify(&self, conversation: &Conversation) -> Result<()> {
        let conversation = tools::lower(conversation)?;
        let prompt = conversation.messages.last().is_some_and(|message| message.role == Role::User);
        let ours = render::render(&conversation, &self.0.bos, prompt)?.text;
        let Some(Own { jinja, place }) = &self.0.own else { return Ok(()) };
        let compared = jinja.render(&conversation, prompt).and_then(|theirs| same(&ours, &theirs));
        compared.map_err(|e| match place {
            Some(place) => e.or_at(place.clone()),
            None => e,
        })
    }

    /// Writes `chat_template.jinja` into `folder`, where Hugging Face looks first.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn save(&self, folder: &Path) -> Result<()> {
        atomic::write(&folder.join("chat_template.jinja"), self.0.source.as_bytes())
    }
}

/// The `chat_template` of a configuration: a string, or a list of named ones of which `default` counts.
fn named(config: &Value) -> Result<Option<String>> {
    match &config["chat_template"] {
        Value::Null => Ok(None),
        Value::String(source) => Ok(Some(source.clone())),
        Value::Array(several) => {
            let default = several.iter().find(|t| t["name"] == "default").and_then(|t| t["template"].as_str());
            match default {
                Some(source) => Ok(Some(source.to_owned())),
                None => Err(Error::new(Kind::Tokenizer, "`chat_template` is a list without one named `default`")),
            }
        }
        _ => Err(Error::new(Kind::Tokenizer, "`chat_template` is neither a text nor a list")),
    }
}

/// Compares two renderings and shows the first difference.
fn same(ours: &str, theirs: &str) -> Result<()> {
    if ours == theirs {
        return Ok(());
    }
    const BEFORE: usize = 24; // characters
    const AFTER: usize = 40;
    let equal = ours.chars().zip(theirs.chars()).take_while(|(a, b)| a == b).count();
    let near =
        |text: &str| -> String { text.chars().skip(equal.saturating_sub(BEFORE)).take(BEFORE + AFTER).collect() };
    Err(Error::new(
        Kind::Tokenizer,
        format!("the model's chat template is not Gemma 3's: the texts differ from character {}", equal + 1),
    )
    .excerpt(format!("Gemma 3:  {:?}\ntemplate: {:?}", near(ours), near(theirs)))
    .hint("training in a format that the model does not know harms it: check that this is a Gemma 3 model"))
}

#[cfg(test)]
mod tests;
