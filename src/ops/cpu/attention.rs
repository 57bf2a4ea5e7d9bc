//! Attention over packed segments on the processor: tiles of scores that never leave the cache.
//!
//! The method is FlashAttention's: a task takes a tile of queries, walks over the tiles of keys they see, and keeps
//! only a running maximum and sum per row. The backward pass computes the probabilities again from the log-sum-exp that
//! the forward pass returns. The query heads that share a key head are folded into the rows of one product, and tiles
//! that the mask empties are never computed.
//!
//! # Numerics
//! Sums are f32, and so are factors unless bf16 is asked for. Every number is summed in an order that depends on the shapes
//! alone, so results have the same bits for any number of threads.
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

pub use backward::backward;
pub use forward::{Part, forward, forward_each};
