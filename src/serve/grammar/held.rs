//! Choosing tokens of an answer that has to have a form.

use super::Grammar;
use crate::infer::{Adjusted, Choose};
use std::sync::{Arc, OnceLock};

/// Why an answer could not be held to its form, once that is so.
pub type Broken = Arc<OnceLock<String>>;

/// Chooses as [`Adjusted`], of the tokens that may come next.
pub struct Held {
    /// Chooses.
    pub adjusted: Adjusted,
    /// Says which may come.
    pub grammar: Grammar,
    /// Says why there was nothing to choose from.
    pub broken: Broken,
}

impl Choose for Held {
    fn choose(&mut self, logits: &[f32], said: &[u32]) -> u32 {
        self.grammar.choose(&mut self.adjusted, logits, said).unwrap_or_else(|what| {
            let _ = self.broken.set(what);
            self.grammar.end
        })
    }
}
