//! A conversation as the text that Gemma 3 was trained on, with the bytes that are the model's to say.
//!
//! ```text
//! <bos><start_of_turn>user
//! You are terse.
//!
//! Name a colour.<end_of_turn>
//! <start_of_turn>model
//! Blue.<end_of_turn>
//! ```
//!
//! Here `Blue.<end_of_turn>⏎` is a supervised span: the end of the turn is learnt too, else the model never stops.

use super::conversation::{Conversation, Message, Part, Role};
use super::marks::Marks;
use crate::error::{Error, Kind, Result};
use std::ops::Range;

/// Begins a turn; the speaker and a newline follow.
pub const START_OF_TURN: &str = "<start_of_turn>";
/// Ends a turn; a newline follows.
pub const END_OF_TURN: &str = "<end_of_turn>";

/// What stands around the words of a turn, at most.
const TURN_BYTES: usize = START_OF_TURN.len() + "model\n".len() + "\n\n".len() + END_OF_TURN.len() + 1;

/// A conversation as text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rendered {
    /// The text, which begins with `<bos>`.
    pub text: String,
    /// The bytes of each of the model's turns, from its first word to the newline after `<end_of_turn>`.
    pub spans: Vec<Range<usize>>,
    /// The bytes that come from messages and not from the template: control words in them are mere text.
    pub said: Vec<Range<usize>>,
}

/// Renders a conversation without tools (see [`super::tools::lower`]).
///
/// # Errors
/// Turns that do not alternate between user and assistant, a system message that is not the first, no turns.
pub(super) fn render(
    conversation: &Conversation,
    bos: &str,
    marks: &Marks,
    add_generation_prompt: bool,
) -> Result<Rendered> {
    let (system, turns) = check(conversation)?;
    let parts = conversation.messages.iter().flat_map(|message| &message.content);
    let bytes: usize = parts.filter_map(Part::text).map(str::len).sum();
    let mut text = String::with_capacity(bytes + bos.len() + (turns.len() + 1) * TURN_BYTES);
    text.push_str(bos);
    let (mut spans, mut said) = (Vec::new(), Vec::new());
    for (i, message) in turns.iter().enumerate() {
        let answer = message.role == Role::Assistant;
        text.push_str(START_OF_TURN);
        text.push_str(if answer { "model\n" } else { "user\n" });
        let mut begin = text.len();
        if let (0, Some(system)) = (i, system) {
            text.push_str(system);
            text.push_str("\n\n");
        }
        let start = text.len();
        for part in &message.content {
            match part {
                Part::Text(part) => text.push_str(strip(part)),
                Part::Media(medium) => {
                    said.push(begin..text.len());
                    text.push_str(marks.written(medium.kind)?);
                    begin = text.len();
                }
            }
        }
        said.push(begin..text.len());
        text.push_str(END_OF_TURN);
        text.push('\n');
        if answer {
            spans.push(start..text.len());
        }
    }
    if add_generation_prompt {
        text.push_str(START_OF_TURN);
        text.push_str("model\n");
    }
    Ok(Rendered { text, spans, said })
}

/// Checks who speaks when, and splits off the system message.
///
/// # Errors
/// Those of [`render`].
pub(super) fn check(conversation: &Conversation) -> Result<(Option<&str>, &[Message])> {
    let wrong = |what: String| Error::new(Kind::Data, what);
    let messages = &conversation.messages[..];
    let (system, turns) = match messages {
        [] => return Err(wrong("the conversation has no messages".into())),
        [first, turns @ ..] if first.role == Role::System => (Some(system_text(first)?), turns),
        turns => (None, turns),
    };
    if turns.is_empty() {
        return Err(wrong("the conversation has a system message, but no turns".into()));
    }
    for (i, message) in turns.iter().enumerate() {
        let number = messages.len() - turns.len() + i + 1;
        let expected = if i % 2 == 0 { Role::User } else { Role::Assistant };
        match message.role {
            role if role == expected => {}
            Role::System => {
                return Err(wrong(format!("message {number} is a system message, which can only come first")));
            }
            role if i == 0 => {
                return Err(wrong(format!("message {number} is the {}'s, but the user must speak first", role.name())));
            }
            role => {
                let error = wrong(format!(
                    "message {number} is the {}'s, but it is the {}'s turn",
                    role.name(),
                    expected.name()
                ));
                return Err(error.hint("user and assistant must alternate; merge neighbouring messages of one speaker"));
            }
        }
    }
    Ok((system, turns))
}

