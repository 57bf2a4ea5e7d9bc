//! Cuts long texts where no token can stand across, so that they are tokenised piece by piece with the same result: the
//! tokenizers crate holds more than a hundred bytes for each byte of a text.

use serde_json::{Value, json};
use std::collections::HashSet;

/// Texts up to here are tokenised at once.
const LONG_BYTES: usize = 64 << 10;

/// The least of a piece.
const PIECE_BYTES: usize = 16 << 10;

/// Which characters stand beside each other in some token.
pub(super) struct Cuts {
    pairs: HashSet<(char, char)>,
    /// Characters that are tokens of their own.
    single: HashSet<char>,
}

impl Cuts {
    /// The cuts of a tokenizer; `None` where what stands elsewhere in a text may change a piece's tokens.
    pub fn of(tokenizer: &tokenizers::Tokenizer, vocab_size: usize) -> Option<Self> {
        let json = |part: Option<Value>| part.unwrap_or(Value::Null);
        let normalizer = json(tokenizer.get_normalizer().and_then(|part| serde_json::to_value(part).ok()));
        let pre_tokenizer = json(tokenizer.get_pre_tokenizer().and_then(|part| serde_json::to_value(part).ok()));
        let replaces_spaces = json!({"type": "Replace", "pattern": {"String": " "}, "content": "▁"});
        let splits_nothing = pre_tokenizer.is_null()
            || pre_tokenizer["type"] == "Split" && pre_tokenizer["pattern"] == json!({"String": " "});
        let added = tokenizer.get_added_vocabulary().get_added_tokens_decoder();
        if normalizer != replaces_spaces
            || !splits_nothing
            || !matches!(tokenizer.get_model(), tokenizers::ModelWrapper::BPE(bpe) if bpe.dropout.is_none())
            || added.values().any(|token| token.lstrip || token.rstrip || token.single_word)
        {
            return None;
        }
        let mut cuts = Cuts { pairs: HashSet::new(), single: HashSet::new() };
        let ids = u32::try_from(vocab_size).ok()?;
        (0..ids).filter_map(|id| tokenizer.id_to_token(id)).for_each(|token| cuts.learn(&token));
        added.values().for_each(|token| cuts.learn(&token.content));
        Some(cuts)
    }

    fn learn(&mut self, token: &str) {
        let mut chars = token.chars().map(normal);
        let Some(mut before) = chars.next() else { return };
        let mut alone = true;
        for after in chars {
            self.pairs.insert((before, after));
            (before, alone) = (after, false);
        }
        if alone {
            self.single.insert(before);
        }
    }

    /// The pieces of `text` that are tokenised by themselves, in order.
    pub fn pieces<'t>(&self, mut text: &'t str) -> Vec<&'t str> {
        let mut pieces = Vec::new();
        while text.len() > LONG_BYTES
            && let Some(at) = self.first_cut(text)
        {
            let (piece, rest) = text.split_at(at);
            pieces.push(piece);
            text = rest;
        }
        pieces.push(text);
        pieces
    }

    /// Where the text may be cut after a piece's least length.
    fn first_cut(&self, text: &str) -> Option<usize> {
        let from = text.ceil_char_boundary(PIECE_BYTES);
        let before = text[..from].chars().next_back()?;
        let mut before = normal(before);
        text[from..].char_indices().find_map(|(at, c)| {
            let pair = (std::mem::replace(&mut before, normal(c)), normal(c));
            // What is no token becomes bytes or joins its like, which this does not follow.
            let known = self.single.contains(&pair.0) && self.single.contains(&pair.1);
            (known && !self.pairs.contains(&pair)).then_some(from + at)
        })
    }
}

/// Whether a text is so long that it is worth learning where it can be cut.
pub(super) fn is_long(text: &str) -> bool {
    text.len() > LONG_BYTES
}

/// A character as the normaliser leaves it.
fn normal(c: char) -> char {
    if c == ' ' { '▁' } else { c }
}
