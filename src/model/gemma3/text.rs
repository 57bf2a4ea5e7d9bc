//! The Gemma 3 text model.

use crate::model::gemma3::TextConfig;
use crate::model::{DecoderLayer, Site};
use crate::nn::{AttentionKind, AttentionPlan, KvCache, LayerCache, Linear, RmsNorm, RopeTable, Segments, SidePath};
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

/// How the sequences of a batch lie, as all layers need to know it: rotations and masks. Made once per batch.
#[derive(Debug, Clone)]
pub struct Layout {
    local: RopeTable,
    global: RopeTable,
    plan: AttentionPlan,
}

impl Gemma3 {
    /// All projections, in order of their number.
    pub fn sites(&self) -> Vec<Site> {
        self.config.sites()
    }

    /// The linear layers of the sites, in their order.
    pub fn linears(&self) -> Vec<&Linear> {
        self.layers.iter().flat_map(DecoderLayer::linears).collect()
    }

    /// The linear layer of a site, by its number.
    pub fn linear(&self, site: usize) -> &Linear {
        self.linears()[site]
    }

    /// Values in all frozen weights and norms.
    pub fn parameters(&self) -> u64 {
        let count = |weight: &Weight| weight.dims().iter().map(|&n| n as u64).product::<u64>();
        let head = if self.config.tie_word_embeddings { 0 } else { count(&self.lm_head) };
        let linears: u64 = self.linears().into_iter().map(|linear| count(&linear.weight)).sum();
        let (d, e) = (self.config.hidden_size as u64, self.config.head_dim as u64);
        let norms = d + self.layers.len() as u64 * (4 * d + 2 * e);
        count(&self.embed_tokens) + head + linears + norms
    }

    /// What factors of products with its projections are rounded to.
    pub fn compute_dtype(&self) -> FloatDType {
        self.layers.first().map_or(FloatDType::F32, |layer| layer.self_attn.compute_dtype())
    }

    /// Prepares rotations and masks for whole sequences.
    pub fn layout(&self, segments: &Segments) -> Layout {
        let (local, global) = self.rope(&segments.positions());
        Layout { local, global, plan: AttentionPlan::new(segments, self.config.sliding_window) }
    }

    /// Embeds tokens: row of the table times `sqrt(d)`.
    ///
    /// # Shapes
    /// - output: `[n, d]`
    pub fn embed(&self, input_ids: &[u32]) -> Tensor<2> {
        self.embed_tokens.select(input_ids).mul_scalar((self.config.hidden_size as f64).sqrt() as f32)
    }

    /// Runs layer `index` on whole sequences.
    ///
    /// # Shapes
    /// - `x`: `[n, d]`
    /// - output: `[n, d]`
    pub fn layer(&self, index: usize, x: Tensor<2>, layout: &Layout, side: &dyn SidePath) -> Tensor<2> {
        let layer = &self.layers[index];
        layer.forward(x, layout.rope(layer.self_attn.config.kind), &layout.plan, side)
    }

    /// Runs all layers on whole sequences; the output is not yet normalised.
    ///
    /// # Shapes
    /// - `input_ids`: `[n]`
    /// - output: `[n, d]`
    pub fn hidden(&self, input_ids: &[u32], segments: &Segments, side: &dyn SidePath) -> Tensor<2> {
        let layout = self.layout(segments);
        (0..self.layers.len()).fold(self.embed(input_ids), |x, index| self.layer(index, x, &layout, side))
    }

    /// The logits of hidden rows: `norm(x) E^T`.
    ///
    /// # Shapes
    /// - `hidden`: `[n, d]`
    /// - output: `[n, v]`
    pub fn logits(&self, hidden: Tensor<2>) -> Tensor<2> {
        self.lm_head.project(self.norm.forward(hidden))
    }

    /// An empty cache for this many sequences.
    pub fn cache(&self, sequences: usize) -> KvCache {
        KvCache {
            layers: self.layers.iter().map(|l| LayerCache::new(l.self_attn.config.reach(), sequences)).collect(),
            lengths: vec![0; sequences],
        }
    }

    /// Runs the next tokens of cached sequences: `lengths[i]` of the `input_ids` belong to sequence `i`. The output is
    /// not yet normalised.
    ///
    /// # Shapes
    /// - `input_ids`: `[n]`
    /// - output: `[n, d]`
    pub fn hidden_cached(
        &self,
        input_ids: &[u32],
        lengths: &[usize],
        cache: &mut KvCache,
        side: &dyn SidePath,
    ) -> Tensor<2> {
        let positions: Vec<usize> =
            cache.lengths.iter().zip(lengths).flat_map(|(&seen, &new)| seen..seen + new).collect();
        let (local, global) = self.rope(&positions);
        let mut x = self.embed(input_ids);
        for (layer, cache) in self.layers.iter().zip(&mut cache.layers) {
            let rope = match layer.self_attn.config.kind {
                AttentionKind::Sliding => &local,
                AttentionKind::Full => &global,
            };
            x = layer.forward_cached(x, rope, lengths, cache, side);
        }
        for (seen, new) in cache.lengths.iter_mut().zip(lengths) {
            *seen += new;
        }
        x
    }

    /// The rotations of sliding and of full layers.
    fn rope(&self, positions: &[usize]) -> (RopeTable, RopeTable) {
        let TextConfig { rope_local, rope_global, head_dim, .. } = &self.config;
        (rope_local.table(positions, *head_dim, &self.device), rope_global.table(positions, *head_dim, &self.device))
    }
}

impl Layout {
    fn rope(&self, kind: AttentionKind) -> &RopeTable {
        match kind {
            AttentionKind::Sliding => &self.local,
            AttentionKind::Full => &self.global,
        }
    }
}
