//! Rows as the model will see them, for the eye and for scripts.

use super::batch::collate;
use super::dataset::Dataset;
use crate::error::Result;
use crate::progress::counted;
use crate::text::{IGNORE_INDEX, MediaKind, MediaRange, Tokenized};
use serde::Serialize;
use std::ops::Range;
use std::path::Path;

/// A stretch of text that is supervised as a whole or not at all.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Piece {
    /// The text.
    pub text: String,
    /// Whether it is learnt.
    pub supervised: bool,
}

/// A picture or sound, or a piece of one, among the tokens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Shown {
    /// Its file; of bytes that stood in the row, that.
    pub file: String,
    /// Where its soft tokens begin.
    pub start: usize,
    /// How many there are.
    pub tokens: usize,
}

/// A bin (or a single row) as the model will see it. Its JSON form is a line of `data preview --json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Preview {
    /// The (first) row's index in the data set, from 0.
    pub row: u32,
    /// Where each row came from, as `file, row N`.
    pub origins: Vec<String>,
    /// How the (first) row was read: `prompt_completion, through the chat template`.
    pub format: String,
    /// Token ids.
    pub input_ids: Vec<u32>,
    /// Aligned with `input_ids`; -100 where nothing is learnt.
    pub labels: Vec<i32>,
    /// `[start, end)` of each row.
    pub segments: Vec<[usize; 2]>,
    /// Its pictures, whole ones and crops.
    pub images: Vec<Shown>,
    /// Its sounds.
    pub audio: Vec<Shown>,
    /// The text, in supervised and other stretches, for showing.
    pub pieces: Vec<Piece>,
}

impl Preview {
    /// The whole text, and the bytes of it that are learnt.
    pub fn marked(&self) -> (String, Vec<Range<usize>>) {
        let mut text = String::new();
        let mut learnt = Vec::new();
        for piece in &self.pieces {
            let start = text.len();
            text.push_str(&piece.text);
            learnt.extend(piece.supervised.then_some(start..text.len()));
        }
        (text, learnt)
    }
}

/// Previews the rows of one bin; `decode` turns ids into text, special tokens included.
///
/// # Errors
/// When a row cannot be read.
pub fn preview(dataset: &Dataset, bin: &[u32], decode: &dyn Fn(&[u32]) -> String) -> Result<Preview> {
    let batch = collate(dataset, &[bin])?;
    let is_prompt = Tokenized::is_prompt_alone(&batch.labels);
    let supervised = |at: usize| batch.labels[at] != IGNORE_INDEX;
    let of_kind = |kind| batch.media.iter().filter(move |medium| medium.kind == kind);
    let shown = |medium: &MediaRange| Shown {
        file: dataset.media().name(&medium.content),
        start: medium.tokens.start,
        tokens: medium.tokens.len(),
    };
    let medium_at = |at: usize| batch.media.iter().find(|medium| medium.tokens.start == at);
    let (mut pieces, mut segments) = (Vec::new(), Vec::new());
    let mut start = 0;
    for length in batch.lengths {
        let last = start + length;
        segments.push([start, last]);
        for end in start + 1..=last {
            match medium_at(start) {
                Some(medium) if end == medium.tokens.end => {
                    pieces.push(Piece { text: in_brackets(medium, &shown(medium)), supervised: false });
                    start = end;
                }
                Some(_) => {}
                None if end == last || supervised(end) != supervised(start) || medium_at(end).is_some() => {
                    pieces.push(Piece { text: decode(&batch.input_ids[start..end]), supervised: supervised(start) });
                    start = end;
                }
                None => {}
            }
        }
    }
    let format = bin.first().map(|&row| dataset.layout(row as usize).describe()).unwrap_or_default();
    let judged = match (batch.desirable.first(), is_prompt) {
        (Some(true), false) => ": a good answer",
        (Some(false), false) => ": a bad answer",
        (Some(true), true) => ": a prompt for here",
        (Some(false), true) => ": a prompt for elsewhere",
        (None, _) => "",
    };
    let [images, audio] = MediaKind::ALL.map(|kind| of_kind(kind).map(shown).collect());
    Ok(Preview {
        row: bin.first().copied().unwrap_or(0),
        origins: bin.iter().map(|&row| origin(dataset, row as usize)).collect::<Result<_>>()?,
        format: format!("{format}{judged}"),
        segments,
        input_ids: batch.input_ids,
        labels: batch.labels,
        images,
        audio,
        pieces,
    })
}

/// What stands for a medium in a text for the eye: not its placeholders, which are hundreds.
fn in_brackets(medium: &MediaRange, Shown { file, tokens, .. }: &Shown) -> String {
    let name = Path::new(file).file_name().map_or(file.as_str().into(), |name| name.to_string_lossy());
    format!("[{} {name}: {}]", medium.kind.name(), counted(*tokens, "token"))
}

/// `file, row N`, and which part of it where a long text became several rows.
fn origin(dataset: &Dataset, row: usize) -> Result<String> {
    let origin = dataset.origin(row)?;
    Ok(match dataset.part_of_row(row) {
        (_, 1) => origin.to_string(),
        (part, parts) => format!("{origin}, part {part} of {parts}"),
    })
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Bytes, spec, write};
    use super::super::{RowFormat, local_only, prepare};
    use super::*;
    use crate::progress::Silent;

    #[test]
    fn pieces_follow_the_labels_and_never_cross_rows() {
        let dir = tempfile::tempdir().unwrap();
        let lines = "{\"prompt\": \"ab\", \"completion\": \"c\"}\n{\"prompt\": \"d\", \"completion\": \"e\"}\n";
        let path = write(dir.path(), "a.jsonl", lines);
        let format = RowFormat::PromptCompletion;
        let dataset = prepare(&spec(&path, format), &Bytes, dir.path(), &local_only, &Silent).unwrap();
        let decode = |ids: &[u32]| -> String {
            let text = |&id: &u32| match id {
                Bytes::BOS => "<bos>".to_owned(),
                Bytes::STOP => "<stop>".to_owned(),
                byte => char::from(byte as u8).to_string(),
            };
            ids.iter().map(text).collect()
        };
        let preview = preview(&dataset, &[1, 0], &decode).unwrap();
        let pieces: Vec<_> = preview.pieces.iter().map(|piece| (piece.text.as_str(), piece.supervised)).collect();
        assert_eq!(pieces, [("<bos>d", false), ("e<stop>", true), ("<bos>ab", false), ("c<stop>", true)]);
        assert_eq!(preview.marked(), ("<bos>de<stop><bos>abc<stop>".to_owned(), vec![6..13, 20..27]));
        assert_eq!(
            serde_json::to_value(&preview).unwrap(),
            serde_json::json!({
                "row": 1,
                "origins": [format!("{}, row 2", path.display()), format!("{}, row 1", path.display())],
                "format": "prompt_completion, as plain text",
                "input_ids": [256, 100, 101, 257, 256, 97, 98, 99, 257],
                "labels": [-100, -100, 101, 257, -100, -100, -100, 99, 257],
                "segments": [[0, 4], [4, 9]],
                "images": [],
                "audio": [],
                "pieces": [
                    {"text": "<bos>d", "supervised": false},
                    {"text": "e<stop>", "supervised": true},
                    {"text": "<bos>ab", "supervised": false},
                    {"text": "c<stop>", "supervised": true},
                ],
            })
        );
    }
}
