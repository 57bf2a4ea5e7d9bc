//! What a SigLIP tower looks like.

use crate::weights::names::{TensorId, VisionModule, VisionProjection, VisionTensor};

/// The shape and constants of a SigLIP vision tower, named as in Hugging Face.
///
/// Its fixed parts carry no field: GELU with tanh, biases everywhere, no dropout, no pooling head.
#[derive(Debug, Clone, PartialEq)]
pub struct VisionConfig {
    /// Width of the residual stream, `w`.
    pub hidden_size: usize,
    /// Width of the MLP, `f`.
    pub intermediate_size: usize,
    /// Layers.
    pub num_hidden_layers: usize,
    /// Heads, `h`; divides `hidden_size`.
    pub num_attention_heads: usize,
    /// Colours of a pixel.
    pub num_channels: usize,
    /// Pixels on a side of a picture.
    pub image_size: usize,
    /// Pixels on a side of a patch.
    pub patch_size: usize,
    /// Added to the variance in every norm, and to the mean square in the projector's.
    pub layer_norm_eps: f64,
}

impl VisionConfig {
    /// Patches on a side of a picture; pixels beyond the last whole patch are not looked at.
    pub fn patches_per_side(&self) -> usize {
        self.image_size / self.patch_size
    }

    /// Patches of a picture, `p`.
    pub fn num_patches(&self) -> usize {
        self.patches_per_side().pow(2)
    }

    /// Width of a head, `e`.
    pub fn head_dim(&self) -> usize {
        self.hidden_size / self.num_attention_heads
    }

    /// The linear layers, in the order of a forward pass, with the dimensions of their weights `[out, in]`.
    pub fn linears(&self) -> impl Iterator<Item = (VisionModule, [usize; 2])> + use<> {
        let &VisionConfig { hidden_size: w, intermediate_size: f, .. } = self;
        let dims = move |part| match part {
            VisionProjection::Fc1 => [f, w],
            VisionProjection::Fc2 => [w, f],
            _ => [w, w],
        };
        let layers = 0..self.num_hidden_layers;
        layers.flat_map(move |layer| {
            VisionProjection::ALL.map(|part| (VisionModule::Projection(layer, part), dims(part)))
        })
    }

    /// Numbers that the tower keeps of a picture for the way back, where adapters are on those of its linear layers that
    /// `has_adapter`; 0 without any.
    ///
    /// Of each patch in a layer: what both norms centred, queries, keys, values and what attention made of them, a number per
    /// head, and both factors of the activation; and the input of a linear layer with an adapter.
    pub fn kept(&self, has_adapter: impl Fn(VisionModule) -> bool) -> u64 {
        let &VisionConfig { hidden_size: w, intermediate_size: f, num_attention_heads: h, .. } = self;
        let layers = (0..self.num_hidden_layers).map(|layer| {
            let has = |part| has_adapter(VisionModule::Projection(layer, part));
            let has_any = |parts: &[VisionProjection]| parts.iter().any(|part| has(*part));
            let inputs = [
                (has_any(&[VisionProjection::Q, VisionProjection::K, VisionProjection::V]), w),
                (has(VisionProjection::Fc1), w),
                (has(VisionProjection::Fc2), f),
            ];
            let inputs: usize = inputs.into_iter().filter(|(has, _)| *has).map(|(_, width)| width).sum();
            (inputs, has_any(&VisionProjection::ALL))
        });
        // Below the first layer with an adapter there is no way back.
        let (inputs, adapted): (Vec<usize>, Vec<bool>) = layers.unzip();
        let Some(first) = adapted.iter().position(|has| *has) else { return 0 };
        let per_patch: usize = inputs[first..].iter().map(|inputs| inputs + 6 * w + h + 2 * f).sum();
        (self.num_patches() * per_patch) as u64
    }

    /// Numbers that are alive for a moment on the way back through a layer.
    pub fn transient(&self) -> u64 {
        (self.num_patches() * (4 * self.intermediate_size + 2 * self.hidden_size)) as u64
    }

    /// Every tensor of a tower of this shape.
    pub fn tensors(&self) -> Vec<(TensorId, Vec<usize>)> {
        let &VisionConfig { hidden_size: w, patch_size: p, num_channels, .. } = self;
        let patches = (VisionModule::PatchEmbedding, vec![w, num_channels, p, p]);
        let layers = 0..self.num_hidden_layers;
        let norms = layers.flat_map(|layer| [VisionModule::LayerNorm1(layer), VisionModule::LayerNorm2(layer)]);
        let norms = norms.chain([VisionModule::PostLayernorm]).map(|norm| (norm, vec![w]));
        let linears = self.linears().map(|(linear, dims)| (linear, dims.to_vec()));
        let modules = std::iter::once(patches).chain(linears).chain(norms);
        let tensors = modules.flat_map(|(module, dims)| {
            [(VisionTensor::Bias(module), vec![dims[0]]), (VisionTensor::Weight(module), dims)]
        });
        let positions = (VisionTensor::PositionEmbedding, vec![self.num_patches(), w]);
        tensors.chain([positions]).map(|(tensor, dims)| (TensorId::Vision(tensor), dims)).collect()
    }
}
