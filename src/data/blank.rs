//! Rows of which a half is missing, as in a spreadsheet with a cell that was not filled in.

use super::row::Row;
use crate::text::{Message, Part, Role};

/// What programs write where there is no value: pandas, Excel, SQL, Python, JavaScript. Words that people say (`none`, `NA`) are none.
const WORDS_FOR_NOTHING: [&str; 15] = [
    "nan",
    "NaN",
    "<NA>",
    "NULL",
    "null",
    "None",
    "undefined",
    "[object Object]",
    "#N/A",
    "#REF!",
    "#NAME?",
    "#VALUE!",
    "#DIV/0!",
    "#NUM!",
    "#NULL!",
];

/// Whether somebody says nothing but a word that a program writes where there is no value.
pub(super) fn says_a_word_for_nothing(row: &Row) -> bool {
    let is_word = |text: &str| WORDS_FOR_NOTHING.contains(&text.trim());
    let says = |message: &Message| matches!(&message.content[..], [Part::Text(text)] if is_word(text));
    match row {
        Row::Conversation(conversation) => conversation.messages.iter().any(says),
        Row::Completion { prompt, completion } => prompt.messages.iter().chain(completion).any(says),
        Row::PromptCompletion { prompt, completion } => is_word(prompt) || is_word(completion),
        Row::Preference { chosen, rejected, .. } => {
            says_a_word_for_nothing(chosen) || says_a_word_for_nothing(rejected)
        }
        Row::Unpaired { row, .. } | Row::Prompt { row, .. } => says_a_word_for_nothing(row),
        Row::Text(text) => is_word(text),
        Row::Tokens { .. } => false,
    }
}

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
    fn a_word_for_nothing_is_known_and_what_people_say_is_not() {
        let pair = |prompt: &str, completion: &str| Row::PromptCompletion {
            prompt: prompt.into(),
            completion: completion.into(),
        };
        for word in ["nan", " NULL ", "#N/A", "#REF!", "None\n", "[object Object]"] {
            assert!(says_a_word_for_nothing(&pair("a", word)) && says_a_word_for_nothing(&pair(word, "b")), "{word}");
            let said = Message::new(Role::Assistant, word);
            let conversation = Conversation { messages: vec![said], tools: Vec::new() };
            assert!(says_a_word_for_nothing(&Row::Conversation(conversation)), "{word}");
        }
        for word in ["none", "NA", "n/a", "no", "", "nan?", "The answer is nan"] {
            assert!(!says_a_word_for_nothing(&pair("a", word)), "{word}");
        }
    }

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
