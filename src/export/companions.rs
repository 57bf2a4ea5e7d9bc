//! The small files beside a model's weights that a derived folder needs too.

use crate::atomic;
use crate::error::{Error, Result};
use serde_json::{Value, json};
use std::path::Path;

/// The tokenizer and its template, in every form that transformers has used.
const TOKENIZER_FILES: [&str; 7] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
];

/// What else a whole model folder holds.
const MODEL_FILES: [&str; 6] = [
    "generation_config.json",
    "preprocessor_config.json",
    "processor_config.json",
    "LICENSE",
    "NOTICE",
    "USE_POLICY.md",
];

/// Templates for conversations of particular kinds, a file each.
const MORE_TEMPLATES: &str = "additional_chat_templates";

/// Copies the tokenizer's files from one folder to another, as far as they exist; returns their names.
///
/// # Errors
/// A file that cannot be read or written.
pub fn copy_tokenizer(from: &Path, to: &Path) -> Result<Vec<&'static str>> {
    let mut copied = copy(from, to, &TOKENIZER_FILES)?;
    copied.extend(copy_templates(from, to)?.then_some(MORE_TEMPLATES));
    Ok(copied)
}

/// Copies everything but weights and `config.json` from one model folder to another; returns the names.
///
/// # Errors
/// A file that cannot be read or written.
pub fn copy_companions(from: &Path, to: &Path) -> Result<Vec<&'static str>> {
    let mut copied = copy_tokenizer(from, to)?;
    copied.extend(copy(from, to, &MODEL_FILES)?);
    Ok(copied)
}

/// Copies the templates of [`MORE_TEMPLATES`]; whether there are any.
fn copy_templates(from: &Path, to: &Path) -> Result<bool> {
    let folder = from.join(MORE_TEMPLATES);
    let mut any = false;
    for entry in std::fs::read_dir(&folder).into_iter().flatten() {
        let path = entry.map_err(|e| Error::io("listing", &folder, e))?.path();
        if path.extension().is_none_or(|ending| ending != "jinja") || !path.is_file() {
            continue;
        }
        let bytes = crate::input::read(&path).map_err(|e| Error::io("reading", &path, e))?;
        atomic::write(&to.join(MORE_TEMPLATES).join(path.file_name().unwrap_or_default()), &bytes)?;
        any = true;
    }
    Ok(any)
}

/// A `generation_config.json` for a base that has none, such as a GGUF file.
pub fn generation_config(bos: Option<u32>, eos: &[u32], padding: Option<u32>) -> String {
    let eos = match eos {
        [] => Value::Null,
        [only] => json!(only),
        several => json!(several),
    };
    let mut keys =
        json!({"_from_model_config": true, "bos_token_id": bos, "eos_token_id": eos, "pad_token_id": padding});
    if let Some(keys) = keys.as_object_mut() {
        keys.retain(|_, value| !value.is_null());
    }
    format!("{keys:#}\n")
}

fn copy(from: &Path, to: &Path, names: &[&'static str]) -> Result<Vec<&'static str>> {
    let mut copied = Vec::new();
    for name in names {
        let path = from.join(name);
        match crate::input::read(&path) {
            Ok(bytes) => atomic::write(&to.join(name), &bytes)?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(Error::io("reading", &path, error)),
        }
        copied.push(*name);
    }
    Ok(copied)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_exists_is_copied_and_weights_are_not() {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for name in ["tokenizer.json", "generation_config.json", "LICENSE", "config.json", "model.safetensors"] {
            std::fs::write(from.path().join(name), name).unwrap();
        }
        std::fs::create_dir(from.path().join(MORE_TEMPLATES)).unwrap();
        for name in ["tool_use.jinja", "notes.txt"] {
            std::fs::write(from.path().join(MORE_TEMPLATES).join(name), name).unwrap();
        }
        assert_eq!(copy_tokenizer(from.path(), to.path()).unwrap(), ["tokenizer.json", MORE_TEMPLATES]);
        let templates = std::fs::read_dir(to.path().join(MORE_TEMPLATES)).unwrap().map(|e| e.unwrap().file_name());
        assert_eq!(templates.collect::<Vec<_>>(), ["tool_use.jinja"]);
        let all = copy_companions(from.path(), to.path()).unwrap();
        assert_eq!(all, ["tokenizer.json", MORE_TEMPLATES, "generation_config.json", "LICENSE"]);
        assert_eq!(std::fs::read_dir(to.path()).unwrap().count(), 4);
    }

    #[test]
    fn ids_are_written_as_transformers_does() {
        let text = generation_config(Some(2), &[1, 106], None);
        let value: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value, json!({"_from_model_config": true, "bos_token_id": 2, "eos_token_id": [1, 106]}));
        assert!(generation_config(None, &[1], Some(0)).contains("\"eos_token_id\": 1,"));
    }
}
