//! Rows that are tokenised already.

use super::{Encoder, label};
use crate::error::{Error, Kind, Result};
use crate::progress::counted;
use crate::text::conversation::{IGNORE_INDEX, Prefix, Tokenized};
use crate::text::marks::{Piece, not_taken};
use crate::text::media_range::Medium;
use std::collections::VecDeque;

impl Encoder {
    /// A row that is tokenised already; without labels all of it has a loss.
    ///
    /// # Errors
    /// No ids, labels of another length, ids or labels that the model does not have.
    pub fn encode_tokens(&self, input_ids: Vec<u32>, labels: Option<Vec<i32>>) -> Result<Tokenized> {
        Ok(self.tokens(&input_ids, labels.as_deref(), &[], usize::MAX)?.tokens)
    }

    /// The first `most` tokens of [`Encoder::encode_tokens`], among which the placeholders of `media` stand already, a block for
    /// each piece; they and their delimiters never have a loss.
    ///
    /// # Errors
    /// As [`Encoder::encode_tokens`]; more blocks than pieces, or fewer, or a block that is not whole.
    pub fn tokens(&self, input_ids: &[u32], labels: Option<&[i32]>, media: &[Medium], most: usize) -> Result<Prefix> {
        let wrong = |what: String| Err(Error::new(Kind::Data, what));
        if input_ids.is_empty() {
            return wrong("`input_ids` is empty".into());
        }
        let is_soft = |id| self.marks.soft(id).is_some();
        input_ids.iter().filter(|&&id| !is_soft(id)).try_for_each(|&id| self.check_id(id))?;
        if let Some(labels) = labels.filter(|labels| labels.len() != input_ids.len()) {
            let hint = "labels are aligned with `input_ids`, as in Hugging Face; -100 skips a position";
            return wrong(format!("{} `labels` for {} `input_ids`", labels.len(), input_ids.len()))
                .map_err(|e| e.hint(hint));
        }
        let limit = self.vocab_size.map_or(i64::from(i32::MAX), |n| n as i64);
        let is_wrong = |&&l: &&i32| l != IGNORE_INDEX && !(0..limit).contains(&i64::from(l));
        if let Some(label) = labels.into_iter().flatten().find(is_wrong) {
            return wrong(format!("label {label} is neither -100 nor an id of the model's vocabulary"));
        }
        let mut prefix = Prefix::of_at_most(most);
        let mut blocks = self.blocks(input_ids, media)?.into_iter().peekable();
        for (i, &id) in input_ids.iter().enumerate() {
            if let Some((_, (tokens, content))) = blocks.next_if(|(at, _)| *at == i) {
                prefix.push_medium(id, tokens.per_piece, tokens.kind, content, &[tokens.begin]);
            } else if prefix.length == i {
                let of_media = !media.is_empty() && self.marks.contains(id);
                let given = labels.map_or_else(|| label(id), |labels| labels[i]);
                prefix.push(id, if of_media { IGNORE_INDEX } else { given });
            }
        }
        Ok(prefix)
    }

    /// Where the blocks of placeholders begin, and the piece of `media` that each stands for.
    fn blocks(&self, input_ids: &[u32], media: &[Medium]) -> Result<Vec<(usize, Piece)>> {
        let takes = |medium: &&Medium| self.marks.tokens().iter().any(|tokens| tokens.kind == medium.kind);
        if let Some(medium) = media.iter().find(|medium| !takes(medium)) {
            return Err(not_taken(medium.kind));
        }
        let mut blocks = Vec::new();
        let mut pieces: VecDeque<_> =
            media.iter().flat_map(|m| m.pieces.iter().map(move |piece| (m.kind, *piece))).collect();
        // Pictures and sounds are listed apart, so each kind is in order by itself.
        for tokens in self.marks.tokens() {
            let (own, others): (VecDeque<_>, VecDeque<_>) =
                pieces.into_iter().partition(|(kind, _)| *kind == tokens.kind);
            let placeholders = input_ids.iter().filter(|&&id| id == tokens.soft).count();
            if placeholders != own.len() * tokens.per_piece {
                let kind = tokens.kind.name();
                let what = format!(
                    "the row has {placeholders} placeholders of `{kind}` (token {}), and {} of {} tokens each",
                    tokens.soft,
                    counted(own.len(), "block"),
                    tokens.per_piece,
                );
                return Err(Error::new(Kind::Data, what).hint(format!(
                    "a row of `input_ids` holds them already, a block for each `{kind}` and each of its crops"
                )));
            }
            let mut at = 0;
            for (_, content) in own {
                at += input_ids[at..].iter().take_while(|&&id| id != tokens.soft).count();
                let block = at..at + tokens.per_piece;
                if !input_ids.get(block.clone()).is_some_and(|ids| ids.iter().all(|&id| id == tokens.soft)) {
                    let what =
                        format!("a block of placeholders of `{}` is cut at token {}", tokens.kind.name(), at + 1);
                    return Err(Error::new(Kind::Data, what));
                }
                blocks.push((at, (tokens, content)));
                at = block.end;
            }
            pieces = others;
        }
        blocks.sort_by_key(|(at, _)| *at);
        Ok(blocks)
    }
}
