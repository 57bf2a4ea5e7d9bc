//! `{"prompt"?, "chosen", "rejected", "margin"?, "system"?}`: two answers to a prompt, of which the first is preferred, and by how
//! much (as in TRL). Each is
//! read as a row of `prompt_completion`: texts become turns unless `template` is off, and of lists of messages the answer alone
//! is learnt. Without a prompt, what both begin with is the prompt: of lists the messages that are the same, of texts the
//! characters that are, which then stay plain text.

use super::columns::{Columns, as_list, wrong_kind};
use super::prompt_completion::answered;
use crate::data::options::RowFormat;
use crate::data::row::Row;
use crate::error::{Error, Kind, Result};
use serde_json::Value;
use std::borrow::Cow;

pub(super) fn parse(row: &Columns) -> Result<Row> {
    let answer = |name: &str| row.require(name, RowFormat::Preference).and_then(|value| unfolded(value, name));
    let (chosen, rejected) = (answer("chosen")?, answer("rejected")?);
    let prompt = row.get("prompt").map(|value| unfolded(value, "prompt")).transpose()?;
    let margin = row.filled("margin").map(|value| number(value, row.column("margin"))).transpose()?;
    let pair =
        |chosen: Row, rejected: Row| Row::Preference { chosen: chosen.into(), rejected: rejected.into(), margin };
    match (prompt.as_deref(), &*chosen, &*rejected) {
        // A text beside whole conversations says again what they begin with.
        (None | Some(Value::String(_)), Value::Array(chosen), Value::Array(rejected)) => {
            let shared = shared(chosen, rejected);
            if shared == 0 {
                return Err(match &prompt {
                    None => no_prompt("`chosen` and `rejected` begin with different messages"),
                    Some(_) => Error::new(
                        Kind::Data,
                        "`prompt` is a text, and `chosen` and `rejected` are lists of messages that begin differently",
                    )
                    .hint("write the prompt as a list of messages, too, or begin both with it"),
                });
            }
            let prompt = Value::Array(chosen[..shared].to_vec());
            let of = |name: &str, all: &[Value]| {
                answered(row, ("prompt", &prompt), (name, &Value::Array(all[shared..].to_vec())))
            };
            Ok(pair(of("chosen", chosen)?, of("rejected", rejected)?))
        }
        (Some(prompt), chosen, rejected) => {
            let of = |name: &str, answer: &Value| answered(row, ("prompt", prompt), (name, answer));
            Ok(pair(of("chosen", chosen)?, of("rejected", rejected)?))
        }
        (None, Value::String(chosen), Value::String(rejected)) => {
            let at = shared_text(chosen, rejected);
            if at == 0 {
                return Err(no_prompt("`chosen` and `rejected` begin with different words"));
            }
            let of = |all: &str| Row::PromptCompletion { prompt: all[..at].into(), completion: all[at..].into() };
            Ok(pair(of(chosen), of(rejected)))
        }
        (None, Value::String(_), other) => Err(wrong_kind("rejected", "a text, as `chosen` is", other)),
        (None, other, _) => Err(wrong_kind("chosen", "a text or a list of messages", other)),
    }
}

/// A list that stands in the cell of a table as its JSON, as that list.
fn unfolded<'v>(value: &'v Value, path: &str) -> Result<Cow<'v, Value>> {
    Ok(match value.as_str().is_some_and(|text| text.trim_start().starts_with("[{")) {
        true => Cow::Owned(Value::Array(as_list(value, path)?.into_owned())),
        false => Cow::Borrowed(value),
    })
}

/// A number, also as the text that stands in a table.
fn number(value: &Value, column: &str) -> Result<f32> {
    let number = match value {
        Value::String(text) => text.trim().parse().ok(),
        value => value.as_f64(),
    };
    number
        .map(|number| number as f32)
        .filter(|number| number.is_finite())
        .ok_or_else(|| wrong_kind(column, "a number", value))
}

fn no_prompt(why: &str) -> Error {
    Error::new(Kind::Data, format!("the row has no `prompt`, and {why}"))
        .hint("give the prompt a column of its own, or let both begin with it")
}

/// How many messages both begin with, so that each has one more.
fn shared(chosen: &[Value], rejected: &[Value]) -> usize {
    let most = chosen.len().min(rejected.len()).saturating_sub(1);
    chosen.iter().zip(rejected).take(most).take_while(|(a, b)| a == b).count()
}

