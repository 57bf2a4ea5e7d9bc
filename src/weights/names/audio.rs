//! The part of the table for what listens in Gemma 3n: the conformer.
//!
//! One name of each is made, `audio_tower.conformer.3.norm.weight`; it is read with `model.` before it as well, as modules
//! are called and checkpoints on the Hub have it.

const TOWER: &str = "audio_tower.";
const BLOCKS: &str = "conformer.";
/// What stands before the names of modules.
const OF_MODULES: &str = "model.";

/// A linear layer of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum AudioProjection {
    /// Into the wide inside of the feed-forward block before attention, `[4 w, w]`.
    StartUp,
    /// Out of it, `[w, 4 w]`.
    StartDown,
    /// Queries, `[w, w]`.
    Q,
    /// Keys, `[w, w]`.
    K,
    /// Values, `[w, w]`.
    V,
    /// What queries meet of distances, `[w, w]`.
    Positions,
    /// Attention output, `[w, w]`.
    Post,
    /// The light convolution's input and its gate, `[2 w, w]`.
    LinearStart,
    /// The light convolution's output, `[w, w]`.
    LinearEnd,
    /// Into the wide inside of the last feed-forward block, `[4 w, w]`.
    EndUp,
    /// Out of it, `[w, 4 w]`.
    EndDown,
}

/// Per projection: path in a block.
const PROJECTIONS: [(AudioProjection, &str); 11] = [
    (AudioProjection::StartUp, "ffw_layer_start.ffw_layer_1"),
    (AudioProjection::StartDown, "ffw_layer_start.ffw_layer_2"),
    (AudioProjection::Q, "attention.attn.q_proj"),
    (AudioProjection::K, "attention.attn.k_proj"),
    (AudioProjection::V, "attention.attn.v_proj"),
    (AudioProjection::Positions, "attention.attn.relative_position_embedding.pos_proj"),
    (AudioProjection::Post, "attention.post"),
    (AudioProjection::LinearStart, "lconv1d.linear_start"),
    (AudioProjection::LinearEnd, "lconv1d.linear_end"),
    (AudioProjection::EndUp, "ffw_layer_end.ffw_layer_1"),
    (AudioProjection::EndDown, "ffw_layer_end.ffw_layer_2"),
];

impl AudioProjection {
    /// All, in the order of a forward pass.
    pub const ALL: [AudioProjection; 11] = [
        AudioProjection::StartUp,
        AudioProjection::StartDown,
        AudioProjection::Q,
        AudioProjection::K,
        AudioProjection::V,
        AudioProjection::Positions,
        AudioProjection::Post,
        AudioProjection::LinearStart,
        AudioProjection::LinearEnd,
        AudioProjection::EndUp,
        AudioProjection::EndDown,
    ];
}

/// A norm of a block, `[w]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum AudioNorm {
    /// Before the first feed-forward block.
    StartPre,
    /// After it, before its residual sum.
    StartPost,
    /// Before attention.
    PreAttn,
    /// After attention, before its residual sum.
    PostAttn,
    /// Before the light convolution.
    ConvPre,
    /// Inside it, after the convolution itself.
    Conv,
    /// Before the last feed-forward block.
    EndPre,
    /// After it, before its residual sum.
    EndPost,
    /// After the block.
    Block,
}

/// Per norm: path in a block.
const NORMS: [(AudioNorm, &str); 9] = [
    (AudioNorm::StartPre, "ffw_layer_start.pre_layer_norm"),
    (AudioNorm::StartPost, "ffw_layer_start.post_layer_norm"),
    (AudioNorm::PreAttn, "attention.pre_attn_norm"),
    (AudioNorm::PostAttn, "attention.post_norm"),
    (AudioNorm::ConvPre, "lconv1d.pre_layer_norm"),
    (AudioNorm::Conv, "lconv1d.conv_norm"),
    (AudioNorm::EndPre, "ffw_layer_end.pre_layer_norm"),
    (AudioNorm::EndPost, "ffw_layer_end.post_layer_norm"),
    (AudioNorm::Block, "norm"),
];

