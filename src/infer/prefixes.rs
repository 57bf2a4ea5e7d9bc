//! What has been read, kept for prompts that begin with it.

use crate::infer::request::Prompt;
use crate::nn::{KvCache, Past};

/// Tokens, and what the layers keep of them.
#[derive(Debug)]
pub struct Known {
    /// What ran beside the model.
    pub side: usize,
    /// The tokens.
    pub ids: Vec<u32>,
    /// What the soft tokens among them show.
    pub contents: Vec<[u8; 32]>,
    /// What the layers keep of them.
    pub past: Past,
    /// Whether it ends with an answer: then only what goes on with it asks for it.
    pub is_answer: bool,
}

/// All that is kept, the least recently used first.
#[derive(Debug, Default)]
pub struct Prefixes(Vec<Known>);

/// Part of what is kept: so many tokens of one of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    at: usize,
    /// Tokens that need not be read again.
    pub tokens: usize,
}

impl Prefixes {
    /// The most that need not be read of a prompt, whose last token always is. Where `whole`, all of something that is kept or
    /// nothing.
    pub fn find(&self, cache: &KvCache, side: usize, prompt: &Prompt, whole: bool) -> Option<Found> {
        let usable = |(at, known): (usize, &Known)| {
            let shared = prompt.shared_with(&known.ids, &known.contents);
            if shared == known.ids.len() && shared < prompt.tokens() {
                return Some(Found { at, tokens: shared });
            }
            // The last token may be the last of a picture, of which none is read without the others.
            let tokens = prompt.shared_with(&known.ids[..shared.min(prompt.tokens() - 1)], &known.contents);
            (!whole && cache.cut(&known.past, tokens).is_some()).then_some(Found { at, tokens })
        };
        let known = self.0.iter().enumerate().filter(|(_, known)| known.side == side);
        known.filter_map(usable).filter(|found| found.tokens > 0).max_by_key(|found| found.tokens)
    }

    /// The most tokens that a prompt shares with something that is kept, whether or not it can be cut there.
    pub fn parting(&self, side: usize, prompt: &Prompt) -> usize {
        let known = self.0.iter().filter(|known| known.side == side);
        known.map(|known| prompt.shared_with(&known.ids, &known.contents)).max().unwrap_or(0)
    }

    /// Takes what was found. It stays, for others, unless it ends with an answer that is gone on with.
    pub fn take(&mut self, cache: &KvCache, found: Found) -> Past {
        let known = self.0.remove(found.at);
        if known.is_answer && found.tokens == known.ids.len() {
            return known.past;
        }
        let past = cache.cut(&known.past, found.tokens).unwrap_or_else(|| cache.nothing());
        self.0.push(known);
        past
    }

    /// Keeps something, in the place of the same tokens if they are kept already.
    pub fn keep(&mut self, known: Known) {
        let same =
            |other: &Known| other.side == known.side && other.ids == known.ids && other.contents == known.contents;
        self.0.retain(|other| !same(other));
        self.0.push(known);
    }

    /// Forgets what was used least recently, until at most `most` are kept in `bytes` bytes.
    pub fn shrink(&mut self, most: usize, bytes: u64) {
        while !self.0.is_empty() && (self.0.len() > most || self.bytes() > bytes) {
            self.0.remove(0);
        }
    }

    /// Forgets what was read beside one that is no longer there, or all.
    pub fn forget(&mut self, side: Option<usize>) {
        self.0.retain(|known| side.is_some_and(|side| known.side != side));
    }

    /// Bytes of all that is kept. What shares its room with something else counts as if it did not.
    pub fn bytes(&self) -> u64 {
        self.0.iter().map(|known| known.past.bytes()).sum()
    }

    /// How much is kept.
    pub fn len(&self) -> usize {
        self.0.len()
    }
}
