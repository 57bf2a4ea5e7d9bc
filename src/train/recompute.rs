//! Which layers are run again on the way back.

/// The layers of which nothing but the input is kept, and which are run again on the way back: so many of the first. The last ones, which
/// come first on that way, have given their memory back before any of these needs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Recompute(usize);

impl Recompute {
    /// What is inside of every layer is kept.
    pub const NOTHING: Self = Recompute(0);
    /// What is inside of a layer is there for one of them at a time.
    pub const ALL: Self = Recompute(usize::MAX);

    /// So many of the first layers.
    pub fn first(layers: usize) -> Self {
        Recompute(layers)
    }

    /// Whether a layer is one of them.
    pub fn has(self, layer: usize) -> bool {
        layer < self.0
    }

    /// How many of so many layers they are.
    pub fn of(self, layers: usize) -> usize {
        self.0.min(layers)
    }
}

/// All or nothing.
impl From<bool> for Recompute {
    fn from(all: bool) -> Self {
        if all { Recompute::ALL } else { Recompute::NOTHING }
    }
}