impl AudioNorm {
    /// All nine.
    pub const ALL: [AudioNorm; 9] = [
        AudioNorm::StartPre,
        AudioNorm::StartPost,
        AudioNorm::PreAttn,
        AudioNorm::PostAttn,
        AudioNorm::ConvPre,
        AudioNorm::Conv,
        AudioNorm::EndPre,
        AudioNorm::EndPost,
        AudioNorm::Block,
    ];
}

/// A part of the tower that has a weight; blocks count from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum AudioModule {
    /// One of the two convolutions before the blocks, `[out, in, frames, bins]`.
    Conv(usize),
    /// The norm after it, `[channels]`.
    ConvNorm(usize),
    /// From what they make to the tower's width, `[w, bins channels]`.
    InputProjection,
    /// A linear layer of a block.
    Projection(usize, AudioProjection),
    /// A norm of a block.
    Norm(usize, AudioNorm),
    /// The light convolution itself, `[w, 1, rows]`.
    DepthwiseConv(usize),
}

/// Modules before the blocks: path, and what it is.
const BEFORE: [(&str, AudioModule); 5] = [
    ("subsample_conv_projection.conv_0.conv", AudioModule::Conv(0)),
    ("subsample_conv_projection.conv_0.norm", AudioModule::ConvNorm(0)),
    ("subsample_conv_projection.conv_1.conv", AudioModule::Conv(1)),
    ("subsample_conv_projection.conv_1.norm", AudioModule::ConvNorm(1)),
    ("subsample_conv_projection.input_proj_linear", AudioModule::InputProjection),
];
const DEPTHWISE: &str = "lconv1d.depthwise_conv1d";
const PER_DIM_SCALE: &str = "attention.attn.per_dim_scale";

impl AudioModule {
    fn path(self) -> String {
        match self {
            AudioModule::Projection(block, part) => format!("{BLOCKS}{block}.{}", PROJECTIONS[part as usize].1),
            AudioModule::Norm(block, part) => format!("{BLOCKS}{block}.{}", NORMS[part as usize].1),
            AudioModule::DepthwiseConv(block) => format!("{BLOCKS}{block}.{DEPTHWISE}"),
            before => BEFORE.iter().find(|b| b.1 == before).map(|b| b.0.to_owned()).unwrap_or_default(),
        }
    }

    fn parse(path: &str) -> Option<Self> {
        if let Some(before) = BEFORE.iter().find(|b| b.0 == path) {
            return Some(before.1);
        }
        let (block, path) = super::layer_and_path(path.strip_prefix(BLOCKS)?)?;
        if path == DEPTHWISE {
            return Some(AudioModule::DepthwiseConv(block));
        }
        let projection = PROJECTIONS.iter().find(|p| p.1 == path).map(|p| AudioModule::Projection(block, p.0));
        projection.or_else(|| NORMS.iter().find(|n| n.1 == path).map(|n| AudioModule::Norm(block, n.0)))
    }
}

/// A tensor of the tower.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum AudioTensor {
    /// The weight of a part.
    Weight(AudioModule),
    /// What the queries of a block are scaled by, `[e]`.
    PerDimScale(usize),
}

impl AudioTensor {
    /// The name in a checkpoint whose language model lies outside: `audio_tower.conformer.3.norm.weight`.
    pub fn hf(&self) -> String {
        match self {
            AudioTensor::Weight(module) => format!("{TOWER}{}.weight", module.path()),
            AudioTensor::PerDimScale(block) => format!("{TOWER}{BLOCKS}{block}.{PER_DIM_SCALE}"),
        }
    }

