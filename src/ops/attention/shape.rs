//! What the heads of an attention look like.

use burn::tensor::FloatDType;

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
    /// What the factors of products are rounded to; the CPU knows f32 and bf16, and rounds nothing of three queries or fewer.
    pub compute_dtype: FloatDType,
}

impl AttentionShape {
    /// Query heads per key head.
    pub fn fold(&self) -> usize {
        self.heads / self.kv_heads
    }

    /// Numbers in one row of queries.
    pub fn query_width(&self) -> usize {
        self.heads * self.head_dim
    }

    /// Numbers in one row of keys or values.
    pub fn key_width(&self) -> usize {
        self.kv_heads * self.head_dim
    }
}
