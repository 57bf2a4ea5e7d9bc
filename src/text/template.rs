//! The chat template of a model: where it is found, and that ours agrees with it.

use super::controls::ControlWords;
use super::conversation::{Conversation, Message, Role, ToolCall};
use super::jinja::Jinja;
use super::marks::Marks;
use super::native;
use super::render;
use super::rendered::Rendered;
use super::tokenizer::{read_config, token_name};
use super::tools::{self, REASONING};
use crate::atomic;
use crate::error::{Error, Kind, Place, Result};
use crate::weights::gguf::Vocabulary;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

/// Gemma 3's template, for models that carry none (the pre-trained ones, and their GGUF files).
const GEMMA3: &str = include_str!("gemma3.jinja");

/// How conversations become text. Cloning shares it.
///
/// Text and spans come from our own renderer of Gemma 3's format, and the model's template is the witness that the format
/// is the one that the model knows; a template that has a form for tools of its own, such as FunctionGemma's, or that
/// shows reasoning, renders such conversations itself.
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
    /// The one for conversations with tools, where there are two, and its source.
    tool_use: Option<(Jinja, String)>,
    place: Option<Place>,
    /// Whether `jinja` shows tools, once that was asked.
    shows_tools: OnceLock<bool>,
}

impl ChatTemplate {
    /// Gemma 3's format, for a model without a template of its own.
    pub fn gemma3() -> Self {
        ChatTemplate(Arc::new(Inner { source: GEMMA3.into(), bos: "<bos>".into(), own: None }))
    }

    /// The template of a model folder: `chat_template.jinja`, `tokenizer_config.json` or `chat_template.json`, in this
    /// order; Gemma 3's where the folder has none. One named `tool_use`, of a list or in `additional_chat_templates`, is
    /// for conversations with tools, as in Hugging Face.
    ///
    /// # Errors
    /// Files that are no JSON, and templates that do not compile.
    pub fn from_model_folder(folder: &Path) -> Result<Self> {
        let config_path = folder.join("tokenizer_config.json");
        let config = read_config(&config_path)?.unwrap_or(Value::Null);
        let token = |key: &str, usual: &str| token_name(&config[key]).unwrap_or(usual).to_owned();
        let (bos, eos) = (token("bos_token", "<bos>"), token("eos_token", "<eos>"));
        let additional = folder.join("additional_chat_templates");
        let sources = [
            (read_source(&folder.join("chat_template.jinja"))?, read_source(&additional.join("tool_use.jinja"))?),
            named(&config, &config_path)?,
            (None, None),
        ];
        let mut found = sources.into_iter().find(|(default, _)| default.is_some()).unwrap_or_default();
        if found.0.is_none() {
            let path = folder.join("chat_template.json");
            found = named(&read_config(&path)?.unwrap_or(Value::Null), &path)?;
        }
        let (Some((source, path)), tool_use) = found else { return Ok(ChatTemplate::gemma3()) };
        if source.trim().is_empty() {
            return Ok(ChatTemplate::gemma3());
        }
        let tool_use = tool_use.filter(|(source, _)| !source.trim().is_empty());
        let tool_use = tool_use.map(|(source, path)| match Jinja::new(&source, &bos, &eos) {
            Ok(jinja) => Ok((jinja, source)),
            Err(e) => Err(e.or_at(Place::Path(path))),
        });
        let place = Place::Path(path);
        ChatTemplate::new(source, &bos, &eos, Some(place.clone()), tool_use.transpose()?).map_err(|e| e.or_at(place))
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
        ChatTemplate::new(source.to_owned(), bos, eos, None, None)
    }

    fn new(
        source: String,
        bos: &str,
        eos: &str,
        place: Option<Place>,
        tool_use: Option<(Jinja, String)>,
    ) -> Result<Self> {
        let jinja = Jinja::new(&source, bos, eos)?;
        let own = Own { jinja, tool_use, place, shows_tools: OnceLock::new() };
        Ok(ChatTemplate(Arc::new(Inner { source, bos: bos.into(), own: Some(own) })))
    }

    /// The template's source.
    pub fn source(&self) -> &str {
        &self.0.source
    }

