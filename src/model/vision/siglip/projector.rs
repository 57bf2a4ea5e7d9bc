//! From what the tower sees to soft tokens.

use crate::error::Result;
use crate::model::parts::{Gain, NormShape, Parts};
use crate::model::site::{Stage, WholeTensor};
use crate::model::vision::siglip::config::VisionConfig;
use crate::nn::{RmsNorm, SidePath};
use crate::ops::product;
use crate::weights::names::{PROJECTOR, TensorId, VisionTensor};
use burn::tensor::Tensor;

/// Gemma 3's projector: neighbouring patches averaged, a norm, and a matrix: `norm(pool(x)) W`.
#[derive(Debug, Clone)]
pub struct MultiModalProjector {
    /// Over `w`, with the gain `1 + weight`.
    pub mm_soft_emb_norm: RmsNorm,
    /// `[w, d]`: on the right of what it multiplies, unlike the weight of a linear layer.
    pub mm_input_projection_weight: Tensor<2>,
    /// Soft tokens on a side of a picture.
    pub tokens_per_side: usize,
    /// Patches on a side of a soft token.
    pub kernel_size: usize,
}

/// Numbers of its tensors, as a side path knows them.
const NORM: usize = 0;
const PROJECTION: usize = 1;

impl MultiModalProjector {
    /// Puts together the projector that makes `tokens` rows of width `d` of what a tower gives.
    ///
    /// # Errors
    /// Those of `parts`.
    pub fn assemble(tower: &VisionConfig, tokens: usize, d: usize, parts: &mut dyn Parts) -> Result<Self> {
        let width = tower.hidden_size;
        let norm = NormShape { width, eps: tower.layer_norm_eps, gain: Gain::OnePlus };
        let tokens_per_side = tokens.isqrt();
        Ok(MultiModalProjector {
            mm_soft_emb_norm: parts.norm(TensorId::Vision(VisionTensor::MmSoftEmbNorm), norm)?,
            mm_input_projection_weight: parts
                .matrix(TensorId::Vision(VisionTensor::MmInputProjection), [width, d])?
                .to_f32(),
            tokens_per_side,
            kernel_size: tower.patches_per_side() / tokens_per_side.max(1),
        })
    }

    /// Every tensor of a projector from width `w` to width `d`.
    pub fn tensors(w: usize, d: usize) -> [(TensorId, Vec<usize>); 2] {
        [(VisionTensor::MmSoftEmbNorm, vec![w]), (VisionTensor::MmInputProjection, vec![w, d])]
            .map(|(tensor, dims)| (TensorId::Vision(tensor), dims))
    }

    /// The same tensors as they are trained.
    pub fn whole_tensors(w: usize, d: usize) -> [WholeTensor; 2] {
        let whole = |index, tensor, dims| WholeTensor {
            index,
            id: TensorId::Vision(tensor),
            stage: Stage::Embed,
            dims,
            module: PROJECTOR,
        };
        [whole(NORM, VisionTensor::MmSoftEmbNorm, [1, w]), whole(PROJECTION, VisionTensor::MmInputProjection, [w, d])]
    }

    /// What the tensor of this number begins with where it is trained.
    ///
    /// # Numerics
    /// Of the norm `(1 + w) - 1`, with which `1 + w` is what it was, bit for bit.
    pub fn whole(&self, index: usize) -> Tensor<2> {
        match index {
            NORM => self.mm_soft_emb_norm.gain().clone().sub_scalar(1.0).unsqueeze(),
            _ => self.mm_input_projection_weight.clone(),
        }
    }

    /// Neighbouring patches averaged.
    ///
    /// # Shapes
    /// - `x`: `[p, w]`
    /// - output: `[mm_tokens_per_image, w]`
    pub fn pool(&self, x: Tensor<2>) -> Tensor<2> {
        let [p, w] = x.dims();
        let (tokens, kernel, patches) = (self.tokens_per_side, self.kernel_size, p.isqrt());
        // Patches that fill no whole token are left out, as the reference's pooling leaves them out.
        let x = x.reshape([patches, patches, w]).slice([0..tokens * kernel, 0..tokens * kernel, 0..w]);
        let x = x.reshape([tokens, kernel, tokens, kernel, w]).mean_dim(3).mean_dim(1);
        x.reshape([tokens * tokens, w])
    }

    /// The soft tokens of one picture, by what `side` has in the place of the projector's own tensors.
    ///
    /// # Shapes
    /// - `pooled`: `[mm_tokens_per_image, w]`
    /// - output: `[mm_tokens_per_image, d]`
    pub fn project(&self, pooled: Tensor<2>, side: &dyn SidePath) -> Tensor<2> {
        let normed = match side.whole(NORM) {
            None => self.mm_soft_emb_norm.forward(pooled),
            Some(weight) => self.mm_soft_emb_norm.forward_with(pooled, weight.add_scalar(1.0)),
        };
        product(normed, side.whole(PROJECTION).unwrap_or_else(|| self.mm_input_projection_weight.clone()))
    }
}
