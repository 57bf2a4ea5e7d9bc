//! How Gemma 3n reads pictures.

use crate::model::gemma3n::embedder::EmbedderConfig;
use crate::model::vision::mobilenet::MobileNetConfig;
use crate::weights::names::TensorId;

/// What makes soft tokens of pictures, and the words that mark them.
#[derive(Debug, Clone, PartialEq)]
pub struct ImageConfig {
    /// The tower that looks at them.
    pub vision_config: MobileNetConfig,
    /// Whether the tower itself is put together, and not only what makes rows of what it gives.
    pub has_tower: bool,
    /// What makes rows of the model's width of what the tower gives.
    pub embed_vision: EmbedderConfig,
    /// Soft tokens of a picture, a square number.
    pub vision_soft_tokens_per_image: usize,
    /// The word before a picture.
    pub boi_token_id: u32,
    /// The word after a picture.
    pub eoi_token_id: u32,
    /// The word that stands for each soft token.
    pub image_token_id: u32,
}

impl ImageConfig {
    /// Every tensor of a tower and an embedder to width `d`.
    pub fn tensors(&self, d: usize) -> Vec<(TensorId, Vec<usize>)> {
        self.vision_config.tensors().into_iter().chain(self.embed_vision.tensors(d)).collect()
    }
}
