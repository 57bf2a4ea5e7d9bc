//! How the sequences of a batch lie, as all layers need to know it.

use crate::nn::{AttentionKind, AttentionPlan, Rope, RopeTable};
use burn::tensor::Device;

/// How the sequences of a batch lie, as all layers need to know it: rotations and masks. Made once per batch.
#[derive(Debug, Clone)]
pub struct Layout {
    /// The rotations.
    pub rotations: Rotations,
    /// The masks of sliding and of full layers.
    pub plan: AttentionPlan,
}

/// The rotations of some tokens in layers of each kind.
#[derive(Debug, Clone)]
pub struct Rotations {
    /// Of sliding layers.
    pub local: RopeTable,
    /// Of full layers.
    pub global: RopeTable,
}

impl Rotations {
    /// Those of tokens at `positions` in heads of `head_dim`, by the ropes of sliding and of full layers.
    pub fn new([local, global]: [&Rope; 2], positions: &[usize], head_dim: usize, device: &Device) -> Self {
        let table = |rope: &Rope| rope.table(positions, head_dim, device);
        Rotations { local: table(local), global: table(global) }
    }

    /// Those of layers of this kind.
    pub fn of(&self, kind: AttentionKind) -> &RopeTable {
        match kind {
            AttentionKind::Sliding => &self.local,
            AttentionKind::Full => &self.global,
        }
    }
}
