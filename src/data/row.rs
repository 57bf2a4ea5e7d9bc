//! A row after its format is understood, and the trait that turns it into tokens.

use crate::error::Result;
use crate::text::{Conversation, IGNORE_INDEX, Medium, Message, Prefix, Tokenized};
use std::fmt;
use std::path::Path;
use std::sync::Arc;

/// What a row holds, whatever format it came in.
#[derive(Debug, Clone, PartialEq)]
pub enum Row {
    /// A conversation, supervised as `train_on` says.
    Conversation(Conversation),
    /// A conversation of which only what follows the prompt may be supervised, unless `train_on` is `all`. Made only
    /// from prompts that hold assistant turns: all others are a plain [`Row::Conversation`].
    Completion {
        /// The prompt's messages and tools.
        prompt: Conversation,
        /// The messages to learn.
        completion: Vec<Message>,
    },
    /// Two plain texts: the second is supervised, and the first only if `train_on` is `all`.
    PromptCompletion {
        /// What is given.
        prompt: String,
        /// What is learnt.
        completion: String,
    },
    /// Two answers to the same prompt, each as a row of its own.
    Preference {
        /// The one that is preferred.
        chosen: Box<Row>,
        /// The other.
        rejected: Box<Row>,
        /// By how much it is better, where the row says so.
        margin: Option<f32>,
    },
    /// An answer that somebody judged, or a prompt.
    Unpaired {
        /// The answer, as a row of its own, or a [`Row::Prompt`].
        row: Box<Row>,
        /// Whether it is a good one; of a prompt, whether it is one for this model.
        desirable: bool,
    },
    /// What is to be answered, and nothing to learn.
    Prompt {
        /// A conversation that the model is to go on with, or a text.
        row: Box<Row>,
        /// The row's columns as JSON, pictures and sounds left out: what rewards read.
        columns: String,
    },
    /// A plain text, all supervised.
    Text(String),
    /// Ids that were made elsewhere.
    Tokens {
        /// Token ids.
        input_ids: Vec<u32>,
        /// Aligned with `input_ids`, -100 skips; absent: every token is supervised.
        labels: Option<Vec<i32>>,
        /// What their placeholders stand for: pictures in order, then sounds.
        media: Vec<Medium>,
    },
}

impl Row {
    /// The pictures and sounds in it, to be looked at.
    pub fn media_mut(&mut self) -> Vec<&mut Medium> {
        match self {
            Row::Conversation(conversation) => conversation.messages.iter_mut().flat_map(Message::media_mut).collect(),
            Row::Completion { prompt, completion } => {
                prompt.messages.iter_mut().chain(completion).flat_map(Message::media_mut).collect()
            }
            Row::Tokens { media, .. } => media.iter_mut().collect(),
            Row::Preference { chosen, rejected, .. } => {
                [chosen, rejected].into_iter().flat_map(|row| row.media_mut()).collect()
            }
            Row::Unpaired { row, .. } | Row::Prompt { row, .. } => row.media_mut(),
            Row::PromptCompletion { .. } | Row::Text(_) => Vec::new(),
        }
    }
}

/// Turns rows into tokens. Called from several threads.
pub trait Encode: Sync {
    /// The first `most` tokens of `row` (of a pair, of each of its two), after checking what can be checked: that the model has
    /// every id and label, and that the rendered conversation equals the model's own template.
    ///
    /// # Errors
    /// When the row cannot be rendered or tokenised. No place is needed: the caller adds file and row.
    fn encode(&self, row: &Row, most: usize) -> Result<Prefix>;

    /// Calls `each` with all tokens of a [`Row::Text`], in order.
    ///
    /// # Errors
    /// As [`Encode::encode`].
    fn each_of_text(&self, text: &str, each: &mut dyn FnMut(u32)) -> Result<()>;

    /// Changes whenever [`Encode::encode`] may give other tokens for the same row: part of the cache's key.
    fn fingerprint(&self) -> String;

    /// The tokens at which the model stops generating (`<end_of_turn>`, `<eos>`).
    fn stop_tokens(&self) -> Vec<u32>;

    /// The token that begins each text, if there is one.
    fn bos(&self) -> Option<u32>;

    /// The token that ends each text, if there is one.
    fn eos(&self) -> Option<u32> {
        None
    }

    /// Whether the model sees pictures or hears: a row with them is then another row without them.
    fn is_of_media(&self) -> bool {
        false
    }

    /// The system message that it gives conversations without one.
    fn system(&self) -> Option<&str> {
        None
    }

    /// What [`Encode::encode`] takes otherwise than it is written.
    fn noticed(&self, _row: &Row) -> Noticed {
        Noticed::default()
    }
}

/// What of a row is taken otherwise than it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Noticed {
    /// Control words in messages, which are taken as text.
    pub control_words: bool,
    /// Ends of a turn that an answer brings along, which are left out.
    pub ends: bool,
    /// `<image>` or `<audio>` in what the user says, where the row has no picture or sound for it: taken as text.
    pub placeholders: bool,
}

/// Where a row came from, as the user would look for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowId {
    /// The data file.
    pub file: Arc<Path>,
    /// From 1: the line in `.jsonl`, the element in `.json`, the record in `.csv` (the header is 1), the row in
    /// `.parquet`.
    pub row: u32,
}

impl fmt::Display for RowId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, row {}", self.file.display(), self.row)
    }
}

/// Takes the loss from the part of `full` that `prompt` (the same conversation, cut short) already holds: how an
/// [`Encode`] makes the labels of a [`Row::Completion`].
pub fn supervise_after(mut full: Tokenized, prompt: &Tokenized) -> Tokenized {
    let shared = full.input_ids.iter().zip(&prompt.input_ids).take_while(|(a, b)| a == b).count();
    full.labels.iter_mut().take(shared).for_each(|label| *label = IGNORE_INDEX);
    full
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_follows_the_prompt_keeps_its_loss() {
        let full = Tokenized { input_ids: vec![2, 7, 8, 9], labels: vec![-100, 7, 8, 9], ..Tokenized::default() };
        let prompt = Tokenized { input_ids: vec![2, 7], labels: vec![-100, 7], ..Tokenized::default() };
        assert_eq!(supervise_after(full, &prompt).labels, [-100, -100, 8, 9]);
    }
}