    /// Reads a name; also says whether it is that of a module.
    pub(super) fn parse(name: &str) -> Option<(bool, Self)> {
        let rest = name.strip_prefix(OF_MODULES);
        let path = rest.unwrap_or(name).strip_prefix(TOWER)?;
        let tensor = match path.strip_suffix(".weight") {
            Some(module) => AudioTensor::Weight(AudioModule::parse(module)?),
            None => {
                let (block, path) = super::layer_and_path(path.strip_prefix(BLOCKS)?)?;
                (path == PER_DIM_SCALE).then_some(AudioTensor::PerDimScale(block))?
            }
        };
        Some((rest.is_some(), tensor))
    }

    /// Whether this is the weight of a linear layer that an adapter can go on.
    pub fn is_linear(&self) -> bool {
        matches!(self, AudioTensor::Weight(AudioModule::Projection(..) | AudioModule::InputProjection))
    }

    /// Whether a tensor of the files belongs to the tower, also one that this table does not have.
    pub fn is_of_audio(name: &str) -> bool {
        name.strip_prefix(OF_MODULES).unwrap_or(name).starts_with(TOWER)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    fn all(blocks: &[usize]) -> Vec<AudioTensor> {
        let mut modules: Vec<AudioModule> = BEFORE.map(|before| before.1).to_vec();
        for &block in blocks {
            modules.extend(AudioProjection::ALL.map(|part| AudioModule::Projection(block, part)));
            modules.extend(AudioNorm::ALL.map(|norm| AudioModule::Norm(block, norm)));
            modules.push(AudioModule::DepthwiseConv(block));
        }
        let weights = modules.into_iter().map(AudioTensor::Weight);
        weights.chain(blocks.iter().map(|&block| AudioTensor::PerDimScale(block))).collect()
    }

    #[test]
    fn names_and_tensors_are_in_bijection() {
        let tensors = all(&[0, 9, 11, usize::MAX]);
        let mut names = HashSet::new();
        for tensor in &tensors {
            let name = tensor.hf();
            assert_eq!(AudioTensor::parse(&name), Some((false, *tensor)), "{name}");
            assert_eq!(AudioTensor::parse(&format!("model.{name}")), Some((true, *tensor)), "{name}");
            assert!(AudioTensor::is_of_audio(&name));
            assert!(names.insert(name));
        }
        assert_eq!(PROJECTIONS.map(|p| p.0), AudioProjection::ALL);
        assert_eq!(NORMS.map(|n| n.0), AudioNorm::ALL);
    }

    #[test]
    fn names_are_those_of_the_published_files() {
        let weight = AudioTensor::Weight;
        for (tensor, name) in [
            (AudioTensor::PerDimScale(3), "model.audio_tower.conformer.3.attention.attn.per_dim_scale"),
            (weight(AudioModule::ConvNorm(1)), "model.audio_tower.subsample_conv_projection.conv_1.norm.weight"),
            (weight(AudioModule::DepthwiseConv(7)), "model.audio_tower.conformer.7.lconv1d.depthwise_conv1d.weight"),
            (
                weight(AudioModule::Projection(0, AudioProjection::Positions)),
                "model.audio_tower.conformer.0.attention.attn.relative_position_embedding.pos_proj.weight",
            ),
            (weight(AudioModule::Norm(11, AudioNorm::Block)), "model.audio_tower.conformer.11.norm.weight"),
        ] {
            assert_eq!(AudioTensor::parse(name), Some((true, tensor)), "{name}");
        }
    }

    #[test]
    fn look_alikes_are_not_names() {
        for name in [
            "audio_tower.conformer.03.norm.weight",
            "audio_tower.conformer.3.norm.bias",
            "audio_tower.conformer.3.attention.attn.per_dim_scale.weight",
            "audio_tower.conformer.3.attention.attn.o_proj.weight",
            "audio_tower.subsample_conv_projection.conv_2.conv.weight",
            "model.model.audio_tower.conformer.3.norm.weight",
            "conformer.3.norm.weight",
            "",
        ] {
            assert_eq!(AudioTensor::parse(name), None, "{name}");
        }
    }
}
