//! The decoder layer of a Gemma 3n.

use crate::model::gemma3n::altup::AltUp;
use crate::model::gemma3n::gate::SparseMlp;
use crate::nn::{KeysValues, Linear, Queries, RmsNorm, SidePath};
use crate::ops::Input;
use burn::tensor::Tensor;
use std::f64::consts::SQRT_2;

/// One layer: attention beside LAuReL, then feed-forward, on the active stream between AltUp's prediction and correction;
/// what comes of it with the per-layer input goes to the streams but the first.
///
/// # Source
/// Checked part by part by the goldens.
#[derive(Debug, Clone)]
pub struct Layer {
    /// What predicts and corrects the streams.
    pub altup: AltUp,
    /// Before attention and LAuReL.
    pub input_layernorm: RmsNorm,
    /// The residual with a narrow inner space.
    pub laurel: Laurel,
    /// What asks in its attention.
    pub queries: Queries,
    /// What is asked; `None` where that is another layer's.
    pub keys_values: Option<KeysValues>,
    /// After attention, before its residual.
    pub post_attention_layernorm: RmsNorm,
    /// Before the feed-forward block.
    pub pre_feedforward_layernorm: RmsNorm,
    /// Feed-forward.
    pub mlp: SparseMlp,
    /// After the feed-forward block, before its residual.
    pub post_feedforward_layernorm: RmsNorm,
    /// What becomes of the per-layer input.
    pub per_layer: PerLayer,
}

/// LAuReL: `x + norm(right(left(x)))`.
///
/// # Source
/// Menghani et al. 2024, section 2.2.
#[derive(Debug, Clone)]
pub struct Laurel {
    /// `[l, d]`.
    pub linear_left: Linear,
    /// `[d, l]`.
    pub linear_right: Linear,
    /// After both, before the residual.
    pub post_laurel_norm: RmsNorm,
}

/// What becomes of the per-layer input: `norm(projection(gelu_tanh(gate(x)) * input))`.
#[derive(Debug, Clone)]
pub struct PerLayer {
    /// `[p, d]`.
    pub gate: Linear,
    /// `[d, p]`.
    pub projection: Linear,
    /// After both.
    pub norm: RmsNorm,
}

impl Laurel {
    /// Applies it.
    ///
    /// # Shapes
    /// - `x`, output: `[n, d]`
    pub fn forward(&self, x: impl Into<Input>, side: &dyn SidePath) -> Tensor<2> {
        let x = x.into();
        let residual = x.rows().clone();
        let h = self.linear_right.forward(self.linear_left.forward(x, side), side);
        self.post_laurel_norm.forward_onto(residual, h)
    }
}

impl Layer {
    /// Its linear layers, as the configuration lists them.
    pub fn linears(&self) -> Vec<&Linear> {
        let Layer { queries, laurel, altup, per_layer, .. } = self;
        let mlp = &self.mlp.mlp;
        let keys_values = self.keys_values.iter().flat_map(|kv| [&kv.k_proj, &kv.v_proj]);
        let feed_forward = [&queries.o_proj, &mlp.gate_proj, &mlp.up_proj, &mlp.down_proj];
        let own = [&per_layer.gate, &per_layer.projection, &laurel.linear_left, &laurel.linear_right];
        let coefficients = [&altup.modality_router, &altup.prediction_coefs, &altup.correction_coefs];
        let attention = [&queries.q_proj].into_iter().chain(keys_values);
        attention.chain(feed_forward).chain(own).chain(coefficients).collect()
    }

    /// Runs the layer; `attend` is its attention, given the normalised active stream.
    ///
    /// # Shapes
    /// - `streams`, output: `[n, d]` each
    /// - `per_layer_input`: `[n, p]`
    pub fn forward(
        &self,
        streams: &[Tensor<2>],
        per_layer_input: Tensor<2>,
        attend: impl FnOnce(Input) -> Tensor<2>,
        side: &dyn SidePath,
    ) -> Vec<Tensor<2>> {
        let predictions = self.altup.predict(streams, side);
        let active = predictions[self.altup.active].clone();
        let activated = self.activated(active, attend, side);
        let corrected = self.altup.correct(predictions, activated, side);

        let first = corrected[self.altup.active].clone();
        let first = match &self.altup.correct_output_scale {
            Some(scale) => first * scale.clone(),
            None => first,
        };
        let PerLayer { gate, projection, norm } = &self.per_layer;
        let told = projection.forward_gated(gate.forward(first, side), per_layer_input, side);
        let told = norm.forward(told);
        let changed = corrected.into_iter().enumerate();
        changed.map(|(at, x)| if at == 0 { x } else { x + told.clone() }).collect()
    }

    /// What attention, LAuReL and feed-forward make of the active stream.
    fn activated(&self, x: Tensor<2>, attend: impl FnOnce(Input) -> Tensor<2>, side: &dyn SidePath) -> Tensor<2> {
        let normed = self.input_layernorm.forward_for(&self.queries.q_proj.weight, x.clone());
        let laurel = self.laurel.forward(normed.clone(), side);
        let x = self.post_attention_layernorm.forward_onto(x, attend(normed));
        let x = (x + laurel).div_scalar(SQRT_2);
        let h = self.pre_feedforward_layernorm.forward_for(&self.mlp.mlp.gate_proj.weight, x.clone());
        let h = self.mlp.forward(h, side);
        self.post_feedforward_layernorm.forward_onto(x, h)
    }
}
