//! `{"messages": [{"role", "content", "tool_calls"?}, ..], "tools"?}`: the chat format of OpenAI and Hugging Face.
//!
//! Of a message's other fields `weight` and `train` say whether the turn is learnt; [`REASONING`] and [`SHOWN`] go to the
//! model's template; [`REFUSED`] mean something that would be lost; all others mean nothing here.

use super::columns::{Columns, as_list, as_object, as_text, wrong_kind};
use super::{media, tools};
use crate::data::object::Object;
use crate::data::options::RowFormat;
use crate::data::row::Row;
use crate::error::{Error, Kind, Result, did_you_mean};
use crate::text::tools::REASONING;
use crate::text::{Conversation, Message, Part, Role};
use serde_json::{Map, Value};

/// Fields that a template may show.
const SHOWN: [&str; 2] = ["name", "tool_call_id"];

/// Fields whose meaning no template of Gemma shows.
const REFUSED: [&str; 6] = ["refusal", "audio", "images", "image", "videos", "prefix"];

pub(super) fn parse(row: &Columns) -> Result<Row> {
    let messages = message_list(row.require("messages", RowFormat::Messages)?, "messages")?;
    Ok(Row::Conversation(Conversation { messages, tools: tools::definitions(row)? }))
}

/// The messages of a list found at `path`.
pub(super) fn message_list(value: &Value, path: &str) -> Result<Vec<Message>> {
    let list = as_list(value, path)?;
    if list.is_empty() {
        return Err(Error::new(Kind::Data, format!("`{path}` is empty")));
    }
    list.iter().enumerate().map(|(i, value)| message(value, &format!("{path}[{i}]"))).collect()
}

/// One message found at `path`.
pub(super) fn message(value: &Value, path: &str) -> Result<Message> {
    let object = as_object(value, path)?;
    let field = |name: &str| object.get(name).filter(|value| !value.is_null());
    let Some(role) = field("role") else {
        let keys: Vec<_> = object.keys().map(|key| format!("`{key}`")).collect();
        let error = Error::new(Kind::Data, format!("`{path}` has no `role`"));
        return Err(match field("from") {
            Some(_) => error.hint_of_files("looks like sharegpt: set `data.format: sharegpt`"),
            None => error.hint(format!("keys found: {}", keys.join(", "))),
        });
    };
    let role = role_of(as_text(role, &format!("{path}.role"))?, path)?;
    let mut tool_calls = match field("tool_calls") {
        Some(calls) => tools::calls(calls, &format!("{path}.tool_calls"))?,
        None => Vec::new(),
    };
    if let Some(call) = field("function_call") {
        tool_calls.push(tools::call(call, &format!("{path}.function_call"))?); // OpenAI's older form
    }
    let (learnt, fields) = (learnt(object, path)?, shown_fields(object, path)?);
    let content = match field("content") {
        Some(content) => content_parts(content, &format!("{path}.content"))?,
        // OpenAI's form of a turn that only calls tools.
        None if !tool_calls.is_empty() => Vec::new(),
        None => return Err(Error::new(Kind::Data, format!("`{path}` has neither `content` nor `tool_calls`"))),
    };
    if !tool_calls.is_empty() && role != Role::Assistant {
        return Err(Error::new(Kind::Data, format!("`{path}` calls tools, which only the assistant does")));
    }
    Ok(Message { tool_calls, learnt, fields, ..Message::of_parts(role, content) })
}

/// A message of one text.
pub(super) fn said(role: Role, text: &str) -> Message {
    Message::new(role, text)
}

/// Keys of a message that hold something and mean nothing here.
pub(super) fn unused_keys(message: &Object) -> impl Iterator<Item = &str> {
    const USED: [&str; 7] = ["role", "content", "tool_calls", "function_call", "weight", "train", "training"];
    let known = |key: &str| USED.contains(&key) || REASONING.contains(&key) || SHOWN.contains(&key);
    message.iter().filter(move |(key, value)| !says_nothing(value) && !known(key)).map(|(key, _)| key.as_str())
}

