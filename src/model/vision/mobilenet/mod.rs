//! MobileNetV5, the tower that looks at pictures in Gemma 3n.
//!
//! A picture is a grid of cells, each a row of channels: what is a 1 x 1 convolution in the reference is a product of
//! rows here, and its norms over channels are norms of rows. The tower is frozen and has no gradient.

pub mod attention;
pub mod block;
pub mod config;
pub mod conv;
pub mod edge_residual;
pub mod fusion;
pub mod inverted_residual;
mod parts;
pub mod published;
mod shapes;
pub mod tower;

pub use attention::MobileAttention;
pub use block::Block;
pub use config::{BlockConfig, BlockKind, MobileNetConfig};
pub use conv::{ConvNormAct, DepthwiseConv, PointwiseConv};
pub use edge_residual::EdgeResidual;
pub use fusion::MultiScaleFusion;
pub use inverted_residual::UniversalInvertedResidual;
pub use tower::MobileNet;
