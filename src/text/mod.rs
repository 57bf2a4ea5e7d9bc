//! Tokenizer, chat template, supervised spans.
//!
//! Text becomes tokens on one path: a [`Conversation`] is lowered (tools become plain turns, [`tools`]), rendered by us
//! from its structure ([`render`]), checked against the model's own template ([`template`]), and tokenised in one go
//! ([`encode`]), so that supervised spans are known to the byte and there is exactly one `<bos>`.

pub mod called;
mod controls;
pub mod conversation;
pub mod encode;
mod gguf_vocab;
mod jinja;
mod marks;
pub mod media_range;
mod native;
pub mod options;
pub mod render;
pub mod rendered;
pub mod spm;
pub mod stream;
pub mod template;
pub mod tokenizer;
mod tokenizer_json;
pub mod tools;

pub use conversation::{Conversation, IGNORE_INDEX, Message, Part, Prefix, Role, Tokenized, ToolCall};
pub use encode::Encoder;
pub use media_range::{MediaKind, MediaRange, MediaSource, MediaTokens, Medium};
pub use options::TrainOn;
pub use rendered::Rendered;
pub use stream::TokenStream;
pub use template::ChatTemplate;
pub use tokenizer::Tokenizer;
