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
    /// Looks at them, where it was loaded.
    pub vision_tower: Option<MobileNet>,
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
            vision_tower: config.has_tower.then(|| MobileNet::assemble(&config.vision_config, parts)).transpose()?,
            embed_vision: MultimodalEmbedder::assemble(&config.embed_vision, d, sites, parts, device)?,
        })
    }

    /// What the tower gives for one picture, times `sqrt(w)`; `None` without a tower.
    ///
    /// # Shapes
    /// - `pixels`: `[3, height, width]`
    /// - output: `[p, w]`
    pub fn encode(&self, pixels: Tensor<3>) -> Option<Tensor<2>> {
        let seen = self.vision_tower.as_ref()?.forward(pixels);
        let [_, w] = seen.dims();
        Some(seen.mul_scalar((w as f64).sqrt() as f32))
    }

    /// The soft tokens of one picture, as the projection of the embedder takes them.
    ///
    /// # Shapes
    /// - output: `[p, w]`
    ///
    /// # Panics
    /// On a picture that no tower has looked at, without a tower: nobody makes such inputs for such a model.
    pub fn normed(&self, soft: &SoftTokens) -> Tensor<2> {
        let seen = match &soft.features {
            Features::Encoded(features) => Some(features.clone()),
            Features::Prepared { values, .. } => self.encode(values.clone()),
        };
        match seen {
            Some(seen) => self.embed_vision.soft(seen),
            None => unreachable!("a picture for a model that has no tower"),
        }
    }
}
