//! Who may look at whom in the layers of a model.

use crate::nn::Segments;
use crate::ops::{AttentionMask, Group, Visibility};
use std::ops::Range;

/// How far a layer's tokens look back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AttentionKind {
    /// At the last `sliding_window` tokens, itself included.
    Sliding,
    /// At every earlier token of its sequence.
    Full,
}

/// The masks of one batch, for both kinds of layers. Made once per batch, shared by all layers.
#[derive(Debug, Clone)]
pub struct AttentionPlan {
    sliding: AttentionMask,
    full: AttentionMask,
}

impl AttentionPlan {
    /// Plans the attention over `segments` with this sliding `window` (in tokens, itself included). Tokens of one of the
    /// `spans` of rows, each within a segment, see each other forwards too.
    pub fn new(segments: &Segments, spans: &[Range<usize>], window: usize) -> Self {
        let groups: Vec<Group> =
            segments.ranges().iter().map(|rows| Group { queries: rows.clone(), keys: rows.clone() }).collect();
        let mask = |window| AttentionMask::new(Visibility { groups: groups.clone(), window, spans: spans.to_vec() });
        let full = mask(usize::MAX);
        let longest = groups.iter().map(|group| group.keys.len()).max().unwrap_or(0);
        let sliding = if longest <= window { full.clone() } else { mask(window) };
        AttentionPlan { sliding, full }
    }

    /// The mask for layers of this kind.
    pub fn mask(&self, kind: AttentionKind) -> &AttentionMask {
        match kind {
            AttentionKind::Sliding => &self.sliding,
            AttentionKind::Full => &self.full,
        }
    }
}
