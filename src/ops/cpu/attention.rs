//! Attention over packed segments on the processor: tiles of scores that never leave the cache.
//!
//! The method is FlashAttention's: a task takes a tile of queries, walks over the tiles of keys they see, and keeps only
//! a running maximum and sum per row. The backward pass computes the probabilities again from the log-sum-exp that the
//! forward pass returns. The query heads that share a key head are folded into the rows of one product, and tiles that
//! the mask empties are never computed.
//!
//! # Numerics
//! Everything is f32. Every number is summed in an order that depends on the shapes alone, so results have the same
//! bits for any number of threads.
//!
//! # Source
//! Dao, "FlashAttention-2: Faster Attention with Better Parallelism and Work Partitioning" (2023), algorithms 1 and 2.

mod backward;
mod forward;
mod product;
mod rows;
mod softmax;
mod split;
#[cfg(test)]
mod tests;
mod visible;

use burn::tensor::FloatDType;
use std::ops::Range;

pub use backward::backward;
pub use forward::forward;

/// What the heads look like.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AttentionShape {
    /// Query heads, a multiple of `kv_heads`.
    pub heads: usize,
    /// Key and value heads; each serves `heads / kv_heads` neighbouring query heads.
    pub kv_heads: usize,
    /// Numbers per head.
    pub head_dim: usize,
    /// The factor of the scores, `s = scaling · q·k`.
    pub scaling: f32,
    /// Bends the scores into `(-c, c)` before the mask: `s -> c tanh(s / c)`.
    pub softcap: Option<f32>,
    /// What the factors of products are rounded to on a GPU; the CPU rounds nothing.
    pub compute_dtype: FloatDType,
}

impl AttentionShape {
    /// Query heads per key head.
    fn fold(&self) -> usize {
        self.heads / self.kv_heads
    }

    /// Numbers in one row of queries.
    fn query_width(&self) -> usize {
        self.heads * self.head_dim
    }

    /// Numbers in one row of keys or values.
    fn key_width(&self) -> usize {
        self.kv_heads * self.head_dim
    }
}

/// A run of queries and the keys it may look at: a packed segment, or the new tokens of a cached sequence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Rows of the queries. The last one is the same token as the last key.
    pub queries: Range<usize>,
    /// Rows of the keys and values.
    pub keys: Range<usize>,
}

/// Which keys each query sees.
///
/// A query at key row `p` sees key `j` of its group when `j <= p` and `p - j < window`, or when one of the `spans` holds
/// both. Queries in no group see nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Visibility {
    /// In ascending order, each row in one group at most.
    pub groups: Vec<Group>,
    /// How many tokens back a query sees, itself included; `usize::MAX` for all.
    pub window: usize,
    /// Rows of keys whose tokens also see each other forwards: the soft tokens of one image each.
    pub spans: Vec<Range<usize>>,
}

impl Visibility {
    /// The run of keys that each query sees, by rows; empty where it sees none.
    pub fn runs(&self) -> Vec<Range<usize>> {
        let queries = self.groups.last().map_or(0, |group| group.queries.end);
        let mut runs = vec![0..0; queries];
        for group in visible::VisibleGroup::all(self) {
            runs[group.queries.clone()].clone_from_slice(group.ranges());
        }
        runs
    }
}
