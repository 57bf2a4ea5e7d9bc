//! Attention of all patches of a picture to all of them.

use crate::nn::{BiasedLinear, SidePath};
use crate::ops::{self, AttentionMask, AttentionShape, Group, Input, Visibility};
use burn::tensor::Tensor;

/// Multi-head self-attention without a mask: `out(softmax(q k^T / sqrt(e)) v)`.
#[derive(Debug, Clone)]
pub struct VisionAttention {
    /// Heads, `h`.
    pub num_heads: usize,
    /// `[w, w]`.
    pub q_proj: BiasedLinear,
    /// `[w, w]`.
    pub k_proj: BiasedLinear,
    /// `[w, w]`.
    pub v_proj: BiasedLinear,
    /// `[w, w]`.
    pub out_proj: BiasedLinear,
}

impl VisionAttention {
    /// Attends within one picture.
    ///
    /// # Shapes
    /// - `x`, output: `[p, w]`
    pub fn forward(&self, x: Tensor<2>, everyone: &AttentionMask, side: &dyn SidePath) -> Tensor<2> {
        let ([p, w], x) = (x.dims(), Input::from(x));
        let (h, e) = (self.num_heads, w / self.num_heads);
        let heads = |linear: &BiasedLinear| linear.forward(x.clone(), side).reshape([p, h, e]);
        let [q, k, v] = [&self.q_proj, &self.k_proj, &self.v_proj].map(heads);
        let shape = AttentionShape {
            heads: h,
            kv_heads: h,
            head_dim: e,
            scaling: (e as f64).powf(-0.5) as f32,
            softcap: None,
            compute_dtype: self.q_proj.linear.weight.compute_dtype(),
        };
        self.out_proj.forward(ops::attention(q, k, v, &shape, everyone), side)
    }
}

/// The mask of a picture of so many patches, each of which sees all of them.
pub fn everyone(patches: usize) -> AttentionMask {
    let all = 0..patches;
    let group = Group { queries: all.clone(), keys: all.clone() };
    AttentionMask::new(Visibility { groups: vec![group], window: usize::MAX, spans: vec![all] })
}
