//! `{"prompt", "completion", "label", "system"?}`: an answer, and whether it is a good one (as in TRL): a thumb up or down. Prompt and
//! answer are read as a row of `prompt_completion`.
//!
//! `{"prompt", "label", "system"?}` with the label `local` or `remote`: a prompt, and who is to answer it, this model or a larger one.
//! The prompt is read as a row of `prompt_only`: up to where an answer would begin.

use super::columns::{Columns, wrong_kind};
use super::detect::is_for_here;
use super::prompt_completion::answered;
use super::prompt_only;
use crate::data::options::RowFormat;
use crate::data::row::Row;
use crate::error::{Error, Kind, Result};
use serde_json::Value;

pub(super) fn parse(row: &Columns) -> Result<Row> {
    if let Some(desirable) = row.get("label").and_then(is_for_here).filter(|_| row.get("completion").is_none()) {
        let asked = prompt_only::asked(row, row.require("prompt", RowFormat::Unpaired)?)?;
        let asked = Row::Prompt { row: asked.into(), columns: String::new() };
        return Ok(Row::Unpaired { row: asked.into(), desirable });
    }
    let of_neither = |label: &&Value| label.is_string() && judged(label).is_none();
    if let Some(label) = row.get("label").filter(of_neither).filter(|_| row.get("completion").is_none()) {
        let word = label.as_str().unwrap_or_default();
        let what = format!(
            "`{}` of a prompt without an answer must be `local` or `remote`, found `{word:.40}`",
            row.column("label")
        );
        return Err(Error::new(Kind::Data, what));
    }
    let of = |name: &str| row.require(name, RowFormat::Unpaired);
    let (prompt, completion, label) = (of("prompt")?, of("completion")?, of("label")?);
    let Some(desirable) = judged(label) else {
        return Err(wrong_kind(row.column("label"), "true or false", label));
    };
    let row = answered(row, ("prompt", prompt), ("completion", completion))?;
    Ok(Row::Unpaired { row: row.into(), desirable })
}

/// What a label says: also as a number, or as the word for it that stands in a table.
fn judged(label: &Value) -> Option<bool> {
    match label {
        Value::Bool(label) => Some(*label),
        Value::Number(number) => match number.as_f64() {
            Some(1.0) => Some(true),
            Some(0.0) => Some(false),
            _ => None,
        },
        Value::String(word) => match word.trim().to_lowercase().as_str() {
            "true" | "1" => Some(true),
            "false" | "0" => Some(false),
            _ => None,
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{parse_json, problem};
    use super::*;
    use serde_json::json;

    const FORMAT: RowFormat = RowFormat::Unpaired;

    #[test]
    fn an_answer_is_judged_in_words_and_numbers() {
        for (label, expected) in [
            (json!(true), true),
            (json!(false), false),
            (json!(1), true),
            (json!(0.0), false),
            (json!(" True "), true),
            (json!("0"), false),
        ] {
            let row = parse_json(FORMAT, json!({"prompt": "a", "completion": "b", "label": label})).unwrap();
            let Row::Unpaired { row, desirable } = row else { panic!("{row:?}") };
            assert_eq!(desirable, expected, "{label}");
            assert!(matches!(*row, Row::Conversation(conversation) if conversation.messages.len() == 2));
        }
    }

    #[test]
    fn a_prompt_alone_is_for_here_or_for_elsewhere() {
        let turns = json!([{"role": "user", "content": "a"}]);
        for (prompt, label, expected) in [(json!("a"), "local", true), (turns, " Remote ", false)] {
            let row = parse_json(FORMAT, json!({"prompt": prompt, "label": label, "system": "s"})).unwrap();
            let Row::Unpaired { row, desirable } = row else { panic!("{row:?}") };
            assert_eq!(desirable, expected, "{label}");
            assert!(matches!(*row, Row::Prompt { .. }), "{row:?}");
        }
        let other = problem(FORMAT, json!({"prompt": "a", "label": "small"}));
        assert_eq!(other, "`label` of a prompt without an answer must be `local` or `remote`, found `small`");
        let answered = problem(FORMAT, json!({"prompt": "a", "completion": "b", "label": "local"}));
        assert_eq!(answered, "`label` must be true or false, found a text");
        let ended = json!([{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]);
        assert!(
            problem(FORMAT, json!({"prompt": ended, "label": "local"})).starts_with("the prompt ends with an answer")
        );
    }

    #[test]
    fn what_is_no_judgement_is_named() {
        let of = |label: Value| problem(FORMAT, json!({"prompt": "a", "completion": "b", "label": label}));
        assert_eq!(of(json!(2)), "`label` must be true or false, found a number");
        assert_eq!(of(json!("good")), "`label` must be true or false, found a text");
        assert!(of(json!(null)).starts_with("`label` is null"));
        assert!(problem(FORMAT, json!({"prompt": "a", "label": true})).starts_with("the row has no `completion`"));
    }
}
