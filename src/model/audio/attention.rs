//! Attention of each row to those shortly before it (and, where a tower is made so, shortly after it).

use crate::model::audio::feed_forward::clipped;
use crate::model::audio::position::{RelativePositions, shifted};
use crate::nn::{Linear, RmsNorm, SidePath};
use crate::ops::{Input, product};
use burn::tensor::activation::softmax;
use burn::tensor::{Bool, Device, Int, Tensor, TensorData};

/// Local multi-head self-attention: `softmax(cap(q k^T + q p^T)) v`, where `p` are distances. Rows attend in chunks, each
/// of which is held against all rows that any of its own sees.
#[derive(Debug, Clone)]
pub struct AudioAttention {
    /// Heads, `h`.
    pub num_heads: usize,
    /// Rows that attend together.
    pub chunk_size: usize,
    /// Rows before itself that a row sees.
    pub past: usize,
    /// Rows after itself that it sees.
    pub future: usize,
    /// Bends scores into `(-c, c)`.
    pub softcap: f64,
    /// What queries are multiplied by, `[1, w]`: `softplus(per_dim_scale) / (softplus(0) sqrt(e))` in every head.
    pub query_scale: Tensor<2>,
    /// `[w, w]`.
    pub q_proj: Linear,
    /// `[w, w]`.
    pub k_proj: Linear,
    /// `[w, w]`.
    pub v_proj: Linear,
    /// Distances.
    pub relative_position_embedding: RelativePositions,
}

/// Which rows see which, of a clip of so many.
#[derive(Debug, Clone)]
pub struct LocalMask {
    /// The rows that each chunk sees, in the sequence with silence around it, `[chunks context]`.
    context: Tensor<1, Int>,
    /// What is not seen, `[1, chunks, chunk, context]`.
    unseen: Tensor<4, Bool>,
}

impl AudioAttention {
    /// The mask of a clip of `rows` rows.
    pub fn mask(&self, rows: usize, device: &Device) -> LocalMask {
        let &AudioAttention { chunk_size: chunk, past, future, .. } = self;
        let (chunks, context) = (rows.div_ceil(chunk), chunk + past + future);
        let starts = (0..chunks).map(|at| at * chunk);
        let indices: Vec<i64> = starts.flat_map(|start| start..start + context).map(|row| row as i64).collect();
        // Seen is what lies in the clip and at most so far before and after; both counted with `past` rows before the clip.
        let is_unseen = |at: usize, own: usize, seen: usize| {
            let row = at * chunk + seen;
            !(past..past + rows).contains(&row) || !(own..=own + past + future).contains(&seen)
        };
        let places = (0..chunks).flat_map(|at| (0..chunk).map(move |own| (at, own)));
        let unseen: Vec<bool> =
            places.flat_map(|(at, own)| (0..context).map(move |seen| is_unseen(at, own, seen))).collect();
        LocalMask {
            context: Tensor::from_data(TensorData::new(indices, [chunks * context]), device),
            unseen: Tensor::from_data(TensorData::new(unseen, [1, chunks, chunk, context]), device),
        }
    }

    /// Attends within one clip.
    ///
    /// # Shapes
    /// - `x`, output: `[t, w]`
    pub fn forward(&self, x: Tensor<2>, mask: &LocalMask, side: &dyn SidePath) -> Tensor<2> {
        let ([t, w], [_, chunks, chunk, context]) = (x.dims(), mask.unseen.dims());
        let x = Input::from(x);
        let (h, e) = (self.num_heads, w / self.num_heads);
        let q = self.q_proj.forward(x.clone(), side) * self.query_scale.clone();
        let q = q.pad([(0, chunks * chunk - t), (0, 0)], 0.0);
        let q = q.reshape([chunks, chunk, h, e]).permute([2, 0, 1, 3]); // [h, chunks, chunk, e]
        let around = |x: Tensor<2>| {
            let after = chunks * chunk + self.future - t;
            let x = x.pad([(self.past, after), (0, 0)], 0.0).select(0, mask.context.clone());
            x.reshape([chunks, context, h, e]).permute([2, 0, 1, 3]) // [h, chunks, context, e]
        };
        let k = around(self.k_proj.forward(x.clone(), side));
        let v = around(self.v_proj.forward(x, side));

        let near = self.relative_position_embedding.keys(h, side); // [h, e, distances]
        let distances = product(q.clone().reshape([h, chunks * chunk, e]), near);
        let distances = shifted(distances.reshape([h as i32, chunks as i32, chunk as i32, -1]), context);
        let scores = product(q, k.swap_dims(2, 3)) + distances; // [h, chunks, chunk, context]
        let scores = scores.div_scalar(self.softcap).tanh().mul_scalar(self.softcap);
        let weights = softmax(scores.mask_fill(mask.unseen.clone(), f32::MIN), 3);
        let attended = product(weights, v).permute([1, 2, 0, 3]); // [chunks, chunk, h, e]
        attended.reshape([chunks * chunk, w]).narrow(0, 0, t)
    }
}

/// Attention between norms and beside a residual: `x + post_norm(clip(post(attn(pre_attn_norm(clip(x))))))`.
#[derive(Debug, Clone)]
pub struct ConformerAttention {
    /// Before attention.
    pub pre_attn_norm: RmsNorm,
    /// Attention.
    pub attn: AudioAttention,
    /// `[w, w]`.
    pub post: Linear,
    /// After it, before the residual.
    pub post_norm: RmsNorm,
    /// What activations are held within.
    pub gradient_clipping: f64,
}

impl ConformerAttention {
    /// Applies the block.
    ///
    /// # Shapes
    /// - `x`, output: `[t, w]`
    pub fn forward(&self, x: Tensor<2>, mask: &LocalMask, side: &dyn SidePath) -> Tensor<2> {
        let h = self.pre_attn_norm.forward(clipped(x.clone(), self.gradient_clipping));
        let h = self.post.forward(self.attn.forward(h, mask, side), side);
        self.post_norm.forward_onto(x, clipped(h, self.gradient_clipping))
    }
}