/// Whether the turn is learnt: `weight` is 0 or 1, `train` (or `training`) true or false.
fn learnt(object: &Object, path: &str) -> Result<bool> {
    let mut learnt = true;
    for name in ["weight", "train", "training"] {
        learnt &= match object.get(name) {
            None | Some(Value::Null) | Some(Value::Bool(true)) => true,
            Some(Value::Bool(false)) => false,
            Some(Value::Number(number)) if number.as_f64() == Some(1.0) => true,
            Some(Value::Number(number)) if number.as_f64() == Some(0.0) => false,
            Some(other) => {
                let error = Error::new(Kind::Data, format!("`{path}.{name}` must be 0 or 1, found {other}"));
                return Err(error.hint("a turn is learnt (1) or not (0); parts of a weight are not known"));
            }
        };
    }
    Ok(learnt)
}

/// The fields that a template may show.
fn shown_fields(object: &Object, path: &str) -> Result<Map<String, Value>> {
    let mut shown = Map::new();
    for (name, value) in object.iter().filter(|(_, value)| !says_nothing(value)) {
        if REASONING.contains(&name.as_str()) {
            shown.insert(name.clone(), as_text(value, &format!("{path}.{name}"))?.into());
        } else if SHOWN.contains(&name.as_str()) {
            shown.insert(name.clone(), value.clone());
        } else if REFUSED.contains(&name.as_str()) {
            let error = Error::new(Kind::Data, format!("`{path}.{name}` cannot be trained on"));
            let hint = format!("remove `{name}`, or set `data.on_bad_row: skip` to leave such rows out");
            return Err(error.hint_of_files(hint));
        }
    }
    Ok(shown)
}

/// Whether a field is there only because others have it: null, or nothing of its kind.
fn says_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.trim().is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(object) => object.values().all(Value::is_null),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

fn role_of(name: &str, path: &str) -> Result<Role> {
    Ok(match name {
        "system" | "developer" => Role::System,
        "user" => Role::User,
        "assistant" | "model" => Role::Assistant,
        "tool" | "function" => Role::Tool,
        other => {
            let error = Error::new(Kind::Data, format!("`{path}` has the unknown role `{other}`"));
            return Err(match did_you_mean(other, ["system", "user", "assistant", "tool"]) {
                Some(close) => error.hint(format!("did you mean `{close}`?")),
                None => error.hint("roles are `system`, `user`, `assistant` and `tool`"),
            });
        }
    })
}

fn content_parts(value: &Value, path: &str) -> Result<Vec<Part>> {
    match value {
        Value::String(text) => Ok(vec![Part::Text(text.clone())]),
        Value::Array(parts) => parts.iter().enumerate().map(|(i, p)| part(p, &format!("{path}[{i}]"))).collect(),
        other => Err(wrong_kind(path, "a text or a list of parts", other)),
    }
}

