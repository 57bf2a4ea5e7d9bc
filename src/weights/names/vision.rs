//! The part of the table for what makes soft tokens of pictures in Gemma 3: the SigLIP tower and the projector.
//!
//! One name of each is made, the one that transformers 5 saves: `vision_tower.encoder..`, `multi_modal_projector..`. Two
//! more are read: with `vision_model.` after the tower's name, as checkpoints on the Hub have it, and with `model.` before
//! all of it, as modules are called.

const TOWER: &str = "vision_tower.";
const LAYERS: &str = "encoder.layers.";
/// What stands after the tower's name in checkpoints on the Hub.
const ON_THE_HUB: &str = "vision_model.";
/// What stands before the names of modules.
const OF_MODULES: &str = "model.";

/// The module that makes soft tokens of what the tower sees, which PEFT saves whole.
pub const PROJECTOR: &str = "multi_modal_projector";

/// A linear layer of the tower.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum VisionProjection {
    /// Queries.
    Q,
    /// Keys.
    K,
    /// Values.
    V,
    /// Attention output.
    Out,
    /// The MLP's input.
    Fc1,
    /// The MLP's output.
    Fc2,
}

/// Per projection: path in a layer, name in a block of a GGUF file of towers.
const PROJECTIONS: [(VisionProjection, &str, &str); 6] = [
    (VisionProjection::Q, "self_attn.q_proj", "attn_q"),
    (VisionProjection::K, "self_attn.k_proj", "attn_k"),
    (VisionProjection::V, "self_attn.v_proj", "attn_v"),
    (VisionProjection::Out, "self_attn.out_proj", "attn_out"),
    (VisionProjection::Fc1, "mlp.fc1", "ffn_up"),
    (VisionProjection::Fc2, "mlp.fc2", "ffn_down"),
];

impl VisionProjection {
    /// All six, in the order of a forward pass.
    pub const ALL: [VisionProjection; 6] = [
        VisionProjection::Q,
        VisionProjection::K,
        VisionProjection::V,
        VisionProjection::Out,
        VisionProjection::Fc1,
        VisionProjection::Fc2,
    ];
}

/// A part of the tower that has a weight and a bias; layers count from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum VisionModule {
    /// What makes a vector of each patch; its weight is `[w, channels, patch, patch]`.
    PatchEmbedding,
    /// The norm before attention.
    LayerNorm1(usize),
    /// The norm before the MLP.
    LayerNorm2(usize),
    /// A linear layer.
    Projection(usize, VisionProjection),
    /// The norm after the last layer.
    PostLayernorm,
}

/// Modules outside the layers, and those of a layer that are no linear ones.
const PATCH_EMBEDDING: &str = "embeddings.patch_embedding";
const POST_LAYERNORM: &str = "post_layernorm";
const LAYER_NORMS: [&str; 2] = ["layer_norm1", "layer_norm2"];

impl VisionModule {
    fn path(self) -> String {
        match self {
            VisionModule::PatchEmbedding => PATCH_EMBEDDING.into(),
            VisionModule::PostLayernorm => POST_LAYERNORM.into(),
            VisionModule::LayerNorm1(layer) => format!("{LAYERS}{layer}.{}", LAYER_NORMS[0]),
            VisionModule::LayerNorm2(layer) => format!("{LAYERS}{layer}.{}", LAYER_NORMS[1]),
            VisionModule::Projection(layer, part) => format!("{LAYERS}{layer}.{}", PROJECTIONS[part as usize].1),
        }
    }

    /// The path in a GGUF file of towers.
    fn mmproj(self) -> String {
        match self {
            VisionModule::PatchEmbedding => "v.patch_embd".into(),
            VisionModule::PostLayernorm => "v.post_ln".into(),
            VisionModule::LayerNorm1(layer) => format!("v.blk.{layer}.ln1"),
            VisionModule::LayerNorm2(layer) => format!("v.blk.{layer}.ln2"),
            VisionModule::Projection(layer, part) => format!("v.blk.{layer}.{}", PROJECTIONS[part as usize].2),
        }
    }

