//! What losses are of: the supervised tokens of each row, and the text that they write.
//!
//! Losses per token are comparable where the tokens are the same. Of models that cut a text into other tokens, losses per
//! byte of the text are.

use crate::data::Dataset;
use crate::error::Result;
use crate::text::Tokenizer;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

/// The supervised tokens of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Target {
    /// Of their ids.
    tokens: u64,
    /// Of their text.
    text: u64,
    /// The bytes of their text.
    pub bytes: usize,
}

impl Target {
    fn new(ids: &[u32], tokenizer: Option<&Tokenizer>) -> Self {
        let text = tokenizer.map(|tokenizer| tokenizer.decode(ids, true)).unwrap_or_default();
        // Templates differ in the blanks around what is said.
        let text = text.trim();
        Target { tokens: hash(ids), text: hash(text), bytes: text.len() }
    }

    /// Whether both are of one text, which is not empty.
    pub fn says(&self, other: &Target) -> bool {
        self.bytes > 0 && self.text == other.text && self.bytes == other.bytes
    }
}

/// What the losses of each row are of, for a model that reads with this tokenizer.
pub(super) fn of(dataset: &Dataset, tokenizer: Option<&Tokenizer>) -> Result<Arc<[Target]>> {
    let target = |row| {
        let row = dataset.get(row)?;
        // Of a pair those of the answer that is preferred, as losses are.
        let labels = row.labels.iter().take(row.first_tokens());
        let labels = labels.filter_map(|label| u32::try_from(*label).ok());
        Ok(Target::new(&labels.collect::<Vec<_>>(), tokenizer))
    };
    (0..dataset.len()).map(target).collect()
}

/// Whether two models are asked for the same tokens in every row.
pub(super) fn are_the_same(first: &[Target], second: &[Target]) -> bool {
    first.iter().map(|target| target.tokens).eq(second.iter().map(|target| target.tokens))
}

fn hash(of: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    of.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_tokenizer_only_tokens_tell_rows_apart() {
        let [a, b] = [[5, 6], [5, 7]].map(|ids| Target::new(&ids, None));
        assert!(are_the_same(&[a], &[a]) && !are_the_same(&[a], &[b]) && !are_the_same(&[a], &[a, a]));
        assert!(!a.says(&a), "a text of no bytes is nothing that losses are by");
    }
}