    /// The source of the template for conversations with tools, where the model has one.
    pub fn tool_use_source(&self) -> Option<&str> {
        let own = self.0.own.as_ref()?;
        own.tool_use.as_ref().map(|(_, source)| source.as_str())
    }

    /// The text that begins each conversation.
    pub fn bos(&self) -> &str {
        &self.0.bos
    }

    /// The control words that the template writes: `<start_of_turn>` and its like.
    pub(crate) fn control_words(&self) -> Vec<String> {
        let sources = [Some(self.source()), self.tool_use_source()];
        let mut words: Vec<String> = sources.into_iter().flatten().flat_map(control_words).collect();
        words.push(self.0.bos.clone());
        words.sort();
        words.dedup();
        words.retain(|word| !word.is_empty());
        words
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
        self.render_marked(conversation, &Marks::default(), add_generation_prompt)
    }

    fn render_marked(
        &self,
        conversation: &Conversation,
        marks: &Marks,
        add_generation_prompt: bool,
    ) -> Result<Rendered> {
        render::render(&*tools::lower(conversation)?, &self.0.bos, marks, add_generation_prompt)
    }

    /// Renders a conversation so that it is what the model's own template makes of it.
    ///
    /// Where the template shows tools or reasoning that the conversation has, it renders; else tools are lowered to plain
    /// turns, we render, and the template must agree.
    ///
    /// # Errors
    /// What [`ChatTemplate::render`] refuses, what the template refuses or leaves out, and the first difference between
    /// the two.
    pub(super) fn checked(
        &self,
        conversation: &Conversation,
        add_generation_prompt: bool,
        controls: &ControlWords,
        marks: &Marks,
    ) -> Result<Rendered> {
        let Some(own) = &self.0.own else {
            require_no_reasoning(conversation)?;
            return self.render_marked(conversation, marks, add_generation_prompt);
        };
        own.checked(conversation, &self.0.bos, add_generation_prompt, controls, marks).map_err(|e| own.locate(e))
    }

    /// Proves that the model's own template renders the conversation to the text that is trained on.
    ///
    /// # Errors
    /// What [`ChatTemplate::render`] refuses, what the template refuses, and the first difference between the two.
    pub fn verify(&self, conversation: &Conversation) -> Result<()> {
        let prompt = conversation.messages.last().is_some_and(|message| message.role == Role::User);
        self.checked(conversation, prompt, &ControlWords::default(), &Marks::default()).map(drop)
    }

    /// Writes `chat_template.jinja` into `folder`, where Hugging Face looks first, and beside it the one for tools.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn save(&self, folder: &Path) -> Result<()> {
        if let Some(source) = self.tool_use_source() {
            let additional = folder.join("additional_chat_templates");
            std::fs::create_dir_all(&additional).map_err(|e| Error::io("creating the folder", &additional, e))?;
            atomic::write(&additional.join("tool_use.jinja"), source.as_bytes())?;
        }
        atomic::write(&folder.join("chat_template.jinja"), self.0.source.as_bytes())
    }
}

impl Own {
    fn checked(
        &self,
        conversation: &Conversation,
        bos: &str,
        add_generation_prompt: bool,
        controls: &ControlWords,
        marks: &Marks,
    ) -> Result<Rendered> {
        let jinja = match &self.tool_use {
            Some((jinja, _)) if !conversation.tools.is_empty() => jinja,
            _ => &self.jinja,
        };
        let native = || native::render(jinja, controls, conversation, add_generation_prompt);
        let with_tools = tools::are_used(conversation);
        let shows_tools = || !std::ptr::eq(jinja, &self.jinja) || *self.shows_tools.get_or_init(|| shows_tools(jinja));
        if reasoning(conversation).is_some() || with_tools && shows_tools() {
            return native();
        }
        let lowered = tools::lower(conversation)?;
        let differs = match render::check(&lowered) {
            Ok(_) => {
                // A row may be large: what the template reads is gone before there is a second rendering.
                let theirs = {
                    let messages: Vec<Value> = lowered.messages.iter().map(native::message).collect();
                    jinja.render(messages, &[], add_generation_prompt)?
                };
                let ours = render::render(&lowered, bos, marks, add_generation_prompt)?;
                match same(&ours.text, &theirs) {
                    Ok(()) => return Ok(ours),
                    Err(differs) => differs,
                }
            }
            Err(refused) => refused,
        };
        // A template with a form for tools of its own may have one for system messages and turns, too.
        if shows_tools() { native() } else { Err(differs) }
    }

