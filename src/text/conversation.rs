//! A conversation and its token form: what the text room works on.

use crate::error::{Error, Kind, Result};
use serde_json::{Map, Value};

/// HF's label for a position without a loss.
pub const IGNORE_INDEX: i32 = -100;

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// Instructions before the first turn.
    System,
    /// The person.
    User,
    /// The model (`assistant` in data sets, `model` in Gemma's template).
    Assistant,
    /// The answer of a tool.
    Tool,
}

impl Role {
    /// The role's name in data sets and in Hugging Face's templates.
    pub fn name(self) -> &'static str {
        match self {
            Role::System => "system",
            Role::User => "user",
            Role::Assistant => "assistant",
            Role::Tool => "tool",
        }
    }
}

/// One piece of a message's content.
#[derive(Debug, Clone, PartialEq)]
pub enum Part {
    /// Text.
    Text(String),
}

/// A call of a tool by the model.
#[derive(Debug, Clone, PartialEq)]
pub struct ToolCall {
    /// The function's name.
    pub name: String,
    /// Its arguments, an object.
    pub arguments: Value,
}

/// One turn.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// What is said, in order.
    pub content: Vec<Part>,
    /// Tools the model calls in this turn.
    pub tool_calls: Vec<ToolCall>,
    /// Whether the turn is learnt where turns of its speaker are; `weight: 0` in a data set says no.
    pub learnt: bool,
    /// Other fields, which a model's own template may show: `reasoning_content`, `name`, `tool_call_id`.
    pub fields: Map<String, Value>,
}

impl Message {
    /// A message of one text.
    pub fn new(role: Role, text: impl Into<String>) -> Self {
        Message::of_parts(role, vec![Part::Text(text.into())])
    }

    /// A message of several parts, or of none.
    pub fn of_parts(role: Role, content: Vec<Part>) -> Self {
        Message { role, content, tool_calls: Vec::new(), learnt: true, fields: Map::new() }
    }

    /// A turn of the assistant that calls tools and says nothing.
    pub fn calling(tool_calls: Vec<ToolCall>) -> Self {
        Message { tool_calls, ..Message::of_parts(Role::Assistant, Vec::new()) }
    }

    /// Whether it says nothing that could be seen and calls no tool.
    pub fn is_empty(&self) -> bool {
        self.tool_calls.is_empty() && self.content.iter().all(|Part::Text(text)| text.trim().is_empty())
    }
}

/// A conversation with the tools that the model may call in it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Conversation {
    /// The turns, oldest first.
    pub messages: Vec<Message>,
    /// Tool definitions (JSON schema objects as in Hugging Face data sets).
    pub tools: Vec<Value>,
}

/// Token ids with a label each.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tokenized {
    /// Token ids, with exactly one BOS where the model has one.
    pub input_ids: Vec<u32>,
    /// Aligned with `input_ids` as in Hugging Face (the shift happens in the loss): the id, or [`IGNORE_INDEX`].
    pub labels: Vec<i32>,
    /// Whether `max_length` cut something off.
    pub truncated: bool,
}

impl Tokenized {
    /// Positions with a loss. The first token is predicted from nothing, so it never has one.
    pub fn supervised(&self) -> usize {
        self.labels.iter().skip(1).filter(|&&l| l != IGNORE_INDEX).count()
    }

    /// Cuts the row to its first `max_length` tokens and says how many supervised ones were cut off.
    pub fn truncate(&mut self, max_length: usize) -> usize {
        let before = self.supervised();
        if self.input_ids.len() > max_length {
            self.input_ids.truncate(max_length);
            self.labels.truncate(max_length);
            self.truncated = true;
        }
        before - self.supervised()
    }

    /// Fails if the row, cut to `max_length` where given, would have nothing to learn from; says whether the cut is to
    /// blame. Ask before [`Tokenized::truncate`].
    ///
    /// # Errors
    /// No position with a loss among the first `max_length` tokens.
    pub fn require_supervised(&self, max_length: Option<usize>) -> Result<()> {
        let Some(first) = self.labels.iter().skip(1).position(|&l| l != IGNORE_INDEX).map(|i| i + 1) else {
            return Err(Error::new(Kind::Data, "the row has no supervised token: nothing in it has a loss")
                .hint("`data preview` shows which tokens of a row are supervised"));
        };
        match max_length {
            Some(max_length) if first >= max_length => Err(Error::new(
                Kind::Data,
                format!(
                    "`max_length` {max_length} cuts off all {} supervised tokens of the row, which has {} tokens",
                    self.supervised(),
                    self.input_ids.len()
                ),
            )
            .hint(format!(
                "the first supervised token is number {}: raise `data.max_length`, or set `data.on_long: skip`",
                first + 1
            ))),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(labels: &[i32]) -> Tokenized {
        Tokenized { input_ids: (0..labels.len() as u32).collect(), labels: labels.to_vec(), truncated: false }
    }

    #[test]
    fn the_first_token_is_never_counted_as_supervised() {
        assert_eq!(row(&[0, 1, -100, 3]).supervised(), 2);
        assert_eq!(row(&[]).supervised(), 0);
    }

    #[test]
    fn truncation_cuts_both_and_says_what_it_cost() {
        let mut tokenized = row(&[-100, -100, 2, 3, 4]);
        assert_eq!(tokenized.truncate(9), 0);
        assert!(!tokenized.truncated);
        assert_eq!(tokenized.truncate(4), 1);
        assert_eq!((tokenized.input_ids, tokenized.labels), (vec![0, 1, 2, 3], vec![-100, -100, 2, 3]));
        assert!(tokenized.truncated);
    }

    #[test]
    fn a_row_without_supervision_says_whether_truncation_is_to_blame() {
        assert!(row(&[-100, -100, 2]).require_supervised(Some(3)).is_ok());
        let cut = row(&[-100, -100, 2]).require_supervised(Some(2)).unwrap_err();
        assert_eq!(cut.what(), "`max_length` 2 cuts off all 1 supervised tokens of the row, which has 3 tokens");
        assert_eq!(
            cut.hint_text(),
            Some("the first supervised token is number 3: raise `data.max_length`, or set `data.on_long: skip`")
        );
        let none = row(&[0, -100]).require_supervised(None).unwrap_err();
        assert_eq!(none.what(), "the row has no supervised token: nothing in it has a loss");
    }
}
