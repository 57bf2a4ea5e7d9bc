//! What stands for pictures and sounds in a text: the word that a chat template writes for each, and what a processor makes
//! of that word before it is tokenised.
//!
//! ```text
//! <start_of_image>  ->  ⏎⏎<start_of_image><image_soft_token><end_of_image>⏎⏎
//! ```
//!
//! The soft token stands here once; among the ids it is as many as the model makes of a picture.

use super::media_range::{MediaKind, MediaTokens, Medium};
use super::rendered::Rendered;
use super::tokenizer::Tokenizer;
use crate::error::{Error, Kind, Result};
use std::collections::VecDeque;
use std::ops::Range;

/// The words for each kind of medium that a model takes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Marks(Vec<Mark>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Mark {
    tokens: MediaTokens,
    /// None where the tokenizer has not all of them.
    words: Option<Words>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Words {
    /// What the chat template writes.
    written: String,
    /// What becomes of it, for one piece.
    block: String,
}

/// A piece that is waiting for its soft token.
pub(super) type Piece = (MediaTokens, [u8; 32]);

/// The media in a text.
#[derive(Debug, Default)]
pub(super) struct Shown {
    /// Their pieces, in the order of their soft tokens.
    pub pieces: VecDeque<Piece>,
    /// The bytes of what stands for each, in order: all of it is a processor's, and nobody's words.
    pub blocks: Vec<Range<usize>>,
}

impl Marks {
    /// The words for these tokens, as `tokenizer` spells them. Of a template's source it is seen which of them it writes.
    pub fn new(tokens: &[MediaTokens], tokenizer: Option<&Tokenizer>, template: &str) -> Self {
        let words = |tokens: &MediaTokens| {
            let word = |id| tokenizer?.token(id);
            let (begin, soft, end) = (word(tokens.begin)?, word(tokens.soft)?, word(tokens.end)?);
            let written = if template.contains(&soft) { &soft } else { &begin };
            Some(Words { written: written.clone(), block: format!("\n\n{begin}{soft}{end}\n\n") })
        };
        Marks(tokens.iter().map(|tokens| Mark { tokens: *tokens, words: words(tokens) }).collect())
    }

    /// The tokens, for a name of what was prepared with them.
    pub fn tokens(&self) -> Vec<MediaTokens> {
        self.0.iter().map(|mark| mark.tokens).collect()
    }

    /// The tokens before them.
    pub fn begins(&self) -> Vec<u32> {
        self.0.iter().map(|mark| mark.tokens.begin).collect()
    }

    /// The tokens of the kind whose soft token this is.
    pub fn soft(&self, id: u32) -> Option<MediaTokens> {
        self.0.iter().map(|mark| mark.tokens).find(|tokens| tokens.soft == id)
    }

    /// Whether this token belongs to a medium, its delimiters included: it is never learnt.
    pub fn contains(&self, id: u32) -> bool {
        self.0.iter().any(|Mark { tokens: t, .. }| [t.begin, t.soft, t.end].contains(&id))
    }

    /// What the chat template writes for a medium.
    ///
    /// # Errors
    /// Where the model takes no such media, or the tokenizer has no words for them.
    pub fn written(&self, kind: MediaKind) -> Result<&str> {
        self.words(kind).map(|(_, words)| words.written.as_str())
    }

    fn words(&self, kind: MediaKind) -> Result<(MediaTokens, &Words)> {
        let Some(mark) = self.0.iter().find(|mark| mark.tokens.kind == kind) else { return Err(not_taken(kind)) };
        let MediaTokens { begin, soft, end, .. } = mark.tokens;
        let words = mark.words.as_ref().ok_or_else(|| {
            let what = format!(
                "the tokenizer has no words for all of {begin}, {soft} and {end}, between which {} stand",
                kind.counted(2)
            );
            Error::new(Kind::Tokenizer, what).hint("its file is not complete, or it belongs to another model")
        });
        Ok((mark.tokens, words?))
    }

