//! `{"prompt", "system"?, ..}`: a text, or a list of messages that the model is to go on with. Texts become the user's turn unless
//! `template` is off. All other columns are for rewards.

use super::columns::{Columns, wrong_kind};
use super::messages::{message_list, said};
use super::tools;
use crate::data::exact;
use crate::data::object::{Object, to_json};
use crate::data::options::RowFormat;
use crate::data::row::Row;
use crate::error::{Error, Kind, Result};
use crate::text::{Conversation, MediaKind, Role};
use serde_json::{Value, json};

pub(super) fn parse(row: &Columns) -> Result<Row> {
    let prompt = row.require("prompt", RowFormat::PromptOnly)?;
    Ok(Row::Prompt { row: asked(row, prompt)?.into(), columns: columns(row, prompt) })
}

/// What is to be answered: a conversation, or a text where `template` is off.
pub(super) fn asked(row: &Columns, prompt: &Value) -> Result<Row> {
    Ok(match prompt {
        Value::String(prompt) if row.template() => {
            let system = row.text("system")?.filter(|text| !text.is_empty()).map(|text| said(Role::System, text));
            let messages = system.into_iter().chain([said(Role::User, prompt)]).collect();
            Row::Conversation(Conversation { messages, tools: tools::definitions(row)? })
        }
        Value::String(prompt) => Row::Text(prompt.clone()),
        Value::Array(_) => {
            let messages = message_list(prompt, row.column("prompt"))?;
            if messages.last().is_some_and(|last| last.role == Role::Assistant) {
                return Err(Error::new(Kind::Data, "the prompt ends with an answer: there is nothing to say to it")
                    .hint("leave its last turn out, or keep it in another column, for a reward to read"));
            }
            Row::Conversation(Conversation { messages, tools: tools::definitions(row)? })
        }
        other => return Err(wrong_kind(row.column("prompt"), "a text or a list of messages", other)),
    })
}

/// What a reward is told of the row: the prompt, and the other columns by their names in the file.
fn columns(row: &Columns, prompt: &Value) -> String {
    let is_medium =
        |name: &str| MediaKind::ALL.into_iter().any(|kind| kind.columns().iter().any(|own| row.column(own) == name));
    // Where the prompt stands in another column, one of that name is not read.
    let is_prompt = |name: &str| name == row.column("prompt") || name == "prompt";
    let others = row.all_given().filter(|(name, _)| !is_prompt(name) && !is_medium(name));
    let others = others.map(|(name, value)| (name.clone(), value.clone()));
    let all: Object = std::iter::once(("prompt".to_owned(), prompt.clone())).chain(others).collect();
    to_json(&Value::Object(all))
}

/// What a reward is told of a row whose conversation was given a system message that it does not have: the first of its messages, or
/// the column `system` beside a prompt that is a text.
pub fn with_system(columns: &str, asked: &Row, system: Option<&str>) -> String {
    let lacks = match asked {
        Row::Conversation(conversation) => conversation.messages.first().is_some_and(|m| m.role != Role::System),
        _ => false,
    };
    let Some(system) = system.filter(|_| lacks) else { return columns.to_owned() };
    let Ok(Value::Object(mut row)) = exact::from_str(columns) else { return columns.to_owned() };
    match row.get_mut("prompt") {
        Some(Value::Array(messages)) => messages.insert(0, json!({"role": "system", "content": system})),
        _ => drop(row.insert("system".into(), system.into())),
    }
    to_json(&Value::Object(row))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{parse_json, problem};
    use super::*;

    const FORMAT: RowFormat = RowFormat::PromptOnly;

    #[test]
    fn a_prompt_is_a_turn_or_turns_and_the_other_columns_go_along() {
        let row = json!({"answer": 4, "prompt": "2 + 2?", "image": null, "why": {"a": "é"}});
        let Row::Prompt { row, columns } = parse_json(FORMAT, row).unwrap() else { panic!("a prompt") };
        assert!(matches!(*row, Row::Conversation(conversation) if conversation.messages.len() == 1));
        assert_eq!(columns, r#"{"prompt":"2 + 2?","answer":4,"why":{"a":"é"}}"#);
        let turns = json!([{"role": "user", "content": "a"}]);
        let Row::Prompt { columns, .. } = parse_json(FORMAT, json!({"prompt": turns})).unwrap() else {
            panic!("turns")
        };
        assert_eq!(columns, r#"{"prompt":[{"role":"user","content":"a"}]}"#);
    }

    #[test]
    fn a_system_message_that_the_model_sees_is_part_of_the_prompt() {
        let seen = |row: Value| {
            let Row::Prompt { row, columns } = parse_json(FORMAT, row).unwrap() else { panic!("a prompt") };
            with_system(&columns, &row, Some("Be brief."))
        };
        assert_eq!(seen(json!({"prompt": "a", "n": 1})), r#"{"prompt":"a","n":1,"system":"Be brief."}"#);
        let own = r#"{"prompt":"a","system":"Be kind."}"#;
        assert_eq!(seen(serde_json::from_str(own).unwrap()), own);
        let turns = |turns: &str| format!(r#"{{"prompt":[{turns}]}}"#);
        let (user, system) = (r#"{"role":"user","content":"a"}"#, r#"{"role":"system","content":"Be brief."}"#);
        assert_eq!(seen(serde_json::from_str(&turns(user)).unwrap()), turns(&format!("{system},{user}")));
        let said = turns(&format!("{system},{user}"));
        assert_eq!(seen(serde_json::from_str(&said).unwrap()), said);
        // A text that stays one has no turns.
        assert_eq!(with_system(r#"{"prompt":"a"}"#, &Row::Text("a".into()), Some("Be brief.")), r#"{"prompt":"a"}"#);
    }

    #[test]
    fn a_number_that_no_type_holds_goes_along_as_it_was_written() {
        let written = r#"{"prompt":"a","answer":123456789012345678901234567890,"far":[-1e400]}"#;
        let Row::Prompt { columns, .. } = parse_json(FORMAT, exact::from_str(written).unwrap()).unwrap() else {
            panic!("a prompt")
        };
        assert_eq!(columns, written);
    }

    #[test]
    fn what_is_no_prompt_is_named() {
        let answered = json!([{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]);
        assert!(problem(FORMAT, json!({"prompt": answered})).starts_with("the prompt ends with an answer"));
        assert_eq!(
            problem(FORMAT, json!({"prompt": 3})),
            "`prompt` must be a text or a list of messages, found a number"
        );
        let other = problem(FORMAT, json!({"question": "a", "answer": "b"}));
        assert!(other.contains("has no `prompt`") && other.contains("`data.columns: {prompt: question}`"), "{other}");
    }
}