    fn parse(path: &str) -> Option<Self> {
        match path {
            PATCH_EMBEDDING => return Some(VisionModule::PatchEmbedding),
            POST_LAYERNORM => return Some(VisionModule::PostLayernorm),
            _ => {}
        }
        let (layer, path) = numbered(path.strip_prefix(LAYERS)?)?;
        match LAYER_NORMS.iter().position(|norm| *norm == path) {
            Some(0) => Some(VisionModule::LayerNorm1(layer)),
            Some(_) => Some(VisionModule::LayerNorm2(layer)),
            None => PROJECTIONS.iter().find(|p| p.1 == path).map(|p| VisionModule::Projection(layer, p.0)),
        }
    }
}

/// Splits `3.mlp.fc1` into the layer and the path after it.
fn numbered(rest: &str) -> Option<(usize, &str)> {
    let (number, path) = rest.split_once('.')?;
    let layer: usize = number.parse().ok()?;
    // One spelling per number: no `+3`, no `03`.
    (layer.to_string() == number).then_some((layer, path))
}

/// A tensor of the tower or of the projector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum VisionTensor {
    /// The weight of a part of the tower.
    Weight(VisionModule),
    /// Its bias.
    Bias(VisionModule),
    /// The vector of each place of a patch, `[patches, w]`.
    PositionEmbedding,
    /// The projector's norm, `[w]`.
    MmSoftEmbNorm,
    /// The projector's matrix, `[w, d]`: what it multiplies stands on its left.
    MmInputProjection,
}

/// Tensors that are no part of a module with a bias: saved name, name in a GGUF file of towers.
const SINGLE: [(VisionTensor, &str, &str); 3] = [
    (VisionTensor::PositionEmbedding, "vision_tower.embeddings.position_embedding.weight", "v.position_embd.weight"),
    (VisionTensor::MmSoftEmbNorm, "multi_modal_projector.mm_soft_emb_norm.weight", "mm.soft_emb_norm.weight"),
    (VisionTensor::MmInputProjection, "multi_modal_projector.mm_input_projection_weight", "mm.input_projection.weight"),
];

impl VisionTensor {
    /// The name that transformers 5 saves: `vision_tower.encoder.layers.3.mlp.fc1.weight`.
    pub fn hf(&self) -> String {
        match self {
            VisionTensor::Weight(module) => format!("{TOWER}{}.weight", module.path()),
            VisionTensor::Bias(module) => format!("{TOWER}{}.bias", module.path()),
            single => SINGLE.iter().find(|s| s.0 == *single).map(|s| s.1.to_owned()).unwrap_or_default(),
        }
    }

    /// The name in a GGUF file of towers: `v.blk.3.ffn_up.weight`.
    pub fn mmproj(&self) -> String {
        match self {
            VisionTensor::Weight(module) => format!("{}.weight", module.mmproj()),
            VisionTensor::Bias(module) => format!("{}.bias", module.mmproj()),
            single => SINGLE.iter().find(|s| s.0 == *single).map(|s| s.2.to_owned()).unwrap_or_default(),
        }
    }

    /// Reads a name in any of the three spellings; also says whether it is that of a module.
    pub fn parse(name: &str) -> Option<(bool, Self)> {
        let (of_modules, name) = match name.strip_prefix(OF_MODULES) {
            Some(rest) => (true, rest),
            None => (false, name),
        };
        Some((of_modules, Self::parse_saved(name)?))
    }

    fn parse_saved(name: &str) -> Option<Self> {
        let Some(path) = name.strip_prefix(TOWER) else {
            return SINGLE.iter().find(|s| s.1 == name).map(|s| s.0);
        };
        let path = path.strip_prefix(ON_THE_HUB).unwrap_or(path);
        if SINGLE.iter().any(|s| s.0 == VisionTensor::PositionEmbedding && s.1.strip_prefix(TOWER) == Some(path)) {
            return Some(VisionTensor::PositionEmbedding);
        }
        match path.strip_suffix(".bias") {
            Some(module) => VisionModule::parse(module).map(VisionTensor::Bias),
            None => VisionModule::parse(path.strip_suffix(".weight")?).map(VisionTensor::Weight),
        }
    }

