//! Tokenizer, chat template, supervised spans.

pub mod conversation;
pub mod options;

pub use conversation::{Conversation, IGNORE_INDEX, Message, Part, Role, Tokenized, ToolCall};
