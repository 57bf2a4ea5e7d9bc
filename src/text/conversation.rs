//! A conversation and its token form: what the text room works on.

use serde_json::Value;

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
}