fn part(value: &Value, path: &str) -> Result<Part> {
    let object = as_object(value, path)?;
    if let Some(part) = media::part(object, path) {
        return part;
    }
    match object.get("type").and_then(Value::as_str) {
        Some("text") => match object.get("text") {
            Some(text) => Ok(Part::Text(as_text(text, &format!("{path}.text"))?.to_owned())),
            None => Err(Error::new(Kind::Data, format!("`{path}` is a text part without `text`"))),
        },
        Some("video") => {
            Err(Error::new(Kind::Data, format!("`{path}` is a video, which no Gemma that is known here sees"))
                .hint_of_files("set `data.on_bad_row: skip` to leave such rows out, or give its frames as pictures"))
        }
        Some(other) => Err(Error::new(Kind::Data, format!("`{path}` has the unknown type `{other}`"))
            .hint("types are `text`, `image` and `audio`")),
        None => Err(Error::new(Kind::Data, format!("`{path}` has no `type`"))
            .hint("parts are `{\"type\": \"text\", \"text\": \"..\"}`")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{parse_json, problem};
    use super::*;
    use crate::text::ToolCall;
    use serde_json::json;

    #[test]
    fn texts_parts_and_tools() {
        let row = json!({
            "messages": [
                {"role": "developer", "content": "Be brief."},
                {"role": "user", "content": [{"type": "text", "text": "2+2"}, {"type": "text", "text": "?"}]},
                {"role": "assistant", "content": null, "tool_calls": [
                    {"id": "1", "type": "function", "function": {"name": "add", "arguments": "{\"a\": 2, \"b\": 2}"}},
                    {"name": "now", "arguments": {}},
                ]},
                {"role": "tool", "content": "4", "tool_call_id": "1"},
                {"role": "model", "content": "4"},
            ],
            "tools": "[{\"type\": \"function\", \"function\": {\"name\": \"add\"}}]",
            "source": "unused",
        });
        let expected = Conversation {
            messages: vec![
                said(Role::System, "Be brief."),
                Message::of_parts(Role::User, vec![Part::Text("2+2".into()), Part::Text("?".into())]),
                Message::calling(vec![
                    ToolCall { name: "add".into(), arguments: json!({"a": 2, "b": 2}) },
                    ToolCall { name: "now".into(), arguments: json!({}) },
                ]),
                Message { fields: json!({"tool_call_id": "1"}).as_object().unwrap().clone(), ..said(Role::Tool, "4") },
                said(Role::Assistant, "4"),
            ],
            tools: vec![json!({"type": "function", "function": {"name": "add"}})],
        };
        assert_eq!(parse_json(RowFormat::Messages, row).unwrap(), Row::Conversation(expected));
    }

    #[test]
    fn weights_say_what_is_learnt() {
        let learnt = |message: Value| message_of(message).learnt;
        assert!(learnt(json!({"role": "assistant", "content": "a"})));
        assert!(learnt(json!({"role": "assistant", "content": "a", "weight": 1, "train": null})));
        for key in ["weight", "train", "training"] {
            assert!(!learnt(json!({"role": "assistant", "content": "a", key: false})));
            assert!(!learnt(json!({"role": "assistant", "content": "a", key: 0})));
            assert!(!learnt(json!({"role": "assistant", "content": "a", key: 0.0})));
        }
        let refused = message(&json!({"role": "assistant", "content": "a", "weight": 0.5}), "m").unwrap_err();
        assert_eq!(refused.what(), "`m.weight` must be 0 or 1, found 0.5");
    }

    fn message_of(value: Value) -> Message {
        message(&value, "m").unwrap()
    }

    #[test]
    fn fields_go_to_the_template_or_are_refused_by_name() {
        let value = json!({
            "role": "assistant", "content": "51", "reasoning_content": "30 + 21", "thinking": " ", "reasoning": null,
            "name": "Ada", "refusal": null, "audio": {"id": null}, "id": 7, "ts": "now", "empty": "",
        });
        let fields = json!({"reasoning_content": "30 + 21", "name": "Ada"});
        assert_eq!(Value::Object(message_of(value.clone()).fields), fields);
        assert_eq!(unused_keys(value.as_object().unwrap()).collect::<Vec<_>>(), ["id", "ts"]);
        for field in REFUSED {
            let refused = message(&json!({"role": "assistant", "content": "a", field: "x"}), "m").unwrap_err();
            assert_eq!(refused.what(), format!("`m.{field}` cannot be trained on"));
        }
        let refused = message(&json!({"role": "assistant", "content": "a", "reasoning": [1]}), "m").unwrap_err();
        assert_eq!(refused.what(), "`m.reasoning` must be a text, found a list");
        let called = message_of(
            json!({"role": "assistant", "content": null, "function_call": {"name": "f", "arguments": "{}"}}),
        );
        assert_eq!(called.tool_calls, [ToolCall { name: "f".into(), arguments: json!({}) }]);
    }

    #[test]
    fn problems_say_which_message() {
        let of = |message: Value| {
            problem(RowFormat::Messages, json!({"messages": [{"role": "user", "content": "a"}, message]}))
        };
        assert_eq!(
            of(json!({"role": "asistant", "content": "a"})),
            "`messages[1]` has the unknown role `asistant` [did you mean `assistant`?]"
        );
        assert_eq!(
            of(json!({"from": "gpt", "value": "a"})),
            "`messages[1]` has no `role` [looks like sharegpt: set `data.format: sharegpt`]"
        );
        assert_eq!(of(json!({"role": "assistant"})), "`messages[1]` has neither `content` nor `tool_calls`");
        assert_eq!(
            of(json!({"role": "assistant", "content": 4})),
            "`messages[1].content` must be a text or a list of parts, found a number"
        );
        assert_eq!(of(json!("hi")), "`messages[1]` must be an object, found a text");
        assert!(
            of(json!({"role": "user", "content": [{"type": "video", "video": "a.mp4"}]}))
                .starts_with("`messages[1].content[0]` is a video, which no Gemma that is known here sees")
        );
        assert_eq!(problem(RowFormat::Messages, json!({"messages": []})), "`messages` is empty");
        assert_eq!(problem(RowFormat::Messages, json!({"messages": 3})), "`messages` must be a list, found a number");
    }
}
