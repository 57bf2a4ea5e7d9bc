//! The choices of the text room that a recipe names.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which tokens of a conversation (or of a prompt with its completion) have a loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TrainOn {
    /// Every answer of the model, each with its `<end_of_turn>`.
    #[default]
    Assistant,
    /// Only the model's last answer.
    LastAssistant,
    /// Every token: the user's words and all of a prompt too.
    All,
}
