//! What the tests of this room share: an encoder of bytes and small data files.

use super::media::MediaRules;
use super::options::{OnBadRow, OnLong, RowFormat};
use super::row::{Encode, Row, supervise_after};
use super::spec::{DataSpec, SourceSpec};
use crate::error::Result;
use crate::text::{Conversation, IGNORE_INDEX, MediaKind, MediaRange, Message, Part, Prefix, Role, Tokenized};
use std::path::{Path, PathBuf};

/// A token per byte, with a BOS and a stop, and in rows of tokens with a placeholder for pictures; a conversation's assistant turns are supervised, each with its stop.
pub(super) struct Bytes;

impl Bytes {
    pub const BOS: u32 = 256;
    pub const STOP: u32 = 257;
    pub const EOS: u32 = 259;
    /// Each run of it is a picture.
    pub const PICTURE: u32 = 258;

    fn push(tokens: &mut Tokenized, ids: impl IntoIterator<Item = u32>, supervised: bool) {
        for id in ids {
            tokens.input_ids.push(id);
            tokens.labels.push(if supervised { id as i32 } else { IGNORE_INDEX });
        }
    }

    fn conversation(conversation: &Conversation) -> Tokenized {
        let mut tokens = Tokenized::default();
        Self::push(&mut tokens, [Self::BOS], false);
        for Message { role, content, .. } in &conversation.messages {
            let supervised = *role == Role::Assistant;
            for text in content.iter().filter_map(Part::text) {
                Self::push(&mut tokens, text.bytes().map(u32::from), supervised);
            }
            Self::push(&mut tokens, [Self::STOP], supervised);
        }
        tokens
    }

    /// All tokens of a row.
    pub fn all_of(row: &Row) -> Tokenized {
        let mut tokens = Tokenized::default();
        match row {
            Row::Conversation(conversation) => return Self::conversation(conversation),
            Row::Completion { prompt, completion } => {
                let mut full = prompt.clone();
                full.messages.extend(completion.iter().cloned());
                return supervise_after(Self::conversation(&full), &Self::conversation(prompt));
            }
            Row::PromptCompletion { prompt, completion } => {
                Self::push(&mut tokens, [Self::BOS], false);
                Self::push(&mut tokens, prompt.bytes().map(u32::from), false);
                Self::push(&mut tokens, completion.bytes().map(u32::from), true);
                if !completion.is_empty() {
                    Self::push(&mut tokens, [Self::STOP], true);
                }
            }
            // `encode` puts pairs together.
            Row::Preference { chosen, .. } => return Self::all_of(chosen),
            Row::Unpaired { row, .. } => {
                tokens = Self::all_of(row);
                if let (Row::Prompt { .. }, Some(label), Some(id)) =
                    (&**row, tokens.labels.last_mut(), tokens.input_ids.last())
                {
                    *label = *id as i32;
                }
            }
            Row::Prompt { row, .. } => {
                tokens = Self::all_of(row);
                tokens.labels.fill(crate::text::IGNORE_INDEX);
            }
            Row::Text(text) => {
                Self::push(&mut tokens, [Self::BOS], false);
                Self::push(&mut tokens, text.bytes().map(u32::from), true);
            }
            Row::Tokens { input_ids, labels, .. } => {
                tokens.input_ids.clone_from(input_ids);
                let mut start = 0;
                for run in input_ids.chunk_by(|a, b| a == b) {
                    let (range, content) = (start..start + run.len(), [run.len() as u8; 32]);
                    start = range.end;
                    let medium = MediaRange { tokens: range, kind: MediaKind::Image, content };
                    tokens.media.extend((run[0] == Self::PICTURE).then_some(medium));
                }
                tokens.labels = labels.clone().unwrap_or_else(|| input_ids.iter().map(|&id| id as i32).collect());
            }
        }
        tokens
    }
}

impl Encode for Bytes {
    fn encode(&self, row: &Row, most: usize) -> Result<Prefix> {
        let of = |row: &Row| Prefix::of(&Self::all_of(row), most, &[]);
        Ok(match row {
            Row::Preference { chosen, rejected, .. } => of(chosen).followed_by(of(rejected)),
            row => of(row),
        })
    }

    fn each_of_text(&self, text: &str, each: &mut dyn FnMut(u32)) -> Result<()> {
        Self::all_of(&Row::Text(text.to_owned())).input_ids.into_iter().for_each(each);
        Ok(())
    }

    fn fingerprint(&self) -> String {
        "bytes".into()
    }

    fn stop_tokens(&self) -> Vec<u32> {
        vec![Self::STOP]
    }

    fn bos(&self) -> Option<u32> {
        Some(Self::BOS)
    }

    fn eos(&self) -> Option<u32> {
        Some(Self::EOS)
    }
}

/// Writes `content` as `name` in `dir`.
pub(super) fn write(dir: &Path, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
    let path = dir.join(name);
    std::fs::write(&path, content).unwrap();
    path
}

/// One source of weight 1, its prompts plain text; rows of up to 64 tokens, anything wrong is an error.
pub(super) fn spec(path: &Path, format: RowFormat) -> DataSpec {
    DataSpec {
        key: "data.train",
        sources: vec![SourceSpec { template: false, ..SourceSpec::new(path.to_str().unwrap(), format) }],
        max_length: 64,
        on_long: Some(OnLong::Truncate),
        on_bad_row: OnBadRow::Error,
        max_row_bytes: crate::data::MAX_ROW_BYTES,
        media: MediaRules::default(),
        with_eos: false,
        unpair: false,
    }
}
