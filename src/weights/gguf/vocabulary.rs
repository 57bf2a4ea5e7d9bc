//! The vocabulary that a GGUF file carries.

use super::metadata::Metadata;
use super::value::Array;
use crate::error::{Error, Kind, Result};

/// A SentencePiece-like vocabulary, as GGUF files carry Gemma's.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Vocabulary {
    /// The text of each id.
    pub tokens: Vec<String>,
    /// The score of each id: higher merges first.
    pub scores: Vec<f32>,
    /// The kind of each id: 1 normal, 2 unknown, 3 control, 4 user-defined, 5 unused, 6 byte.
    pub types: Vec<i32>,
    /// The id that begins a text.
    pub bos: Option<u32>,
    /// The id that ends a text.
    pub eos: Option<u32>,
    /// The id of unknown text.
    pub unknown: Option<u32>,
    /// The id that fills batches.
    pub padding: Option<u32>,
    /// The chat template (Jinja).
    pub chat_template: Option<String>,
    /// Whether a space is put before the text: no, unless the file says so.
    pub add_space_prefix: bool,
}

impl Vocabulary {
    /// Reads the vocabulary from a file's metadata; `None` if it has no tokens.
    pub fn read(metadata: &Metadata) -> Result<Option<Self>> {
        let key = |name: &str| format!("tokenizer.ggml.{name}");
        if !metadata.contains(&key("tokens")) {
            return Ok(None);
        }
        let tokens = metadata.strings(&key("tokens")).ok_or_else(|| not("tokens", "an array of texts"))?;
        match metadata.str(&key("model")) {
            Some("llama") => {}
            other => {
                let other = other.unwrap_or("none");
                return Err(wrong(format!("the file's tokenizer is of kind `{other}`; Gemma's is `llama`"))
                    .hint("use a GGUF file of a Gemma 3 model"));
            }
        }
        let scores = metadata.array(&key("scores")).and_then(Array::as_f32s);
        let scores = scores.ok_or_else(|| not("scores", "an array of floats"))?;
        let types = metadata.array(&key("token_type")).and_then(Array::to_i64s);
        let types =
            types.and_then(|types| types.into_iter().map(|t| i32::try_from(t).ok()).collect::<Option<Vec<_>>>());
        let types = types.ok_or_else(|| not("token_type", "an array of integers"))?;
        if scores.len() != tokens.len() || types.len() != tokens.len() {
            let lengths = format!("{} tokens, {} scores, {} types", tokens.len(), scores.len(), types.len());
            return Err(wrong(format!("the file's vocabulary does not add up: {lengths}")));
        }
        let id = |name: &str| {
            if !metadata.contains(&key(name)) {
                return Ok(None);
            }
            let id = metadata.u64(&key(name)).filter(|&id| id < tokens.len() as u64);
            let id = id.and_then(|id| u32::try_from(id).ok());
            id.map(Some).ok_or_else(|| not(name, "the id of a token"))
        };
        Ok(Some(Vocabulary {
            bos: id("bos_token_id")?,
            eos: id("eos_token_id")?,
            unknown: id("unknown_token_id")?,
            padding: id("padding_token_id")?,
            chat_template: metadata.str("tokenizer.chat_template").map(str::to_owned),
            // Gemma's vocabularies never put one there, and some converters leave the key out.
            add_space_prefix: metadata.bool(&key("add_space_prefix")).unwrap_or(false),
            scores: scores.to_vec(),
            types,
            tokens: tokens.to_vec(),
        }))
    }
}

fn wrong(what: String) -> Error {
    Error::new(Kind::Tokenizer, what)
}

fn not(name: &str, expected: &str) -> Error {
    wrong(format!("`tokenizer.ggml.{name}` is missing or is not {expected}"))
        .hint("the GGUF file was converted without its tokenizer, or is damaged")
}