/// The system message's text. Gemma's template shows only its first part, so there may be no other.
fn system_text(message: &Message) -> Result<&str> {
    match &message.content[..] {
        [] => Ok(""),
        [Part::Text(text)] => Ok(text),
        parts if parts.iter().any(|part| part.text().is_none()) => {
            Err(Error::new(Kind::Data, "the system message holds a picture or sound")
                .hint("Gemma's template shows only its text; put it into the user's message"))
        }
        parts => Err(Error::new(Kind::Data, format!("the system message has {} parts", parts.len()))
            .hint("Gemma's template shows only the first; join them into one text")),
    }
}

/// `text` without the white space around it, as Python's `str.strip()` sees white space.
pub(super) fn strip(text: &str) -> &str {
    // Python counts the four separators U+001C to U+001F, Unicode's `White_Space` does not.
    text.trim_matches(|c: char| c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn talk(messages: &[(Role, &str)]) -> Conversation {
        let messages = messages.iter().map(|&(role, text)| Message::new(role, text)).collect();
        Conversation { messages, tools: vec![] }
    }

    #[test]
    fn spans_are_the_answers_with_their_ends() {
        let conversation = talk(&[
            (Role::System, "S"),
            (Role::User, " a "),
            (Role::Assistant, "\nb "),
            (Role::User, "c"),
            (Role::Assistant, "d"),
        ]);
        let Rendered { text, spans, .. } = render(&conversation, "<bos>", &Marks::default(), false).unwrap();
        assert_eq!(
            text,
            "<bos><start_of_turn>user\nS\n\na<end_of_turn>\n<start_of_turn>model\nb<end_of_turn>\n\
             <start_of_turn>user\nc<end_of_turn>\n<start_of_turn>model\nd<end_of_turn>\n"
        );
        let answers: Vec<&str> = spans.into_iter().map(|span| &text[span]).collect();
        assert_eq!(answers, ["b<end_of_turn>\n", "d<end_of_turn>\n"]);
    }

    #[test]
    fn a_prompt_ends_where_the_model_begins() {
        let rendered = render(&talk(&[(Role::User, "a")]), "<bos>", &Marks::default(), true).unwrap();
        assert_eq!(rendered.text, "<bos><start_of_turn>user\na<end_of_turn>\n<start_of_turn>model\n");
        assert!(rendered.spans.is_empty());
    }

    #[test]
    fn white_space_is_pythons() {
        assert_eq!(strip("\u{1c}\u{85}\u{a0} a \u{200b}\u{3000}\n"), "a \u{200b}");
    }

    #[test]
    fn who_speaks_out_of_turn_is_told_so() {
        use Role::{Assistant, System, User};
        let refused = |messages: &[(Role, &str)]| {
            render(&talk(messages), "", &Marks::default(), false).unwrap_err().what().to_owned()
        };
        assert_eq!(refused(&[]), "the conversation has no messages");
        assert_eq!(refused(&[(System, "a")]), "the conversation has a system message, but no turns");
        assert_eq!(refused(&[(Assistant, "a")]), "message 1 is the assistant's, but the user must speak first");
        assert_eq!(
            refused(&[(System, "s"), (Assistant, "a")]),
            "message 2 is the assistant's, but the user must speak first"
        );
        assert_eq!(refused(&[(User, "a"), (User, "b")]), "message 2 is the user's, but it is the assistant's turn");
        assert_eq!(refused(&[(User, "a"), (System, "b")]), "message 2 is a system message, which can only come first");
        let mut parts = talk(&[(System, "a"), (User, "b")]);
        parts.messages[0].content.push(Part::Text("c".into()));
        assert_eq!(render(&parts, "", &Marks::default(), false).unwrap_err().what(), "the system message has 2 parts");
    }
}