    /// Says of an error that the template is to blame for which template it is.
    fn locate(&self, error: Error) -> Error {
        match &self.place {
            Some(place) if error.kind() == Kind::Tokenizer => {
                let hint = format!("the template is in `{place}`");
                let error = if error.hint_text().is_some() { error } else { error.hint(hint) };
                error.or_at(place.clone())
            }
            _ => error,
        }
    }
}

/// Whether a template shows definitions of tools and calls of them, or at least the definitions.
fn shows_tools(jinja: &Jinja) -> bool {
    const NAME: &str = "a_function_of_no_model";
    let tool = json!({"type": "function", "function": {"name": NAME, "description": "d", "parameters": {
        "type": "object", "properties": {"x": {"type": "string", "description": "d"}}, "required": ["x"],
    }}});
    let user = native::message(&Message::new(Role::User, "a"));
    let call = Message::calling(vec![ToolCall { name: NAME.into(), arguments: json!({"x": "a"}) }]);
    let shows = |messages: Vec<Value>, tools: &[Value]| {
        jinja.render(messages, tools, false).is_ok_and(|text| text.contains(NAME))
    };
    shows(vec![user.clone()], &[tool]) || shows(vec![user, native::message(&call)], &[])
}

/// The first message, from 1, with a reasoning, and the field's name.
fn reasoning(conversation: &Conversation) -> Option<(usize, &'static str)> {
    let field = |fields: &serde_json::Map<String, Value>| REASONING.into_iter().find(|name| fields.contains_key(*name));
    conversation.messages.iter().enumerate().find_map(|(i, message)| Some((i + 1, field(&message.fields)?)))
}

fn require_no_reasoning(conversation: &Conversation) -> Result<()> {
    let Some((number, name)) = reasoning(conversation) else { return Ok(()) };
    let what = format!("message {number} has a `{name}`, which Gemma 3's chat template does not show");
    Err(Error::new(Kind::Data, what)
        .hint_of_files("leave it out of the data, write it into `content`, or set `data.on_bad_row: skip`"))
}

/// The words `<start_..>`, `<end_..>` and `<escape>` in a template's source.
fn control_words(source: &str) -> impl Iterator<Item = String> {
    let word = |after: &str| {
        let name = after.split_once('>')?.0;
        let is_name = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
        let is_control = name.starts_with("start_") || name.starts_with("end_") || name == "escape";
        (is_name && is_control).then(|| format!("<{name}>"))
    };
    source.split('<').skip(1).filter_map(word).collect::<Vec<_>>().into_iter()
}

/// A template's source, if the file is there.
fn read_source(path: &Path) -> Result<Option<(String, PathBuf)>> {
    match crate::input::read_to_string(path) {
        Ok(source) => Ok(Some((source, path.to_owned()))),
        Err(e) if matches!(e.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => Ok(None),
        Err(e) if e.kind() == std::io::ErrorKind::InvalidData => {
            Err(Error::new(Kind::Tokenizer, "the chat template is no UTF-8 text").at_path(path))
        }
        Err(e) => Err(Error::io("reading the chat template", path, e)),
    }
}

/// A template's source and its file, where there is one.
type Found = Option<(String, PathBuf)>;

/// The `chat_template` of a configuration: a string, or a list of named ones of which `default` counts, and `tool_use`
/// for conversations with tools.
fn named(config: &Value, path: &Path) -> Result<(Found, Found)> {
    let wrong = |what: &str| Err(Error::new(Kind::Tokenizer, what).at_path(path));
    let found = |source: &str| Some((source.to_owned(), path.to_owned()));
    match &config["chat_template"] {
        Value::Null => Ok((None, None)),
        Value::String(source) => Ok((found(source), None)),
        Value::Array(several) => {
            let named = |name: &str| several.iter().find(|t| t["name"] == name).and_then(|t| t["template"].as_str());
            match (named("default"), named("tool_use")) {
                (Some(default), tool_use) => Ok((found(default), tool_use.and_then(found))),
                _ => wrong("`chat_template` is a list without one named `default`"),
            }
        }
        _ => wrong("`chat_template` is neither a text nor a list"),
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
