//! Who may look at whom in the layers of a model.

use crate::nn::Segments;
use crate::ops::{AttentionMask, Group, Visibility, upload};
use burn::tensor::{Int, Tensor, TensorData};
use std::ops::Range;
use std::sync::Arc;

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
    /// The rows whose keys and values are looked at, one after the other, where these are not all rows in their order: what
    /// sequences share stands before each of them.
    keys: Option<Arc<[usize]>>,
}

impl AttentionPlan {
    /// Plans the attention over `segments` with this sliding `window` (in tokens, itself included). Tokens of one of the
    /// `spans` of rows, each within a segment, see each other forwards too.
    pub fn new(segments: &Segments, spans: &[Range<usize>], window: usize) -> Self {
        let mut keys = Vec::with_capacity(segments.tokens());
        let mut groups = Vec::with_capacity(segments.ranges().len());
        let mut moved = Vec::with_capacity(spans.len());
        for (segment, rows) in segments.ranges().iter().enumerate() {
            let first = keys.len();
            keys.extend(segments.rows(segment));
            groups.push(Group { queries: rows.clone(), keys: first..keys.len() });
            let by = keys.len() - rows.end;
            let own = spans.iter().filter(|span| rows.start <= span.start && span.end <= rows.end);
            moved.extend(own.map(|span| span.start + by..span.end + by));
        }
        let spans = moved;
        let mask = |window| AttentionMask::new(Visibility { groups: groups.clone(), window, spans: spans.clone() });
        let full = mask(usize::MAX);
        let longest = groups.iter().map(|group| group.keys.len()).max().unwrap_or(0);
        let sliding = if longest <= window { full.clone() } else { mask(window) };
        AttentionPlan { sliding, full, keys: segments.share().then(|| keys.into()) }
    }

    /// The keys or values that are looked at, of those of all rows.
    ///
    /// # Shapes
    /// - `rows`: `[n, g, e]`
    /// - output: `[t, g, e]`
    pub fn looked_at(&self, rows: Tensor<3>) -> Tensor<3> {
        let Some(keys) = &self.keys else { return rows };
        let at: Vec<i64> = keys.iter().map(|&row| row as i64).collect();
        let at: Tensor<1, Int> = upload(TensorData::new(at, [keys.len()]), &rows.device().inner());
        rows.select(0, at)
    }

    /// The mask for layers of this kind.
    pub fn mask(&self, kind: AttentionKind) -> &AttentionMask {
        match kind {
            AttentionKind::Sliding => &self.sliding,
            AttentionKind::Full => &self.full,
        }
    }
}
