//! `{"conversations": [{"from", "value"}, ..], "system"?, "tools"?}`: ShareGPT, with tool turns as LLaMA-Factory writes
//! them. Turns with `role` and `content` are read as messages: their meaning is the same.

use super::columns::{Columns, as_list, as_object, as_text};
use super::messages::{self, said};
use super::tools;
use crate::data::exact;
use crate::data::object::holds;
use crate::data::options::RowFormat;
use crate::data::row::Row;
use crate::error::{Error, Kind, Result, did_you_mean};
use crate::text::{Conversation, Message, Role};
use serde_json::Value;

pub(super) fn parse(row: &Columns) -> Result<Row> {
    let [is_there, is_there_too] = ["conversations", "conversation"].map(|name| row.get(name).is_some_and(holds));
    if is_there && is_there_too {
        let [one, other] = ["conversations", "conversation"].map(|name| row.column(name).to_owned());
        let what = format!("the row has both `{one}` and `{other}`, of which one is trained on");
        return Err(Error::new(Kind::Data, what).hint("keep the one that is meant"));
    }
    let name = if is_there_too || (row.get("conversations").is_none() && row.get("conversation").is_some()) {
        "conversation"
    } else {
        "conversations"
    };
    let list = as_list(row.require(name, RowFormat::Sharegpt)?, name)?;
    if list.is_empty() {
        return Err(Error::new(Kind::Data, format!("`{name}` is empty")));
    }
    let mut turns = Vec::new();
    for (i, value) in list.iter().enumerate() {
        turns.push(turn(value, &format!("{name}[{i}]"))?);
    }
    if let Some(system) = row.text("system")?.filter(|text| !text.is_empty()) {
        if turns.first().is_some_and(|first| first.role == Role::System) {
            return Err(Error::new(Kind::Data, format!("both `system` and `{name}[0]` give a system message")));
        }
        turns.insert(0, said(Role::System, system));
    }
    Ok(Row::Conversation(Conversation { messages: turns, tools: tools::definitions(row)? }))
}

fn turn(value: &Value, path: &str) -> Result<Message> {
    let object = as_object(value, path)?;
    let Some(from) = object.get("from").filter(|from| !from.is_null()) else {
        if object.contains_key("role") {
            return messages::message(value, path);
        }
        let keys: Vec<_> = object.keys().map(|key| format!("`{key}`")).collect();
        return Err(
            Error::new(Kind::Data, format!("`{path}` has no `from`")).hint(format!("keys found: {}", keys.join(", ")))
        );
    };
    let from = as_text(from, &format!("{path}.from"))?;
    let path_of_value = format!("{path}.value");
    let Some(content) = object.get("value").filter(|value| !value.is_null()) else {
        return Err(Error::new(Kind::Data, format!("`{path}` has no `value`")));
    };
    let role = match from {
        "human" | "user" => Role::User,
        "gpt" | "assistant" | "model" => Role::Assistant,
        "system" => Role::System,
        "tool" | "observation" | "function_response" => Role::Tool,
        "function_call" => return tool_turn(content, &path_of_value),
        other => {
            let error = Error::new(Kind::Data, format!("`{path}.from` is the unknown speaker `{other}`"));
            return Err(
                match did_you_mean(other, ["human", "gpt", "system", "tool", "observation", "function_call"]) {
                    Some(close) => error.hint(format!("did you mean `{close}`?")),
                    None => {
                        error.hint("speakers are `human`, `gpt`, `system`, `tool`, `observation` and `function_call`")
                    }
                },
            );
        }
    };
    Ok(said(role, as_text(content, &path_of_value)?))
}

/// A turn that calls one tool or several: an object or a list of them, as such or as JSON text.
fn tool_turn(value: &Value, path: &str) -> Result<Message> {
    let parsed = match value {
        Value::String(text) => &exact::from_str(text)
            .map_err(|e| Error::new(Kind::Data, format!("`{path}` is text that is no valid JSON: {e}")))?,
        other => other,
    };
    let tool_calls = match parsed {
        Value::Array(_) => tools::calls(parsed, path)?,
        _ => vec![tools::call(parsed, path)?],
    };
    Ok(Message::calling(tool_calls))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{parse_json, problem};
    use super::*;
    use crate::text::ToolCall;
    use serde_json::json;

    #[test]
    fn one_column_of_turns_is_read() {
        let turns = json!([{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]);
        for nothing in [json!(null), json!([]), json!("")] {
            let row = json!({"conversations": nothing, "conversation": turns});
            assert!(parse_json(RowFormat::Sharegpt, row).is_ok(), "{nothing}");
        }
        assert_eq!(
            problem(RowFormat::Sharegpt, json!({"conversations": turns, "conversation": turns})),
            "the row has both `conversations` and `conversation`, of which one is trained on [keep the one that is meant]"
        );
        assert_eq!(problem(RowFormat::Sharegpt, json!({"conversation": []})), "`conversation` is empty");
    }

    #[test]
    fn speakers_become_roles_and_function_calls_become_tool_calls() {
        let row = json!({
            "conversations": [
                {"from": "human", "value": "a"},
                {"from": "function_call", "value": "{\"name\": \"f\", \"arguments\": {\"x\": 1}}"},
                {"from": "observation", "value": "r"},
                {"from": "gpt", "value": "b"},
                {"role": "user", "content": "c"},
            ],
            "system": "s",
            "tools": "",
        });
        let Row::Conversation(conversation) = parse_json(RowFormat::Sharegpt, row).unwrap() else { panic!() };
        assert_eq!(
            conversation.messages,
            [
                said(Role::System, "s"),
                said(Role::User, "a"),
                Message::calling(vec![ToolCall { name: "f".into(), arguments: json!({"x": 1}) }]),
                said(Role::Tool, "r"),
                said(Role::Assistant, "b"),
                said(Role::User, "c"),
            ]
        );
        assert_eq!(conversation.tools, Vec::<Value>::new());
    }

    #[test]
    fn problems_say_which_turn() {
        let of = |turn: Value| problem(RowFormat::Sharegpt, json!({"conversation": [turn]}));
        assert_eq!(
            of(json!({"from": "humna", "value": ""})),
            "`conversation[0].from` is the unknown speaker `humna` [did you mean `human`?]"
        );
        assert_eq!(of(json!({"from": "gpt"})), "`conversation[0]` has no `value`");
        assert_eq!(of(json!({"speaker": "gpt"})), "`conversation[0]` has no `from` [keys found: `speaker`]");
        assert!(
            of(json!({"from": "function_call", "value": "f(x)"}))
                .starts_with("`conversation[0].value` is text that is no valid JSON")
        );
        let twice = json!({"system": "a", "conversations": [{"from": "system", "value": "b"}]});
        assert_eq!(problem(RowFormat::Sharegpt, twice), "both `system` and `conversations[0]` give a system message");
    }
}
