//! The tiny tokenizer of `tests/goldens/tokenizer`: Gemma 3's in 512 words, cut by `scripts/make_tiny_tokenizer.py`.

use crate::error::{Error, Kind, Result};
use crate::text::{ChatTemplate, Conversation, Encoder, Message, Part, Role, Tokenizer};
use crate::weights::gguf::Vocabulary;
use serde_json::Value;
use std::path::PathBuf;

/// The folder with `tokenizer.json` and `tokenizer_config.json`, as a model folder has them.
pub fn tiny_tokenizer_folder() -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "tests", "goldens", "tokenizer"].iter().collect()
}

/// The tiny tokenizer.
///
/// # Errors
/// Goldens that are missing or broken.
pub fn tiny_tokenizer() -> Result<Tokenizer> {
    Tokenizer::from_file(&tiny_tokenizer_folder().join("tokenizer.json"))
}

/// An encoder with the tiny tokenizer and its template, for models of 512 words.
///
/// # Errors
/// Goldens that are missing or broken.
pub fn tiny_encoder() -> Result<Encoder> {
    let template = ChatTemplate::from_model_folder(&tiny_tokenizer_folder())?;
    Ok(Encoder::new(tiny_tokenizer()?, template).with_vocab_size(512))
}

/// The tiny tokenizer's vocabulary as a GGUF file holds it.
///
/// # Errors
/// Goldens that are missing or broken.
pub fn tiny_vocabulary() -> Result<Vocabulary> {
    let value = golden_json("vocabulary.json")?;
    let list = |key: &str| value[key].as_array().cloned().unwrap_or_default().into_iter();
    let id = |key: &str| value[key].as_u64().map(|id| id as u32);
    Ok(Vocabulary {
        tokens: list("tokens").map(|v| v.as_str().unwrap_or_default().to_owned()).collect(),
        scores: list("scores").map(|v| v.as_f64().unwrap_or(f64::NAN) as f32).collect(),
        types: list("types").map(|v| v.as_i64().unwrap_or_default() as i32).collect(),
        bos: id("bos"),
        eos: id("eos"),
        unknown: id("unknown"),
        padding: id("padding"),
        chat_template: None,
        add_space_prefix: value["add_space_prefix"] == true,
    })
}

/// A JSON file of the tiny tokenizer's goldens.
///
/// # Errors
/// Goldens that are missing or broken.
pub fn golden_json(name: &str) -> Result<Value> {
    let path = tiny_tokenizer_folder().join(name);
    let bytes = std::fs::read(&path).map_err(|e| Error::io("reading a golden", &path, e))?;
    serde_json::from_slice(&bytes).map_err(|e| Error::new(Kind::Run, format!("a golden is no JSON: {e}")).at_path(path))
}

/// The golden chats of `cases.json`: name, conversation, and what Hugging Face and TRL made of it.
///
/// # Errors
/// Goldens that are missing or broken.
pub fn golden_chats() -> Result<Vec<(String, Conversation, Value)>> {
    let chat = |(name, case): (&String, &Value)| {
        let messages = case["messages"].as_array().into_iter().flatten().map(message).collect();
        (name.clone(), Conversation { messages, tools: Vec::new() }, case.clone())
    };
    let cases = golden_json("cases.json")?;
    Ok(cases["chats"].as_object().into_iter().flatten().map(chat).collect())
}

fn message(value: &Value) -> Message {
    let text = |value: &Value| Part::Text(value.as_str().unwrap_or_default().to_owned());
    let role = match value["role"].as_str() {
        Some("system") => Role::System,
        Some("assistant") => Role::Assistant,
        _ => Role::User,
    };
    let content = match &value["content"] {
        Value::Array(parts) => parts.iter().map(|part| text(&part["text"])).collect(),
        one => vec![text(one)],
    };
    Message::of_parts(role, content)
}
