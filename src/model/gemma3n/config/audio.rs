//! How Gemma 3n hears.

use crate::model::audio::AudioConfig;
use crate::model::gemma3n::embedder::EmbedderConfig;
use crate::weights::names::TensorId;

/// What makes soft tokens of sounds, and the words that mark them.
#[derive(Debug, Clone, PartialEq)]
pub struct SoundConfig {
    /// The tower that listens.
    pub audio_config: AudioConfig,
    /// Whether the tower itself is put together, and not only what makes rows of what it gives.
    pub has_tower: bool,
    /// What makes rows of the model's width of what the tower gives.
    pub embed_audio: EmbedderConfig,
    /// Soft tokens of a clip, whatever its length.
    pub audio_soft_tokens_per_image: usize,
    /// The word before a clip.
    pub boa_token_id: u32,
    /// The word after a clip.
    pub eoa_token_id: u32,
    /// The word that stands for each soft token.
    pub audio_token_id: u32,
}

impl SoundConfig {
    /// Every tensor of a tower and an embedder to width `d`.
    pub fn tensors(&self, d: usize) -> Vec<(TensorId, Vec<usize>)> {
        self.audio_config.tensors().into_iter().chain(self.embed_audio.tensors(d)).collect()
    }
}
