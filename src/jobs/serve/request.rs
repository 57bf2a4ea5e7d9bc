//! What a conversation in a request has to be, beside what rows of data are.

use crate::error::{Error, Kind, Result};
use crate::terminal::excerpt;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// Fields of a part that name a picture, a sound or a film.
const SHOWN: [&str; 8] = ["image_url", "audio_url", "video_url", "image", "audio", "video", "url", "path"];

/// Refuses what names a picture or sound instead of bringing it.
///
/// # Errors
/// The first such thing.
pub fn no_addresses(row: &Map<String, Value>) -> Result<()> {
    let messages = row.get("messages").and_then(Value::as_array).into_iter().flatten().enumerate();
    for (number, message) in messages {
        let parts = message["content"].as_array().into_iter().flatten().enumerate();
        for (at, part) in parts.filter(|(_, part)| part["type"] != "text") {
            let named = SHOWN.iter().find_map(|field| {
                let value = part.get(*field)?;
                let name = value.as_str().or_else(|| value.get("url")?.as_str())?;
                (!name.starts_with("data:")).then_some((field, name))
            });
            if let Some((field, name)) = named {
                let what = format!(
                    "`messages[{number}].content[{at}].{field}` names `{}`: pictures and sounds come in the request itself, as \
                     `data:` addresses; no file is opened, and no address asked",
                    excerpt(name, 80)
                );
                return Err(Error::new(Kind::Data, what));
            }
        }
    }
    Ok(())
}

/// The row with the names of tools in what they answered, where clients gave the number of the call alone: templates show names.
pub fn with_names_of_tools(row: &Map<String, Value>) -> Map<String, Value> {
    let mut row = row.clone();
    let mut names: BTreeMap<String, Value> = BTreeMap::new();
    for message in row.get_mut("messages").and_then(Value::as_array_mut).into_iter().flatten() {
        for call in message["tool_calls"].as_array().into_iter().flatten() {
            if let (Some(id), name @ Value::String(_)) = (call["id"].as_str(), &call["function"]["name"]) {
                names.insert(id.to_owned(), name.clone());
            }
        }
        let name = message["tool_call_id"].as_str().and_then(|id| names.get(id)).cloned();
        if let Some(message) = message.as_object_mut()
            && message.get("role") == Some(&json!("tool"))
            && let Some(name) = name
        {
            message.entry("name").or_insert(name);
        }
    }
    row
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(messages: Value) -> Map<String, Value> {
        json!({"messages": messages}).as_object().unwrap().clone()
    }

    #[test]
    fn what_is_named_and_not_brought_is_refused_by_its_place() {
        let with =
            |part: Value| row(json!([{"role": "user", "content": "a"}, {"role": "user", "content": ["x", part]}]));
        let long = format!("https://example.com/{}", "a".repeat(500));
        for part in [
            json!({"type": "image_url", "image_url": {"url": "http://169.254.169.254/latest"}}),
            json!({"type": "image_url", "image_url": "file:///etc/passwd"}),
            json!({"type": "image", "image": "inside.png"}),
            json!({"type": "audio", "url": "ftp://x"}),
            json!({"type": "image_url", "image_url": {"url": long}}),
        ] {
            let error = no_addresses(&with(part)).unwrap_err();
            let what = error.what();
            assert!(what.starts_with("`messages[1].content[1].") && what.contains("no address asked"), "{what}");
            assert!(what.len() < 400, "{what}");
        }
        for part in [
            json!({"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}),
            json!({"type": "input_audio", "input_audio": {"data": "AA==", "format": "wav"}}),
            json!({"type": "text", "text": "http://example.com", "url": "x"}),
        ] {
            assert!(no_addresses(&with(part)).is_ok());
        }
    }

    #[test]
    fn what_tools_answer_has_their_names() {
        let call =
            |id: &str, name: &str| json!({"id": id, "type": "function", "function": {"name": name, "arguments": "{}"}});
        let named = with_names_of_tools(&row(json!([
            {"role": "assistant", "tool_calls": [call("1", "add"), call("2", "now")]},
            {"role": "tool", "tool_call_id": "2", "content": "noon"},
            {"role": "tool", "tool_call_id": "1", "name": "sum", "content": "3"},
            {"role": "tool", "tool_call_id": "9", "content": "?"},
        ])));
        let names: Vec<&Value> = (1..4).map(|at| &named["messages"][at]["name"]).collect();
        assert_eq!(names, [&json!("now"), &json!("sum"), &Value::Null]);
    }
}