    /// Puts what a processor makes of them in the place of the words for `media`, which are all in the text, in order, beside
    /// what was said. Returns the pieces in the order of their soft tokens.
    ///
    /// # Errors
    /// A text that does not show each of `media` once, and as [`Marks::written`].
    pub fn expand(&self, rendered: Rendered, media: &[&Medium]) -> Result<(Rendered, Shown)> {
        let mut shown = Shown::default();
        if media.is_empty() {
            return Ok((rendered, shown));
        }
        let mut found: Vec<(Range<usize>, MediaKind)> = Vec::new();
        let mut kinds: Vec<MediaKind> = media.iter().map(|medium| medium.kind).collect();
        kinds.sort_unstable();
        kinds.dedup();
        for kind in kinds {
            let written = self.written(kind)?;
            let at = rendered.text.match_indices(written).map(|(at, word)| at..at + word.len());
            found.extend(at.filter(|at| !is_within(&rendered.said, at)).map(|at| (at, kind)));
        }
        found.sort_by_key(|(at, _)| at.start);
        if !found.iter().map(|(_, kind)| *kind).eq(media.iter().map(|medium| medium.kind)) {
            let what = format!(
                "the model's chat template shows {} of {} pictures and sounds, or in another order",
                found.len(),
                media.len()
            );
            return Err(Error::new(Kind::Data, what).hint_of_files("`data.on_bad_row: skip` leaves such rows out"));
        }
        let mut moved = Moved::default();
        let mut text = String::new();
        let mut done = 0;
        for ((at, _), medium) in found.iter().zip(media) {
            let (tokens, words) = self.words(medium.kind)?;
            text.push_str(&rendered.text[done..at.start]);
            let block = text.len();
            text.push_str(&expanded(medium, &words.block));
            shown.blocks.push(block..text.len());
            shown.pieces.extend(medium.pieces.iter().map(|piece| (tokens, *piece)));
            done = at.end;
            moved.0.push((at.end, text.len()));
        }
        text.push_str(&rendered.text[done..]);
        let [spans, said] = [&rendered.spans, &rendered.said].map(|ranges| moved.all(ranges));
        Ok((Rendered { text, spans, said }, shown))
    }
}

/// What a processor makes of the word for a medium of so many pieces, each a `block`.
///
/// # Source
/// `Gemma3Processor.replace_image_token`; for a sound of several pieces, which no processor makes, one after the other.
fn expanded(medium: &Medium, block: &str) -> String {
    match (medium.kind, medium.pieces.len()) {
        (MediaKind::Image, crops @ 2..) => {
            let crops = vec![block; crops - 1].join(" ");
            format!("Here is the original image {block} and here are some crops to help you see better {crops}")
        }
        (_, pieces) => block.repeat(pieces),
    }
}

/// The error for a medium that the model does not take.
pub(super) fn not_taken(kind: MediaKind) -> Error {
    let (what, sense) = match kind {
        MediaKind::Image => ("picture", "see"),
        MediaKind::Audio => ("sound", "hear"),
    };
    Error::new(Kind::Data, format!("the row holds a {what}, and the model does not {sense}"))
        .hint_of_files("set `model.base` to one that does, or `data.on_bad_row: skip` to leave such rows out")
}

/// Where places of a text went: after each end of a word, how far the new text had come.
#[derive(Default)]
struct Moved(Vec<(usize, usize)>);

impl Moved {
    /// Ranges that begin and end beside the words.
    fn all(&self, ranges: &[Range<usize>]) -> Vec<Range<usize>> {
        ranges.iter().map(|range| self.place(range.start)..self.place(range.end)).collect()
    }

    /// Where a place went; that before a word stays before what became of it.
    fn place(&self, at: usize) -> usize {
        match self.0.iter().rev().find(|(end, _)| *end <= at) {
            Some((end, came)) => came + (at - end),
            None => at,
        }
    }
}

/// Whether a place is within what was said, which is in order.
fn is_within(said: &[Range<usize>], at: &Range<usize>) -> bool {
    let next = said.partition_point(|said| said.end < at.end);
    said.get(next).is_some_and(|said| said.start <= at.start && at.end <= said.end)
}
