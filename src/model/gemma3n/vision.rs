//! What makes soft tokens of pictures.

use crate::error::Result;
use crate::model::gemma3n::config::ImageConfig;
use crate::model::gemma3n::embedder::MultimodalEmbedder;
use crate::model::inputs::{Features, SoftTokens};
use crate::model::parts::Parts;
use crate::model::site::Site;
use crate::model::vision::mobilenet::MobileNet;
use crate::weights::names::TensorId;
use burn::tensor::{Device, Tensor};
use std::collections::BTreeMap;

/// The tower that looks at pictures, and what makes rows of the model's width of what it sees.
#[derive(Debug, Clone)]
pub struct Vision {
    /// Looks at them.
    pub vision_tower: MobileNet,
    /// Makes rows of what it sees, and of the words around them.
    pub embed_vision: MultimodalEmbedder,
}

impl Vision {
    /// Puts together the tower and the embedder to width `d` that `config` describes.
    ///
    /// # Errors
    /// Those of `parts`.
    pub fn assemble(
        config: &ImageConfig,
        d: usize,
        sites: &BTreeMap<TensorId, Site>,
        parts: &mut dyn Parts,
        device: &Device,
    ) -> Result<Self> {
        Ok(Vision {
            vision_tower: MobileNet::assemble(&config.vision_config, parts)?,
            embed_vision: MultimodalEmbedder::assemble(&config.embed_vision, d, sites, parts, device)?,
        })
    }

    /// What the tower gives for one picture, times `sqrt(w)`.
    ///
    /// # Shapes
    /// - `pixels`: `[3, height, width]`
    /// - output: `[p, w]`
    pub fn encode(&self, pixels: Tensor<3>) -> Tensor<2> {
        let seen = self.vision_tower.forward(pixels);
        let [_, w] = seen.dims();
        seen.mul_scalar((w as f64).sqrt() as f32)
    }

    /// The soft tokens of one picture, as the projection of the embedder takes them.
    ///
    /// # Shapes
    /// - output: `[p, w]`
    pub fn normed(&self, soft: &SoftTokens) -> Tensor<2> {
        self.embed_vision.soft(match &soft.features {
            Features::Encoded(features) => features.clone(),
            Features::Prepared(pixels) => self.encode(pixels.clone()),
        })
    }
}
