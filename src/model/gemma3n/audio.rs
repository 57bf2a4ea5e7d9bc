//! What makes soft tokens of sounds.

use crate::error::Result;
use crate::model::audio::{AudioConfig, AudioTower};
use crate::model::gemma3n::config::SoundConfig;
use crate::model::gemma3n::embedder::MultimodalEmbedder;
use crate::model::inputs::{Features, SoftTokens};
use crate::model::parts::Parts;
use crate::model::site::Site;
use crate::nn::{Linear, SidePath};
use crate::weights::names::TensorId;
use burn::tensor::{Device, Tensor};
use std::collections::BTreeMap;

/// The tower that listens, and what makes rows of the model's width of what it hears.
#[derive(Debug, Clone)]
pub struct Audio {
    /// Listens, where it was loaded.
    pub audio_tower: Option<AudioTower>,
    /// Makes rows of what it hears, and of the words around it.
    pub embed_audio: MultimodalEmbedder,
    /// The word that stands where a clip is shorter than its soft tokens.
    pub padding: u32,
    /// The tower's sizes.
    pub config: AudioConfig,
}

impl Audio {
    /// Puts together the tower and the embedder to width `d` that `config` describes.
    ///
    /// # Errors
    /// Those of `parts`.
    pub fn assemble(
        config: &SoundConfig,
        d: usize,
        padding: u32,
        sites: &BTreeMap<TensorId, Site>,
        parts: &mut dyn Parts,
        device: &Device,
    ) -> Result<Self> {
        Ok(Audio {
            audio_tower: (config.has_tower)
                .then(|| AudioTower::assemble(&config.audio_config, sites, parts, device))
                .transpose()?,
            embed_audio: MultimodalEmbedder::assemble(&config.embed_audio, d, sites, parts, device)?,
            padding,
            config: config.audio_config.clone(),
        })
    }

    /// Its linear layers: the embedder's projection, then those of the tower.
    pub fn linears(&self) -> impl Iterator<Item = &Linear> {
        let tower = self.audio_tower.iter().flat_map(AudioTower::linears);
        std::iter::once(&self.embed_audio.embedding_projection).chain(tower)
    }

    /// What the tower gives for one clip, of which the first `valid` frames begin within it; `None` without a tower.
    ///
    /// # Shapes
    /// - `frames`: `[1, frames, bins]`
    /// - output: `[t, w]`
    pub fn hear(&self, frames: Tensor<3>, valid: usize, side: &dyn SidePath) -> Option<Tensor<2>> {
        let heard = self.audio_tower.as_ref()?.forward(frames, side);
        // What begins in the silence that a clip is padded with is no feature: padding stands there.
        let rows = self.config.rows(valid).min(heard.dims()[0]);
        Some(heard.narrow(0, 0, rows))
    }

    /// The soft tokens of one clip, as the projection of the embedder takes them: what the tower gives, and padding.
    ///
    /// # Shapes
    /// - output: `[rows, w]`
    ///
    /// # Panics
    /// On a sound that no tower has listened to, without a tower: nobody makes such inputs for such a model.
    pub fn normed(&self, soft: &SoftTokens, side: &dyn SidePath) -> Tensor<2> {
        let heard = match &soft.features {
            Features::Encoded(features) => Some(features.clone()),
            Features::Prepared { values, valid } => self.hear(values.clone(), *valid, side),
        };
        let heard = match heard {
            Some(heard) => self.embed_audio.soft(heard),
            None => unreachable!("a sound for a model that has no tower"),
        };
        match soft.rows.len().saturating_sub(heard.dims()[0]) {
            0 => heard,
            missing => Tensor::cat(vec![heard, self.embed_audio.hard(&vec![self.padding; missing])], 0),
        }
    }
}
