//! `{"messages": [{"role", "content", "tool_calls"?}, ..], "tools"?}`: the chat format of OpenAI and Hugging Face.

use super::columns::{Columns, as_list, as_object, as_text, wrong_kind};
use super::tools;
use crate::data::options::RowFormat;
use crate::data::row::Row;
use crate::error::{Error, Kind, Result, did_you_mean};
use crate::text::{Conversation, Message, Part, Role};
use serde_json::Value;

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
            Some(_) => error.hint("looks like sharegpt: set `data.format: sharegpt`"),
            None => error.hint(format!("keys found: {}", keys.join(", "))),
        });
    };
    let role = role_of(as_text(role, &format!("{path}.role"))?, path)?;
    let tool_calls = match field("tool_calls") {
        Some(calls) => tools::calls(calls, &format!("{path}.tool_calls"))?,
        None => Vec::new(),
    };
    let content = match field("content") {
        Some(content) => content_parts(content, &format!("{path}.content"))?,
        // OpenAI's form of a turn that only calls tools.
        None if !tool_calls.is_empty() => Vec::new(),
        None => return Err(Error::new(Kind::Data, format!("`{path}` has neither `content` nor `tool_calls`"))),
    };
    if !tool_calls.is_empty() && role != Role::Assistant {
        return Err(Error::new(Kind::Data, format!("`{path}` calls tools, which only the assistant does")));
    }
    Ok(Message { role, content, tool_calls })
}

/// A message of one text.
pub(super) fn said(role: Role, text: &str) -> Message {
    Message { role, content: vec![Part::Text(text.to_owned())], tool_calls: Vec::new() }
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
    match object.get("type").and_then(Value::as_str) {
        Some("text") => match object.get("text") {
            Some(text) => Ok(Part::Text(as_text(text, &format!("{path}.text"))?.to_owned())),
            None => Err(Error::new(Kind::Data, format!("`{path}` is a text part without `text`"))),
        },
        Some(kind @ ("image" | "image_url" | "input_image" | "audio" | "audio_url" | "input_audio" | "video")) => {
            Err(Error::new(Kind::Data, format!("`{path}` is of type `{kind}`, but only text can be trained on")).hint(
                "this version trains the language model on text; set `data.on_bad_row: skip` to leave such rows out",
            ))
        }
        Some(other) => Err(Error::new(Kind::Data, format!("`{path}` has the unknown type `{other}`"))
            .hint("parts are `{\"type\": \"text\", \"text\": \"..\"}`")),
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
                Message {
                    role: Role::User,
                    content: vec![Part::Text("2+2".into()), Part::Text("?".into())],
                    tool_calls: vec![],
                },
                Message {
                    role: Role::Assistant,
                    content: vec![],
                    tool_calls: vec![
                        ToolCall { name: "add".into(), arguments: json!({"a": 2, "b": 2}) },
                        ToolCall { name: "now".into(), arguments: json!({}) },
                    ],
                },
                said(Role::Tool, "4"),
                said(Role::Assistant, "4"),
            ],
            tools: vec![json!({"type": "function", "function": {"name": "add"}})],
        };
        assert_eq!(parse_json(RowFormat::Messages, row).unwrap(), Row::Conversation(expected));
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
            of(json!({"role": "user", "content": [{"type": "image", "image": "a.png"}]}))
                .starts_with("`messages[1].content[0]` is of type `image`, but only text can be trained on")
        );
        assert_eq!(problem(RowFormat::Messages, json!({"messages": []})), "`messages` is empty");
        assert_eq!(problem(RowFormat::Messages, json!({"messages": 3})), "`messages` must be a list, found a number");
    }
}
