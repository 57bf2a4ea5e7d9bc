//! `{"prompt", "completion", "system"?}`: two texts, or two lists of messages of which only the second is learnt (as in
//! TRL). Texts become the user's and the model's turn, as `chat` and `generate` will ask; with `template: false` they
//! stay plain text, as in TRL. Where the prompt is the same for all rows, as for sounds and their transcripts, the recipe
//! may say it.

use super::columns::{Columns, wrong_kind};
use super::messages::said;
use super::{messages, tools};
use crate::data::options::RowFormat;
use crate::data::row::Row;
use crate::error::{Error, Kind, Result};
use crate::text::{Conversation, Role};
use serde_json::Value;

pub(super) fn parse(row: &Columns) -> Result<Row> {
    let format = RowFormat::PromptCompletion;
    let asked = row.asked().map(|asked| Value::String(asked.text.clone()));
    let prompt = match (row.get("prompt"), &asked) {
        (None, Some(asked)) => asked,
        _ => row.require("prompt", format)?,
    };
    let completion = row.require("completion", format)?;
    answered(row, ("prompt", prompt), ("completion", completion))
}

/// A prompt and an answer to it, each with its name: two texts or two lists of messages.
pub(super) fn answered(
    row: &Columns,
    (asks, prompt): (&str, &Value),
    (says, completion): (&str, &Value),
) -> Result<Row> {
    match (prompt, completion) {
        (Value::String(prompt), Value::String(completion)) if row.template() => {
            let system = row.text("system")?.filter(|text| !text.is_empty()).map(|text| said(Role::System, text));
            let turns = [said(Role::User, prompt), said(Role::Assistant, completion)];
            let messages = system.into_iter().chain(turns).collect();
            Ok(Row::Conversation(Conversation { messages, tools: tools::definitions(row)? }))
        }
        (Value::String(prompt), Value::String(completion)) => {
            Ok(Row::PromptCompletion { prompt: prompt.clone(), completion: completion.clone() })
        }
        (Value::Array(_), Value::Array(_)) => {
            let mut messages = messages::message_list(prompt, asks)?;
            let completion = messages::message_list(completion, says)?;
            let tools = tools::definitions(row)?;
            // Without an assistant turn in the prompt, `train_on` alone keeps the prompt out of the loss.
            if messages.iter().any(|message| message.role == Role::Assistant) {
                return Ok(Row::Completion { prompt: Conversation { messages, tools }, completion });
            }
            messages.extend(completion);
            Ok(Row::Conversation(Conversation { messages, tools }))
        }
        (Value::String(_) | Value::Array(_), Value::String(_) | Value::Array(_)) => Err(Error::new(
            Kind::Data,
            format!("`{asks}` and `{says}` must both be texts or both be lists of messages"),
        )),
        (Value::String(_) | Value::Array(_), other) => Err(wrong_kind(says, "a text or a list of messages", other)),
        (other, _) => Err(wrong_kind(asks, "a text or a list of messages", other)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{parse_json, problem};
    use super::*;
    use crate::data::layout::Layout;
    use serde_json::json;

    const FORMAT: RowFormat = RowFormat::PromptCompletion;

    #[test]
    fn texts_are_turns_unless_they_are_to_stay_texts() {
        let row = json!({"prompt": "a", "completion": "b", "system": "s"});
        let messages = vec![said(Role::System, "s"), said(Role::User, "a"), said(Role::Assistant, "b")];
        let turns = Row::Conversation(Conversation { messages, tools: Vec::new() });
        assert_eq!(parse_json(FORMAT, row.clone()).unwrap(), turns);
        let plain = Layout::new(FORMAT, false);
        let row = super::super::parse(&Columns::new(row.as_object().unwrap(), None, &plain)).unwrap();
        assert_eq!(row, Row::PromptCompletion { prompt: "a".into(), completion: "b".into() });
    }

    #[test]
    fn an_assistant_turn_in_the_prompt_is_kept_apart() {
        let user = json!({"role": "user", "content": "a"});
        let model = json!({"role": "assistant", "content": "b"});
        let Row::Conversation(plain) = parse_json(FORMAT, json!({"prompt": [user], "completion": [model]})).unwrap()
        else {
            panic!("a plain conversation");
        };
        assert_eq!(plain.messages.iter().map(|m| m.role).collect::<Vec<_>>(), [Role::User, Role::Assistant]);

        let row = json!({"prompt": [user, model, user], "completion": [model]});
        let Row::Completion { prompt, completion } = parse_json(FORMAT, row).unwrap() else {
            panic!("a completion");
        };
        assert_eq!((prompt.messages.len(), completion.len()), (3, 1));
    }

    #[test]
    fn kinds_may_not_be_mixed() {
        assert_eq!(
            problem(FORMAT, json!({"prompt": "a", "completion": []})),
            "`prompt` and `completion` must both be texts or both be lists of messages"
        );
        assert_eq!(
            problem(FORMAT, json!({"prompt": "a", "completion": 1})),
            "`completion` must be a text or a list of messages, found a number"
        );
        assert_eq!(problem(FORMAT, json!({"prompt": [], "completion": []})), "`prompt` is empty");
    }
}
