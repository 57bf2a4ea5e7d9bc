//! The model's own chat template, run as Hugging Face runs it.

use super::conversation::{Conversation, Part};
use super::render::strip;
use crate::error::{Error, Kind, Result};
use minijinja::{Environment, ErrorKind, Value, context};
use regex::Regex;

/// The name under which errors show the template.
const NAME: &str = "chat_template";

/// A compiled chat template.
#[derive(Debug)]
pub(super) struct Jinja {
    environment: Environment<'static>,
    bos: String,
    eos: String,
}

impl Jinja {
    /// Compiles `source`; `bos` and `eos` are the tokens that it may write.
    pub fn new(source: &str, bos: &str, eos: &str) -> Result<Self> {
        let refused =
            |e: &dyn std::fmt::Display| Error::new(Kind::Tokenizer, format!("the chat template does not compile: {e}"));
        let mut environment = Environment::new();
        let syntax = minijinja::syntax::SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        environment.set_syntax(syntax.map_err(|e| refused(&e))?);
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_filter("trim", |text: String| strip(&text).to_owned());
        environment.add_function(
            "raise_exception",
            |message: String| -> std::result::Result<Value, minijinja::Error> {
                Err(minijinja::Error::new(ErrorKind::InvalidOperation, message))
            },
        );
        // Training templates mark the assistant's words with a tag of transformers; here it is a plain block.
        let tag = Regex::new(r"\{%([-+]?)\s*(end)?generation\s*([-+]?)%\}").map_err(|e| refused(&e))?;
        let source = tag.replace_all(source, |tag: &regex::Captures<'_>| {
            let block = if tag.get(2).is_some() { "endif" } else { "if true" };
            format!("{{%{} {block} {}%}}", &tag[1], &tag[3])
        });
        environment.add_template_owned(NAME, source.into_owned()).map_err(|e| refused(&e))?;
        Ok(Jinja { environment, bos: bos.into(), eos: eos.into() })
    }

    /// Renders a conversation without tools.
    pub fn render(&self, conversation: &Conversation, add_generation_prompt: bool) -> Result<String> {
        let messages: Value = conversation
            .messages
            .iter()
            .map(|message| {
                let text = |Part::Text(text): &Part| Value::from(text.as_str());
                let content = match &message.content[..] {
                    [part] => text(part),
                    parts => parts.iter().map(|part| context! { type => "text", text => text(part) }).collect(),
                };
                context! { role => message.role.name(), content }
            })
            .collect();
        let values = context! { messages, add_generation_prompt, bos_token => &*self.bos, eos_token => &*self.eos };
        self.environment.get_template(NAME).and_then(|template| template.render(values)).map_err(|e| {
            Error::new(Kind::Tokenizer, format!("the model's chat template refuses the conversation: {e}"))
        })
    }
}
