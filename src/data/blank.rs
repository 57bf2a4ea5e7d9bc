//! Rows of which a half is missing, as in a spreadsheet with a cell that was not filled in.

use super::row::Row;
use crate::text::{Message, Part, Role};

/// Whether the model is to say something that nobody asked for: in a turn before it stands nothing.
pub(super) fn asks_nothing(row: &Row) -> bool {
    let is_blank = |part: &Part| matches!(part, Part::Text(text) if text.trim().is_empty());
    let is_unasked = |message: &Message| message.role == Role::User && message.content.iter().all(is_blank);
    match row {
        Row::Conversation(conversation) => conversation.messages.iter().any(is_unasked),
        Row::Completion { prompt, completion } => prompt.messages.iter().chain(completion).any(is_unasked),
        Row::PromptCompletion { prompt, .. } => prompt.trim().is_empty(),
        Row::Preference { chosen, .. } => asks_nothing(chosen),
        Row::Unpaired { row, .. } => asks_nothing(row),
        Row::Prompt { row, .. } => matches!(&**row, Row::Text(text) if text.trim().is_empty()) || asks_nothing(row),
        Row::Text(_) | Row::Tokens { .. } => false,
    }
}

/// Whether the model is to say nothing in one of its turns.
pub(super) fn says_nothing(row: &Row) -> bool {
    let blank = |message: &Message| {
        // Pictures and sounds are shown to a model; it says none.
        let text = |part: &Part| part.text().is_some_and(|text| !text.trim().is_empty());
        message.role == Role::Assistant && message.tool_calls.is_empty() && !message.content.iter().any(text)
    };
    match row {
        Row::Conversation(conversation) => conversation.messages.iter().any(blank),
        Row::Completion { completion, .. } => completion.iter().any(blank),
        Row::PromptCompletion { completion, .. } => completion.trim().is_empty(),
        Row::Preference { chosen, .. } => says_nothing(chosen),
        Row::Unpaired { row, desirable } => *desirable && says_nothing(row),
        Row::Text(text) => text.trim().is_empty(),
        Row::Prompt { .. } | Row::Tokens { .. } => false,
    }
}

/// Whether the answer that the model is not to give says nothing.
pub(super) fn rejects_nothing(row: &Row) -> bool {
    match row {
        Row::Preference { rejected, .. } => says_nothing(rejected),
        Row::Unpaired { row, desirable } => !*desirable && says_nothing(row),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::Conversation;

    #[test]
    fn a_turn_of_white_space_asks_nothing() {
        let said = |turns: &[(Role, &str)]| {
            let messages = turns.iter().map(|(role, text)| Message::new(*role, *text)).collect();
            Row::Conversation(Conversation { messages, tools: Vec::new() })
        };
        assert!(asks_nothing(&said(&[(Role::User, " \n"), (Role::Assistant, "b")])));
        assert!(asks_nothing(&said(&[
            (Role::User, "a"),
            (Role::Assistant, "b"),
            (Role::User, ""),
            (Role::Assistant, "c")
        ])));
        assert!(!asks_nothing(&said(&[(Role::System, ""), (Role::User, "a"), (Role::Assistant, "")])));
        let pair = |prompt: &str| Row::PromptCompletion { prompt: prompt.into(), completion: "b".into() };
        assert!(asks_nothing(&pair("\t")) && !asks_nothing(&pair("a")));
        assert!(!asks_nothing(&Row::Text(String::new())));
        let prompt = |row: Row| Row::Prompt { row: row.into(), columns: String::new() };
        for (blank, asked) in [
            (said(&[(Role::System, "s"), (Role::User, "")]), said(&[(Role::User, "a")])),
            (Row::Text(" ".into()), Row::Text("a".into())),
        ] {
            assert!(asks_nothing(&prompt(blank)) && !asks_nothing(&prompt(asked)));
        }
        let both =
            |prompt: &str| Row::Preference { chosen: pair(prompt).into(), rejected: pair(prompt).into(), margin: None };
        let judged = |prompt: &str| Row::Unpaired { row: pair(prompt).into(), desirable: false };
        assert!(asks_nothing(&both("")) && asks_nothing(&judged("\n")));
        assert!(!asks_nothing(&both("a")) && !asks_nothing(&judged("a")));
    }
}
