//! How Gemma 3 reads pictures.

use crate::model::vision::siglip::VisionConfig;

/// What makes soft tokens of pictures, and the words that mark them.
#[derive(Debug, Clone, PartialEq)]
pub struct ImageConfig {
    /// The tower that looks at them.
    pub vision_config: VisionConfig,
    /// Whether the tower itself is put together, and not only what makes rows of what it gives.
    pub has_tower: bool,
    /// Soft tokens of a picture, a square number.
    pub mm_tokens_per_image: usize,
    /// The word before a picture.
    pub boi_token_index: u32,
    /// The word after a picture.
    pub eoi_token_index: u32,
    /// The word that stands for each soft token; it may lie beyond the vocabulary.
    pub image_token_index: u32,
}
