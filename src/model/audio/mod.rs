//! Towers that listen: Gemma 3n's conformer.

pub mod attention;
pub mod block;
pub mod config;
pub mod feed_forward;
pub mod light_conv;
pub mod position;
pub mod subsample;
pub mod tower;

pub use attention::{AudioAttention, ConformerAttention};
pub use block::ConformerBlock;
pub use config::AudioConfig;
pub use feed_forward::ConformerFeedForward;
pub use light_conv::LightConv;
pub use position::RelativePositions;
pub use subsample::{ConvBlock, SubSampleConvProjection};
pub use tower::AudioTower;