/// How many bytes both begin with; a space before the words that differ is theirs, as in TRL.
fn shared_text(chosen: &str, rejected: &str) -> usize {
    let same = chosen.chars().zip(rejected.chars()).take_while(|(a, b)| a == b);
    let at = same.map(|(c, _)| c.len_utf8()).sum();
    if chosen[..at].ends_with(' ') { at - 1 } else { at }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{parse_json, problem};
    use super::*;
    use crate::data::layout::Layout;
    use crate::text::{Message, Role};
    use serde_json::json;

    const FORMAT: RowFormat = RowFormat::Preference;

    fn said(role: &str, text: &str) -> Value {
        json!({"role": role, "content": text})
    }

    /// The turns of both answers, each with its prompt.
    fn turns(row: Value) -> [Vec<Role>; 2] {
        let Row::Preference { chosen, rejected, .. } = parse_json(FORMAT, row).unwrap() else { panic!("a pair") };
        [chosen, rejected].map(|row| match *row {
            Row::Conversation(conversation) => conversation.messages.iter().map(|m| m.role).collect(),
            Row::Completion { prompt, completion } => {
                prompt.messages.iter().chain(&completion).map(|m: &Message| m.role).collect()
            }
            other => panic!("{other:?}"),
        })
    }

    #[test]
    fn a_prompt_stands_apart_or_is_what_both_begin_with() {
        let (user, good, bad) = (said("user", "a"), said("assistant", "b"), said("assistant", "c"));
        let both = [vec![Role::User, Role::Assistant], vec![Role::User, Role::Assistant]];
        assert_eq!(turns(json!({"prompt": [user], "chosen": [good], "rejected": [bad]})), both);
        assert_eq!(turns(json!({"chosen": [user, good], "rejected": [user, bad]})), both);
        assert_eq!(turns(json!({"prompt": "a", "chosen": [user, good], "rejected": [user, bad]})), both);
        assert_eq!(turns(json!({"prompt": "a", "chosen": "b", "rejected": "c"})), both);
        let cells = json!([[user, good], [user, bad]]);
        assert_eq!(turns(json!({"chosen": cells[0].to_string(), "rejected": cells[1].to_string()})), both);
        // An answer that is the beginning of the other is still one.
        let longer = turns(json!({"chosen": [user, good], "rejected": [user, good, user, bad]}));
        assert_eq!(longer.map(|turns| turns.len()), [2, 4]);
    }

    #[test]
    fn texts_stay_texts_where_nothing_makes_turns_of_them() {
        let pair = |prompt: &str, chosen: &str, rejected: &str| {
            let of = |completion: &str| Row::PromptCompletion { prompt: prompt.into(), completion: completion.into() };
            Row::Preference { chosen: of(chosen).into(), rejected: of(rejected).into(), margin: None }
        };
        let plain = Layout::new(FORMAT, false);
        let row = json!({"prompt": "a", "chosen": "b", "rejected": "c"});
        let row = super::super::parse(&Columns::new(row.as_object().unwrap(), None, &plain)).unwrap();
        assert_eq!(row, pair("a", "b", "c"));
        let implicit =
            |chosen: &str, rejected: &str| parse_json(FORMAT, json!({"chosen": chosen, "rejected": rejected}));
        assert_eq!(implicit("Sky: blue", "Sky: green").unwrap(), pair("Sky:", " blue", " green"));
        assert_eq!(implicit("né", "nè").unwrap(), pair("n", "é", "è"));
    }

    #[test]
    fn a_margin_is_a_number_or_its_text() {
        for (margin, expected) in [
            (json!(0.5), Some(0.5)),
            (json!(-2), Some(-2.0)),
            (json!(" 1.25 "), Some(1.25)),
            (json!(null), None),
            (json!(" "), None),
        ] {
            let row = json!({"prompt": "a", "chosen": "b", "rejected": "c", "margin": margin});
            let Row::Preference { margin, .. } = parse_json(FORMAT, row).unwrap() else { panic!("a pair") };
            assert_eq!(margin, expected);
        }
        for wrong in [json!("large"), json!(true), json!(1e300), json!("inf")] {
            let row = json!({"prompt": "a", "chosen": "b", "rejected": "c", "margin": wrong});
            assert!(problem(FORMAT, row).starts_with("`margin` must be a number, found "), "{wrong}");
        }
    }

    #[test]
    fn what_is_no_pair_is_named() {
        assert!(problem(FORMAT, json!({"prompt": "a", "chosen": "b"})).starts_with("the row has no `rejected`"));
        assert!(
            problem(FORMAT, json!({"chosen": "a", "rejected": "b"}))
                .starts_with("the row has no `prompt`, and `chosen` and `rejected` begin with different words")
        );
        assert_eq!(
            problem(FORMAT, json!({"prompt": "a", "chosen": "b", "rejected": [said("assistant", "c")]})),
            "`prompt` and `rejected` must both be texts or both be lists of messages"
        );
        assert_eq!(
            problem(FORMAT, json!({"chosen": 3, "rejected": "c"})),
            "`chosen` must be a text or a list of messages, found a number"
        );
    }
}
