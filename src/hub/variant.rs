//! Whether a checkpoint is pre-trained (`-pt`) or instruction-tuned (`-it`): mixing them up trains the wrong thing.

use serde::Serialize;
use std::fmt;

/// What a checkpoint was made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Variant {
    /// Continues text; knows no chat format.
    Pretrained,
    /// Answers in Gemma's chat format.
    Instruct,
    /// The clues say nothing.
    Unknown,
}

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Variant::Pretrained => "pre-trained",
            Variant::Instruct => "instruction-tuned",
            Variant::Unknown => "pre-trained or instruction-tuned",
        })
    }
}

/// What can be known of a checkpoint without running it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Clues<'a> {
    /// Its Hub id, folder, file name or GGUF `general.name`.
    pub name: &'a str,
    /// Whether its tokenizer files or GGUF carry a chat template.
    pub has_chat_template: bool,
    /// Whether `<end_of_turn>` is among the stop tokens of its own `generation_config.json` or `config.json`.
    pub stops_at_end_of_turn: bool,
}

/// Says which variant a checkpoint is and why, as far as its files tell.
///
/// A name that follows Google's (`gemma-3-1b-it`, `-pt`; `gemma-3-270m` without either is pre-trained) decides; then a
/// chat template, which only instruction-tuned checkpoints are published with; then the stop tokens.
pub fn base_or_instruct(clues: Clues<'_>) -> (Variant, &'static str) {
    let name = clues.name.rsplit(['/', '\\']).next().unwrap_or_default().to_lowercase();
    let words: Vec<&str> = name.split(|c: char| !c.is_ascii_alphanumeric()).filter(|w| !w.is_empty()).collect();
    let has = |choices: &[&str]| words.iter().any(|word| choices.contains(word));
    if has(&["it", "instruct", "chat"]) {
        (Variant::Instruct, "its name says so")
    } else if has(&["pt", "base", "pretrained"]) {
        (Variant::Pretrained, "its name says so")
    } else if clues.has_chat_template {
        (Variant::Instruct, "it comes with a chat template")
    } else if words.windows(3).any(|w| w == ["gemma", "3", "270m"]) {
        (Variant::Pretrained, "its name has no `-it`")
    } else if clues.stops_at_end_of_turn {
        (Variant::Instruct, "it stops at `<end_of_turn>`")
    } else {
        (Variant::Unknown, "neither its name nor its files tell")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_decide_then_the_template_then_the_stop_tokens() {
        let of = |name, has_chat_template, stops_at_end_of_turn| {
            base_or_instruct(Clues { name, has_chat_template, stops_at_end_of_turn }).0
        };
        assert_eq!(of("google/gemma-3-1b-it", false, false), Variant::Instruct);
        assert_eq!(of("google/gemma-3-1b-pt", true, true), Variant::Pretrained);
        assert_eq!(of("models/gemma-3-27b-it-qat-q4_0.gguf", false, false), Variant::Instruct);
        assert_eq!(of("google/gemma-3-270m", false, false), Variant::Pretrained);
        assert_eq!(of("google/gemma-3-270m", true, false), Variant::Instruct);
        assert_eq!(of("gguf/gemma-3-270m-q4_k_m.gguf", false, true), Variant::Pretrained);
        assert_eq!(of("it/my-model", false, false), Variant::Unknown);
        assert_eq!(of("my-model", true, false), Variant::Instruct);
        assert_eq!(of("my-model", false, true), Variant::Instruct);
        assert_eq!(of("gutenberg-edition", false, false), Variant::Unknown);
    }
}
