//! The Gemma 3 text model.

use crate::model::gemma3::TextConfig;
use crate::model::{Carry, DecoderConfig, DecoderLayer, Inputs, LanguageModel, Layout};
use crate::nn::{AttentionKind, AttentionPlan, KvCache, LayerCache, Linear, RmsNorm, RopeTable, SidePath};
use crate::ops::Weight;
use burn::tensor::{Device, FloatDType, Tensor};

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
    /// Where it computes.
    pub device: Device,
}

impl Gemma3 {
    /// The rotations of sliding and of full layers.
    fn rope(&self, positions: &[usize]) -> (RopeTable, RopeTable) {
        let TextConfig { rope_local, rope_global, head_dim, .. } = &self.config;
        (rope_local.table(positions, *head_dim, &self.device), rope_global.table(positions, *head_dim, &self.device))
    }

    /// Rows of the table times `sqrt(d)`; of soft tokens their features, as they are.
    fn embedded(&self, inputs: &Inputs) -> Tensor<2> {
        let scale = (self.config.hidden_size as f64).sqrt() as f32;
        inputs.with_soft_tokens(self.embed_tokens.select(&inputs.input_ids).mul_scalar(scale))
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
        let (local, global) = self.rope(&inputs.segments.positions());
        Layout {
            local,
            global,
            plan: AttentionPlan::new(&inputs.segments, &inputs.images(), self.config.sliding_window),
        }
    }

    fn embed(&self, inputs: &Inputs, _: &dyn SidePath) -> Carry {
        Carry::new(self.embedded(inputs))
    }

    fn layer(&self, index: usize, carry: Carry, layout: &Layout, side: &dyn SidePath) -> Carry {
        let layer = &self.layers[index];
        Carry::new(layer.forward(carry.hidden, layout.rope(layer.self_attn.config.kind), &layout.plan, side))
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
        KvCache {
            layers: self.layers.iter().map(|l| LayerCache::new(l.self_attn.config.reach(), sequences)).collect(),
            lengths: vec![0; sequences],
        }
    }

    fn hidden_cached(&self, inputs: &Inputs, lengths: &[usize], cache: &mut KvCache, side: &dyn SidePath) -> Tensor<2> {
        let positions: Vec<usize> =
            cache.lengths.iter().zip(lengths).flat_map(|(&seen, &new)| seen..seen + new).collect();
        let (local, global) = self.rope(&positions);
        let mut x = self.embedded(inputs);
        let spans = inputs.images();
        for (layer, cache) in self.layers.iter().zip(&mut cache.layers) {
            let rope = match layer.self_attn.config.kind {
                AttentionKind::Sliding => &local,
                AttentionKind::Full => &global,
            };
            x = layer.forward_cached(x, rope, lengths, &spans, cache, side);
        }
        for (seen, new) in cache.lengths.iter_mut().zip(lengths) {
            *seen += new;
        }
        x
    }
}

#[cfg(test)]
mod tests;