    /// Whether this is the weight of a linear layer that an adapter can go on.
    pub fn is_linear(&self) -> bool {
        matches!(self, VisionTensor::Weight(VisionModule::Projection(..)))
    }

    /// Whether a tensor of the files belongs to the tower or the projector, also one that this table does not have.
    pub fn is_of_vision(name: &str) -> bool {
        let name = name.strip_prefix(OF_MODULES).unwrap_or(name);
        name.starts_with(TOWER) || name.starts_with("multi_modal_projector.")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    fn all(layers: &[usize]) -> Vec<VisionTensor> {
        let mut modules = vec![VisionModule::PatchEmbedding, VisionModule::PostLayernorm];
        for &layer in layers {
            modules.extend([VisionModule::LayerNorm1(layer), VisionModule::LayerNorm2(layer)]);
            modules.extend(VisionProjection::ALL.map(|part| VisionModule::Projection(layer, part)));
        }
        let modules = modules.into_iter().flat_map(|m| [VisionTensor::Weight(m), VisionTensor::Bias(m)]);
        modules.chain(SINGLE.map(|single| single.0)).collect()
    }

    #[test]
    fn names_in_three_spellings_and_tensors_are_in_bijection() {
        let tensors = all(&[0, 9, 26, usize::MAX]);
        let mut names = HashSet::new();
        for tensor in &tensors {
            let saved = tensor.hf();
            let spellings = [
                (false, saved.clone()),
                (false, saved.replace("vision_tower.", "vision_tower.vision_model.")),
                (true, format!("model.{saved}")),
                (true, format!("model.{}", saved.replace("vision_tower.", "vision_tower.vision_model."))),
            ];
            for (of_modules, name) in spellings {
                assert_eq!(VisionTensor::parse(&name), Some((of_modules, *tensor)), "{name}");
                assert!(VisionTensor::is_of_vision(&name));
            }
            assert!(names.insert(saved));
        }
        assert_eq!(PROJECTIONS.map(|p| p.0), VisionProjection::ALL);
        let of_towers: HashSet<String> = tensors.iter().map(VisionTensor::mmproj).collect();
        assert_eq!(of_towers.len(), tensors.len());
    }

    #[test]
    fn names_are_those_of_the_published_files() {
        let fc1 = VisionModule::Projection(3, VisionProjection::Fc1);
        for (tensor, name) in [
            (VisionTensor::Bias(fc1), "vision_tower.vision_model.encoder.layers.3.mlp.fc1.bias"),
            (VisionTensor::PositionEmbedding, "vision_tower.vision_model.embeddings.position_embedding.weight"),
            (
                VisionTensor::Weight(VisionModule::PatchEmbedding),
                "vision_tower.vision_model.embeddings.patch_embedding.weight",
            ),
            (VisionTensor::Bias(VisionModule::PostLayernorm), "vision_tower.vision_model.post_layernorm.bias"),
            (VisionTensor::MmInputProjection, "multi_modal_projector.mm_input_projection_weight"),
        ] {
            assert_eq!(VisionTensor::parse(name), Some((false, tensor)), "{name}");
        }
        assert_eq!(VisionTensor::Bias(fc1).mmproj(), "v.blk.3.ffn_up.bias");
        assert_eq!(VisionTensor::Weight(VisionModule::PatchEmbedding).mmproj(), "v.patch_embd.weight");
    }

    #[test]
    fn look_alikes_are_not_names() {
        for name in [
            "vision_tower.encoder.layers.03.mlp.fc1.weight",
            "vision_tower.vision_model.vision_model.post_layernorm.bias",
            "vision_tower.vision_model.head.probe",
            "vision_tower.encoder.layers.3.mlp.fc3.weight",
            "vision_tower.multi_modal_projector.mm_soft_emb_norm.weight",
            "multi_modal_projector.mm_input_projection_weight.weight",
            "encoder.layers.3.mlp.fc1.weight",
            "",
        ] {
            assert_eq!(VisionTensor::parse(name), None, "{name}");
        }
    }
}
