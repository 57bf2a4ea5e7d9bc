//! SigLIP, the tower that looks at pictures in Gemma 3, and what that makes of what it sees.

pub mod attention;
pub mod config;
pub mod embeddings;
pub mod encoder_layer;
pub mod mlp;
pub mod projector;
pub mod tower;

pub use attention::VisionAttention;
pub use config::VisionConfig;
pub use embeddings::VisionEmbeddings;
pub use encoder_layer::VisionEncoderLayer;
pub use mlp::VisionMlp;
pub use projector::MultiModalProjector;
pub use tower::VisionTower;
