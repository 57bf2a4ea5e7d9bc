//! Building blocks of a decoder: linear, norm, rope, mask, attention and its cache, mlp, cross-entropy, a head that judges; what comes into
//! each linear, and what runs beside it.
//!
//! Nothing here knows which model uses it. Hidden states are `[n, d]`: the tokens of all sequences of a batch one after
//! the other, without padding; [`Segments`] says which rows form a sequence. Frozen weights keep the dtype they are
//! held in and are converted to f32 where they are used; everything else is f32.

pub mod attention;
pub mod by_rows;
pub mod cache;
pub mod cross_entropy;
pub mod kv_attention;
pub mod layer_norm;
pub mod linear;
pub mod mask;
pub mod mlp;
pub mod norm;
pub mod rope;
pub mod score;
pub mod segments;
pub mod squares;

pub use attention::{Attention, AttentionConfig};
pub use by_rows::ByRows;
pub use cache::{KvCache, LayerCache, Past};
pub use kv_attention::{KeysValues, Kv, Queries};
pub use layer_norm::LayerNorm;
pub use linear::{BaseOnly, BiasedLinear, Linear, SidePath};
pub use mask::{AttentionKind, AttentionPlan};
pub use mlp::Mlp;
pub use norm::RmsNorm;
pub use rope::{Rope, RopeTable};
pub use score::{scores, sigmoid};
pub use segments::Segments;
pub use squares::InputSquares;
