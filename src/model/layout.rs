//! How the sequences of a batch lie, as all layers need to know it.

use crate::nn::{AttentionKind, AttentionPlan, RopeTable};

/// How the sequences of a batch lie, as all layers need to know it: rotations and masks. Made once per batch.
#[derive(Debug, Clone)]
pub struct Layout {
    /// The rotations of sliding layers.
    pub local: RopeTable,
    /// The rotations of full layers.
    pub global: RopeTable,
    /// The masks of both.
    pub plan: AttentionPlan,
}

impl Layout {
    /// The rotations of layers of this kind.
    pub fn rope(&self, kind: AttentionKind) -> &RopeTable {
        match kind {
            AttentionKind::Sliding => &self.local,
            AttentionKind::Full => &self.global,
        }
    }
}
