//! The choices about data that a recipe offers.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;

/// How a row of a data file is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RowFormat {
    /// `{"messages": [{"role", "content"}, ..], "tools": [..]?}`.
    #[default]
    Messages,
    /// `{"prompt", "completion"}`: two texts or two lists of messages.
    PromptCompletion,
    /// `{"instruction", "input"?, "output", "system"?, "history"?}`.
    Alpaca,
    /// `{"conversations": [{"from", "value"}, ..], "system"?, "tools"?}`.
    Sharegpt,
    /// `{"text"}`: every token is learnt.
    Text,
    /// `{"input_ids": [..], "labels": [..]?}`: already tokenised.
    Tokens,
}

impl RowFormat {
    /// The word for it in a recipe.
    pub fn name(self) -> &'static str {
        match self {
            RowFormat::Messages => "messages",
            RowFormat::PromptCompletion => "prompt_completion",
            RowFormat::Alpaca => "alpaca",
            RowFormat::Sharegpt => "sharegpt",
            RowFormat::Text => "text",
            RowFormat::Tokens => "tokens",
        }
    }
}

impl fmt::Display for RowFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What happens to a row of more than `max_length` tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnLong {
    /// Its end is cut off.
    #[default]
    Truncate,
    /// It is left out and counted.
    Skip,
    /// It is an error.
    Error,
}

/// What happens to a row that cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnBadRow {
    /// It is an error; all such rows are reported together.
    #[default]
    Error,
    /// It is left out and counted, with its reason.
    Skip,
}
