//! The choices about data that a recipe offers.

use crate::media::audio::OnLong as OnLong30;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;

/// How a row of a data file is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RowFormat {
    /// Seen from the columns of the first rows, and said.
    #[default]
    Auto,
    /// `{"messages": [{"role", "content"}, ..], "tools": [..]?}`.
    Messages,
    /// `{"prompt", "completion", "system"?}`: two texts or two lists of messages.
    PromptCompletion,
    /// `{"instruction", "input"?, "output", "system"?, "history"?}`.
    Alpaca,
    /// `{"conversations": [{"from", "value"}, ..], "system"?, "tools"?}`.
    Sharegpt,
    /// `{"text"}`: every token is learnt.
    Text,
    /// `{"input_ids": [..], "labels": [..]?}`: already tokenised.
    Tokens,
    /// `{"prompt"?, "chosen", "rejected", "margin"?}`: two answers, of which the first is preferred; for `task: dpo`, `orpo` and
    /// `reward`.
    Preference,
    /// `{"prompt", "completion", "label"}`: an answer, and whether it is a good one; for `task: kto` and `reward`. Of `reward` also
    /// `{"prompt", "label"}`: a prompt, and whether it is to be answered `local` or `remote`.
    Unpaired,
    /// `{"prompt", ..}`: what the model answers itself, and columns that rewards read; for `task: grpo` and `rloo`.
    PromptOnly,
}

impl RowFormat {
    /// The word for it in a recipe.
    pub fn name(self) -> &'static str {
        match self {
            RowFormat::Auto => "auto",
            RowFormat::Messages => "messages",
            RowFormat::PromptCompletion => "prompt_completion",
            RowFormat::Alpaca => "alpaca",
            RowFormat::Sharegpt => "sharegpt",
            RowFormat::Text => "text",
            RowFormat::Tokens => "tokens",
            RowFormat::Preference => "preference",
            RowFormat::Unpaired => "unpaired",
            RowFormat::PromptOnly => "prompt_only",
        }
    }

    /// The columns that rows of this format may have, as the format calls them; every column where that is not known.
    pub fn columns(self) -> &'static [&'static str] {
        match self {
            RowFormat::Auto => &COLUMNS,
            RowFormat::Messages => &["messages", "tools", "images", "image", "audio", "audios", "file_name"],
            RowFormat::PromptCompletion => {
                &["prompt", "completion", "system", "tools", "images", "image", "audio", "audios", "file_name"]
            }
            RowFormat::Alpaca => &[
                "instruction",
                "input",
                "output",
                "system",
                "history",
                "images",
                "image",
                "audio",
                "audios",
                "file_name",
            ],
            RowFormat::Sharegpt => {
                &["conversations", "conversation", "system", "tools", "images", "image", "audio", "audios", "file_name"]
            }
            RowFormat::Text => &["text", "file_name"],
            RowFormat::Tokens => {
                &["input_ids", "labels", "attention_mask", "images", "image", "audio", "audios", "file_name"]
            }
            RowFormat::Preference => &[
                "prompt",
                "chosen",
                "rejected",
                "margin",
                "system",
                "tools",
                "images",
                "image",
                "audio",
                "audios",
                "file_name",
            ],
            RowFormat::Unpaired => {
                &["prompt", "completion", "label", "system", "tools", "images", "image", "audio", "audios", "file_name"]
            }
            RowFormat::PromptOnly => &["prompt", "system", "tools", "images", "image", "audio", "audios", "file_name"],
        }
    }
}

/// Every column that some format reads.
const COLUMNS: [&str; 24] = [
    "messages",
    "tools",
    "prompt",
    "completion",
    "chosen",
    "rejected",
    "margin",
    "label",
    "instruction",
    "input",
    "output",
    "system",
    "history",
    "conversations",
    "conversation",
    "text",
    "input_ids",
    "labels",
    "attention_mask",
    "images",
    "image",
    "audio",
    "audios",
    "file_name",
];

impl fmt::Display for RowFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What happens to a sound that is longer than a model hears at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnLongAudio {
    /// The row cannot be used.
    Error,
    /// It becomes several sounds, one after the other.
    Split,
    /// Its end is cut off.
    Truncate,
}

impl From<OnLongAudio> for OnLong30 {
    fn from(keys: OnLongAudio) -> Self {
        match keys {
            OnLongAudio::Error => OnLong30::Error,
            OnLongAudio::Split => OnLong30::Split,
            OnLongAudio::Truncate => OnLong30::Truncate,
        }
    }
}

/// What happens to a row of more than `max_length` tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnLong {
    /// Its end is cut off.
    Truncate,
    /// It is left out and counted.
    Skip,
    /// It is an error.
    Error,
    /// It becomes several rows, each of which begins with `<bos>`; for plain text only.
    Split,
}

impl OnLong {
    /// What happens where nothing is said: a long text goes on in the next row, an answer without its question teaches
    /// nothing.
    pub fn usual(format: RowFormat) -> Self {
        if format == RowFormat::Text { OnLong::Split } else { OnLong::Truncate }
    }
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
