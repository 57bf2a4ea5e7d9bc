//! What a renderer makes of a conversation.

use std::ops::Range;

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
