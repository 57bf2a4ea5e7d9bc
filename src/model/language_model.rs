//! What runs: a decoder of whichever architecture.

use crate::model::carry::Carry;
use crate::model::decoder_config::DecoderConfig;
use crate::model::inputs::{Inputs, Modality};
use crate::model::layout::Layout;
use crate::model::site::Site;
use crate::nn::cross_entropy::Head;
use crate::nn::{KvCache, Linear, RmsNorm, SidePath};
use crate::ops::Weight;
use burn::tensor::{Device, FloatDType, Tensor};
use std::fmt;
use std::ops::Range;

/// A decoder with frozen weights. Whoever trains, asks or scores one knows nothing else of it.
///
/// A forward pass is [`LanguageModel::embed`], every [`LanguageModel::layer`], [`LanguageModel::last_hidden`], the norm
/// and the head. Several threads may run one at once.
pub trait LanguageModel: fmt::Debug + Send + Sync {
    /// Its configuration.
    fn config(&self) -> &dyn DecoderConfig;

    /// Where it computes.
    fn device(&self) -> &Device;

    /// How many rows, and fewer, go through it as each would alone, bit for bit; an adapter is none of it.
    fn rows_alone(&self) -> usize {
        let weights = self.linears().into_iter().map(|linear| &linear.weight).chain([self.lm_head()]);
        weights.map(Weight::rows_alone).min().unwrap_or_default().min(self.most_rows_alone())
    }

    /// As [`LanguageModel::rows_alone`], of what is not multiplied with these weights.
    fn most_rows_alone(&self) -> usize {
        usize::MAX
    }

    /// Prepares rotations and masks for whole sequences.
    fn layout(&self, inputs: &Inputs) -> Layout;

    /// Embeds tokens and soft tokens.
    fn embed(&self, inputs: &Inputs, side: &dyn SidePath) -> Carry;

    /// Runs layer `index` on whole sequences.
    fn layer(&self, index: usize, carry: Carry, layout: &Layout, side: &dyn SidePath) -> Carry;

    /// What the norm before the head sees of the last layer's streams. Row by row, so that a few rows may be asked for
    /// alone; what is shared plays no part.
    ///
    /// # Shapes
    /// - output: `[n, d]`
    fn last_hidden(&self, carry: Carry, side: &dyn SidePath) -> Tensor<2>;

    /// The norm before the head.
    fn norm(&self) -> &RmsNorm;

    /// The matrix that makes logits, `[v, d]`.
    fn lm_head(&self) -> &Weight;

    /// What makes logits of normalised rows.
    fn head(&self) -> Head<'_> {
        Head { weight: self.lm_head(), softcap: self.config().final_logit_softcapping() }
    }

    /// The linear layers of the configuration's sites, in their order.
    fn linears(&self) -> Vec<&Linear>;

    /// An empty cache for this many sequences.
    fn cache(&self, sequences: usize) -> KvCache;

    /// Runs the next tokens of cached sequences from what [`LanguageModel::embed`] made of them: `lengths[i]` of the rows
    /// belong to sequence `i`; those of each of the `images` show one picture. The output is not yet normalised.
    ///
    /// # Shapes
    /// - output: `[n, d]`
    fn next_hidden(
        &self,
        carry: Carry,
        images: &[Range<usize>],
        lengths: &[usize],
        cache: &mut KvCache,
        side: &dyn SidePath,
    ) -> Tensor<2>;

    /// Runs the next tokens of cached sequences: `lengths[i]` of the rows belong to sequence `i`, whatever the inputs'
    /// own segments say. Soft tokens are not cut: all of a picture's are new together. The output is not yet normalised.
    ///
    /// # Shapes
    /// - output: `[n, d]`
    fn hidden_cached(&self, inputs: &Inputs, lengths: &[usize], cache: &mut KvCache, side: &dyn SidePath) -> Tensor<2> {
        self.next_hidden(self.embed(inputs, side), &inputs.images(), lengths, cache, side)
    }

    /// Values in all frozen weights and norms.
    fn parameters(&self) -> u64;

    /// What factors of products with its projections are rounded to.
    fn compute_dtype(&self) -> FloatDType;

    /// The places where an adapter can go, in order of their number.
    fn sites(&self) -> Vec<Site> {
        self.config().sites()
    }

    /// The linear layer of a site, by its number.
    fn linear(&self, site: usize) -> &Linear {
        let mut all = self.linears();
        all.extend(self.tower_linears());
        all[site]
    }

    /// The linear layers of the configuration's tower sites, in their order; none where the towers were not loaded.
    fn tower_linears(&self) -> Vec<&Linear> {
        Vec::new()
    }

    /// The tensor of this number among [`DecoderConfig::whole_tensors`], where it was loaded.
    ///
    /// # Shapes
    /// - output: as there
    fn whole(&self, tensor: usize) -> Option<Tensor<2>> {
        let _ = tensor;
        None
    }

    /// What the tower of this modality gives for one prepared picture or sound, as [`crate::model::Features::Encoded`] holds it;
    /// `None` without such a tower.
    ///
    /// # Shapes
    /// - `prepared`: `[channels, height, width]` of a picture, `[1, frames, bins]` of a sound
    /// - output: `[p, w]`
    fn encode(&self, modality: Modality, prepared: Tensor<3>) -> Option<Tensor<2>> {
        let _ = (modality, prepared);
        None
    }

    /// Decoder layers.
    fn num_layers(&self) -> usize {
        self.config().num_hidden_layers()
    }

    /// Runs all layers on whole sequences; the output is not yet normalised.
    ///
    /// # Shapes
    /// - output: `[n, d]`
    fn hidden(&self, inputs: &Inputs, side: &dyn SidePath) -> Tensor<2> {
        let layout = self.layout(inputs);
        let layers = 0..self.num_layers();
        let carry = layers.fold(self.embed(inputs, side), |carry, index| self.layer(index, carry, &layout, side));
        self.last_hidden(carry, side)
    }

    /// The logits of hidden rows: `norm(x) E^T`, bent by the soft cap where there is one.
    ///
    /// # Shapes
    /// - `hidden`: `[n, d]`
    /// - output: `[n, v]`
    fn logits(&self, hidden: Tensor<2>) -> Tensor<2> {
        self.head().logits(self.norm().forward(hidden))
    }
}
