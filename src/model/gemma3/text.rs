//! The Gemma 3 text model.

use crate::model::gemma3::TextConfig;
use crate::model::vision::siglip::{MultiModalProjector, VisionEncoderLayer, VisionTower};
use crate::model::{
    Carry, DecoderConfig, DecoderLayer, Features, Inputs, LanguageModel, Layout, Modality, Rotary, SoftTokens, Towers,
};
use crate::nn::{AttentionPlan, BaseOnly, KvCache, Linear, RmsNorm, SidePath};
use crate::ops::Weight;
use burn::tensor::{Device, FloatDType, Tensor};
use std::ops::Range;

/// A Gemma 3 text model with frozen weights.
#[derive(Debug, Clone)]
pub struct Gemma3 {
    /// Its configuration.
    pub config: TextConfig,
    /// `[v, d]`.
    pub embed_tokens: Weight,
    /// The decoder blocks, first to last.
    pub layers: Vec<DecoderLayer>,
    /// The norm before the head.
    pub norm: RmsNorm,
    /// `[v, d]`; the same tensor as `embed_tokens` where the head is tied.
    pub lm_head: Weight,
    /// What looks at pictures, where it was loaded.
    pub vision: Option<Vision>,
    /// What makes its rotations.
    pub rotary: Rotary,
    /// Where it computes.
    pub device: Device,
}

/// What makes soft tokens of pictures.
#[derive(Debug, Clone)]
pub struct Vision {
    /// Looks at them, where it was loaded.
    pub vision_tower: Option<VisionTower>,
    /// Makes rows of the model's width of what the tower sees.
    pub multi_modal_projector: MultiModalProjector,
}

impl Vision {
    /// What the projector takes of a prepared picture; `None` without a tower.
    ///
    /// # Shapes
    /// - `pixels`: `[channels, height, width]`
    /// - output: `[mm_tokens_per_image, w]`
    fn look(&self, pixels: Tensor<3>, side: &dyn SidePath) -> Option<Tensor<2>> {
        Some(self.multi_modal_projector.pool(self.vision_tower.as_ref()?.forward(pixels, side)))
    }
}

impl Towers for Vision {
    fn encode(&self, modality: Modality, prepared: Tensor<3>, _valid: usize) -> Option<Tensor<2>> {
        self.look(prepared, &BaseOnly).filter(|_| modality == Modality::Image)
    }
}

impl Gemma3 {
    /// Rows of the table times `sqrt(d)`; of soft tokens what is made of their features, as it is.
    fn embedded(&self, inputs: &Inputs, side: &dyn SidePath) -> Tensor<2> {
        let scale = (self.config.hidden_size as f64).sqrt() as f32;
        let words = self.embed_tokens.select(&inputs.words()).mul_scalar(scale);
        inputs.with_soft_tokens(words, |soft| self.soft_rows(soft, side))
    }

    /// The rows that stand for soft tokens.
    ///
    /// # Panics
    /// On a picture that no tower has looked at, without a tower: nobody makes such inputs for a model of text.
    fn soft_rows(&self, soft: &SoftTokens, side: &dyn SidePath) -> Tensor<2> {
        let vision = self.vision.as_ref().filter(|_| soft.modality == Modality::Image);
        let encoded = match &soft.features {
            Features::Encoded(features) => Some(features.clone()),
            Features::Prepared { values, .. } => vision.and_then(|vision| vision.look(values.clone(), side)),
        };
        match (encoded, vision) {
            (Some(encoded), Some(vision)) => vision.multi_modal_projector.project(encoded, side),
            (Some(encoded), None) => encoded,
            (None, _) => unreachable!("a picture for a model that has no tower"),
        }
    }
}

impl LanguageModel for Gemma3 {
    fn config(&self) -> &dyn DecoderConfig {
        &self.config
    }

    fn device(&self) -> &Device {
        &self.device
    }

    fn linears(&self) -> Vec<&Linear> {
        self.layers.iter().flat_map(DecoderLayer::linears).collect()
    }

    fn tower_linears(&self) -> Vec<&Linear> {
        let layers = self.vision.iter().flat_map(|vision| &vision.vision_tower).flat_map(|tower| &tower.layers);
        layers.flat_map(VisionEncoderLayer::linears).map(|biased| &biased.linear).collect()
    }

    fn whole(&self, tensor: usize) -> Option<Tensor<2>> {
        self.vision.as_ref().map(|vision| vision.multi_modal_projector.whole(tensor))
    }

    fn encode(&self, modality: Modality, prepared: Tensor<3>) -> Option<Tensor<2>> {
        let vision = self.vision.as_ref().filter(|_| modality == Modality::Image)?;
        vision.look(prepared, &BaseOnly)
    }

    fn parameters(&self) -> u64 {
        let count = |weight: &Weight| weight.dims().iter().map(|&n| n as u64).product::<u64>();
        let head = if self.config.tie_word_embeddings { 0 } else { count(&self.lm_head) };
        let linears: u64 = self.linears().into_iter().map(|linear| count(&linear.weight)).sum();
        let (d, e) = (self.config.hidden_size as u64, self.config.head_dim as u64);
        let norms = d + self.layers.len() as u64 * (4 * d + 2 * e);
        count(&self.embed_tokens) + head + linears + norms
    }

    fn compute_dtype(&self) -> FloatDType {
        self.layers.first().map_or(FloatDType::F32, |layer| layer.self_attn.compute_dtype())
    }

    fn layout(&self, inputs: &Inputs) -> Layout {
        Layout {
            rotations: self.rotary.at(&inputs.segments.positions()),
            plan: AttentionPlan::new(&inputs.segments, &inputs.images(), self.config.sliding_window),
        }
    }

    fn embed(&self, inputs: &Inputs, side: &dyn SidePath) -> Carry {
        Carry::new(self.embedded(inputs, side))
    }

    fn layer(&self, index: usize, carry: Carry, layout: &Layout, side: &dyn SidePath) -> Carry {
        let layer = &self.layers[index];
        Carry::new(layer.forward(carry.hidden, layout.rotations.of(layer.self_attn.config.kind), &layout.plan, side))
    }

    fn last_hidden(&self, carry: Carry, _: &dyn SidePath) -> Tensor<2> {
        carry.hidden
    }

    fn norm(&self) -> &RmsNorm {
        &self.norm
    }

    fn lm_head(&self) -> &Weight {
        &self.lm_head
    }

    fn cache(&self, sequences: usize) -> KvCache {
        let caches = self.layers.iter().map(|layer| layer.self_attn.config.cache(sequences));
        KvCache { layers: caches.collect(), lengths: vec![0; sequences] }
    }

    fn next_hidden(
        &self,
        carry: Carry,
        images: &[Range<usize>],
        lengths: &[usize],
        cache: &mut KvCache,
        side: &dyn SidePath,
    ) -> Tensor<2> {
        let rotations = self.rotary.at(&cache.next_positions(lengths));
        let mut x = carry.hidden;
        for (layer, cache) in self.layers.iter().zip(&mut cache.layers) {
            let rope = rotations.of(layer.self_attn.config.kind);
            x = layer.forward_cached(x, rope, lengths, images, cache, side);
        }
        cache.advance(lengths);
        x
    }
}

#[cfg(test)]
mod tests;
