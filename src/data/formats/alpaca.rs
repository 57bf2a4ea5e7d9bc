//! `{"instruction", "input"?, "output", "system"?, "history"?}`: instructions as Stanford Alpaca and LLaMA-Factory
//! write them. The instruction and, after an empty line, the input become the user's turn; `history` holds earlier
//! `[user, assistant]` pairs.

use super::columns::{Columns, as_list, as_text};
use super::messages::said;
use crate::data::options::RowFormat;
use crate::data::row::Row;
use crate::error::{Error, Kind, Result};
use crate::text::{Conversation, Role};

pub(super) fn parse(row: &Columns) -> Result<Row> {
    let instruction = row.require_text("instruction", RowFormat::Alpaca)?;
    let output = row.require_text("output", RowFormat::Alpaca)?;
    let mut messages = Vec::new();
    if let Some(system) = row.text("system")?.filter(|text| !text.is_empty()) {
        messages.push(said(Role::System, system));
    }
    if let Some(history) = row.filled("history") {
        for (i, pair) in as_list(history, "history")?.iter().enumerate() {
            let path = format!("history[{i}]");
            let pair = as_list(pair, &path)?;
            let [user, assistant] = &*pair else {
                let what = format!("`{path}` must be a pair of user and assistant texts, found {} items", pair.len());
                return Err(Error::new(Kind::Data, what));
            };
            messages.push(said(Role::User, as_text(user, &path)?));
            messages.push(said(Role::Assistant, as_text(assistant, &path)?));
        }
    }
    let request = match row.text("input")?.filter(|text| !text.is_empty()) {
        Some(input) if instruction.is_empty() => input.to_owned(),
        Some(input) => format!("{instruction}\n\n{input}"),
        None => instruction.to_owned(),
    };
    messages.push(said(Role::User, &request));
    messages.push(said(Role::Assistant, output));
    Ok(Row::Conversation(Conversation { messages, tools: Vec::new() }))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{parse_json, problem};
    use super::*;
    use crate::text::Part;
    use serde_json::json;

    fn turns(row: Row) -> Vec<(Role, String)> {
        let Row::Conversation(conversation) = row else { panic!("a conversation") };
        conversation
            .messages
            .into_iter()
            .map(|m| {
                let [Part::Text(text)] = &m.content[..] else { panic!() };
                (m.role, text.clone())
            })
            .collect()
    }

    #[test]
    fn instruction_and_input_make_the_users_turn() {
        let row =
            parse_json(RowFormat::Alpaca, json!({"instruction": "Add.", "input": "2 2", "output": "4", "text": "x"}));
        assert_eq!(turns(row.unwrap()), [(Role::User, "Add.\n\n2 2".into()), (Role::Assistant, "4".into())]);
        let row = parse_json(
            RowFormat::Alpaca,
            json!({"instruction": "c", "input": "", "output": "d", "system": "s", "history": [["a", "b"]]}),
        );
        let expected = [
            (Role::System, "s".to_owned()),
            (Role::User, "a".into()),
            (Role::Assistant, "b".into()),
            (Role::User, "c".into()),
            (Role::Assistant, "d".into()),
        ];
        assert_eq!(turns(row.unwrap()), expected);
    }

    #[test]
    fn wrong_columns_are_named() {
        assert_eq!(
            problem(RowFormat::Alpaca, json!({"instruction": "a", "response": "b"})),
            "the row has no `output`, which format `alpaca` needs [columns found: `instruction`, `response`; \
             set `data.columns: {output: response}`, or `data.format: auto`]"
        );
        assert_eq!(
            problem(RowFormat::Alpaca, json!({"instruction": "a", "output": "b", "history": [["x"]]})),
            "`history[0]` must be a pair of user and assistant texts, found 1 items"
        );
    }
}
