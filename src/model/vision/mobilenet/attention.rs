//! Attention of every cell of a picture to every cell of it, or of a smaller one.

use crate::model::vision::mobilenet::conv::{ConvNormAct, PointwiseConv};
use crate::nn::RmsNorm;
use crate::ops::{self, AttentionMask, AttentionShape, Group, Visibility};
use burn::tensor::Tensor;

/// Attention whose heads share keys and values, which are made of fewer cells where there are many: `x + layer_scale *
/// output(softmax(q k^T / sqrt(e)) v)`.
///
/// # Source
/// timm's `MobileAttention`; Qin et al. 2024, section 4.
#[derive(Debug, Clone)]
pub struct MobileAttention {
    /// Before it.
    pub norm: RmsNorm,
    /// Heads of queries, `h`.
    pub num_heads: usize,
    /// `[h e, c]`.
    pub query: PointwiseConv,
    /// `[e, c]`.
    pub key: Projected,
    /// `[e, c]`.
    pub value: Projected,
    /// `[o, h e]`.
    pub output: PointwiseConv,
    /// What is multiplied with each channel before the residual sum, `[1, 1, o]`.
    pub layer_scale: Tensor<3>,
    /// Whether its input is added to its output.
    pub has_skip: bool,
}

/// What keys or values are made with.
#[derive(Debug, Clone)]
pub struct Projected {
    /// Makes the picture smaller, with its norm; `None` where it stays as it is.
    pub down_conv: Option<ConvNormAct>,
    /// `[e, c]`.
    pub proj: PointwiseConv,
}

impl Projected {
    /// Keys or values.
    ///
    /// # Shapes
    /// - `x`: `[height, width, c]`
    /// - output: `[m, 1, e]`
    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let x = match &self.down_conv {
            Some(down_conv) => down_conv.forward(x),
            None => x,
        };
        let made = self.proj.forward(x);
        let [height, width, e] = made.dims();
        made.reshape([height * width, 1, e])
    }
}

impl MobileAttention {
    /// Runs the block.
    ///
    /// # Shapes
    /// - `x`: `[height, width, c]`
    /// - output: `[height, width, o]`
    pub fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let [height, width, _] = x.dims();
        let normed = self.norm.forward(x.clone());
        let q = self.query.forward(normed.clone());
        let e = q.dims()[2] / self.num_heads;
        let q = q.reshape([height * width, self.num_heads, e]);
        let (k, v) = (self.key.forward(normed.clone()), self.value.forward(normed));
        let shape = AttentionShape {
            heads: self.num_heads,
            kv_heads: 1,
            head_dim: e,
            scaling: (e as f64).powf(-0.5) as f32,
            softcap: None,
            compute_dtype: self.query.weight.compute_dtype(),
        };
        let mask = everything(height * width, k.dims()[0]);
        let attended = ops::attention(q, k, v, &shape, &mask); // [n, h e]
        let y = self.output.forward(attended.reshape([height, width, self.num_heads * e]));
        let y = y * self.layer_scale.clone();
        if self.has_skip { y + x } else { y }
    }
}

/// The mask under which every query sees every key.
fn everything(queries: usize, keys: usize) -> AttentionMask {
    // In runs that are no longer than the keys: in a longer one the first queries would come before all keys.
    let runs = (0..queries).step_by(keys.max(1));
    let groups = runs.map(|first| Group { queries: first..queries.min(first + keys), keys: 0..keys });
    #[expect(clippy::single_range_in_vec_init, reason = "one span, over all keys")]
    let spans = vec![0..keys];
    AttentionMask::new(Visibility { groups: groups.collect(), window: usize::MAX, spans })
}
