//! The part of the table for the tower that looks at pictures in Gemma 3n: MobileNetV5, in the names that timm gave its
//! parts.
//!
//! One name of each is made, `vision_tower.timm_model.conv_stem.conv.weight`; it is read with `model.` before it as well,
//! as modules are called and checkpoints on the Hub have it.

use super::layer_and_path;

const TOWER: &str = "vision_tower.timm_model.";
const BLOCKS: &str = "blocks.";
/// What stands before the names of modules.
const OF_MODULES: &str = "model.";

/// A tensor of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum BlockTensor {
    /// Of an edge residual: the convolution that widens, `[f, c, k, k]`.
    ConvExp,
    /// After it.
    Bn1,
    /// Of an edge residual: what narrows, `[o, f, 1, 1]`.
    ConvPwl,
    /// After it.
    Bn2,
    /// Of an inverted residual: the convolution of each channel before it is widened, `[c, 1, k, k]`.
    DwStartConv,
    /// After it.
    DwStartBn,
    /// Of an inverted residual: what widens, `[f, c, 1, 1]`.
    PwExpConv,
    /// After it.
    PwExpBn,
    /// Of an inverted residual: the convolution of each channel of the wide ones, `[f, 1, k, k]`.
    DwMidConv,
    /// After it.
    DwMidBn,
    /// Of an inverted residual: what narrows, `[o, f, 1, 1]`.
    PwProjConv,
    /// After it.
    PwProjBn,
    /// Of an inverted residual: the convolution of each channel after it is narrowed, `[o, 1, k, k]`.
    DwEndConv,
    /// After it.
    DwEndBn,
    /// Of an attention: before it.
    Norm,
    /// Of an attention: queries, `[h e, c, 1, 1]`.
    Query,
    /// Of an attention: what makes the picture smaller that keys are made of, `[c, 1, k, k]`.
    KeyDownConv,
    /// After it.
    KeyNorm,
    /// Of an attention: keys, `[e, c, 1, 1]`.
    Key,
    /// Of an attention: what makes the picture smaller that values are made of, `[c, 1, k, k]`.
    ValueDownConv,
    /// After it.
    ValueNorm,
    /// Of an attention: values, `[e, c, 1, 1]`.
    Value,
    /// Of an attention: its output, `[o, h e, 1, 1]`.
    Output,
    /// What is multiplied with each channel before the residual sum, `[o]`.
    LayerScale,
}

/// Per tensor: path in a block.
const BLOCK_TENSORS: [(BlockTensor, &str); 24] = [
    (BlockTensor::ConvExp, "conv_exp.weight"),
    (BlockTensor::Bn1, "bn1.weight"),
    (BlockTensor::ConvPwl, "conv_pwl.weight"),
    (BlockTensor::Bn2, "bn2.weight"),
    (BlockTensor::DwStartConv, "dw_start.conv.weight"),
    (BlockTensor::DwStartBn, "dw_start.bn.weight"),
    (BlockTensor::PwExpConv, "pw_exp.conv.weight"),
    (BlockTensor::PwExpBn, "pw_exp.bn.weight"),
    (BlockTensor::DwMidConv, "dw_mid.conv.weight"),
    (BlockTensor::DwMidBn, "dw_mid.bn.weight"),
    (BlockTensor::PwProjConv, "pw_proj.conv.weight"),
    (BlockTensor::PwProjBn, "pw_proj.bn.weight"),
    (BlockTensor::DwEndConv, "dw_end.conv.weight"),
    (BlockTensor::DwEndBn, "dw_end.bn.weight"),
    (BlockTensor::Norm, "norm.weight"),
    (BlockTensor::Query, "attn.query.proj.weight"),
    (BlockTensor::KeyDownConv, "attn.key.down_conv.weight"),
    (BlockTensor::KeyNorm, "attn.key.norm.weight"),
    (BlockTensor::Key, "attn.key.proj.weight"),
    (BlockTensor::ValueDownConv, "attn.value.down_conv.weight"),
    (BlockTensor::ValueNorm, "attn.value.norm.weight"),
    (BlockTensor::Value, "attn.value.proj.weight"),
    (BlockTensor::Output, "attn.output.proj.weight"),
    (BlockTensor::LayerScale, "layer_scale.gamma"),
];

/// A tensor of the tower; stages and blocks count from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum MobileNetTensor {
    /// The first convolution, `[c, colours, 3, 3]`.
    StemConv,
    /// Its bias, `[c]`.
    StemBias,
    /// After it.
    StemBn,
    /// A part of a block of a stage.
    Block(usize, usize, BlockTensor),
    /// Of the fusion of the last two stages: what widens, `[f, c, 1, 1]`.
    FusionExpConv,
    /// After it.
    FusionExpBn,
    /// Of the fusion: what narrows, `[w, f, 1, 1]`.
    FusionProjConv,
    /// After it.
    FusionProjBn,
    /// After the fusion, `[w]`.
    FusionNorm,
}

/// Tensors in no block: path in the tower.
const SINGLE: [(MobileNetTensor, &str); 8] = [
    (MobileNetTensor::StemConv, "conv_stem.conv.weight"),
    (MobileNetTensor::StemBias, "conv_stem.conv.bias"),
    (MobileNetTensor::StemBn, "conv_stem.bn.weight"),
    (MobileNetTensor::FusionExpConv, "msfa.ffn.pw_exp.conv.weight"),
    (MobileNetTensor::FusionExpBn, "msfa.ffn.pw_exp.bn.weight"),
    (MobileNetTensor::FusionProjConv, "msfa.ffn.pw_proj.conv.weight"),
    (MobileNetTensor::FusionProjBn, "msfa.ffn.pw_proj.bn.weight"),
    (MobileNetTensor::FusionNorm, "msfa.norm.weight"),
];

impl MobileNetTensor {
    /// The name: `vision_tower.timm_model.blocks.2.11.attn.key.proj.weight`.
    pub(super) fn hf(self) -> String {
        match self {
            MobileNetTensor::Block(stage, block, part) => {
                format!("{TOWER}{BLOCKS}{stage}.{block}.{}", BLOCK_TENSORS[part as usize].1)
            }
            single => format!("{TOWER}{}", SINGLE.iter().find(|s| s.0 == single).map(|s| s.1).unwrap_or_default()),
        }
    }

    /// Reads a name; also says whether it is that of a module.
    pub(super) fn parse(name: &str) -> Option<(bool, Self)> {
        let rest = name.strip_prefix(OF_MODULES);
        let path = rest.unwrap_or(name).strip_prefix(TOWER)?;
        if let Some(single) = SINGLE.iter().find(|s| s.1 == path) {
            return Some((rest.is_some(), single.0));
        }
        let (stage, path) = layer_and_path(path.strip_prefix(BLOCKS)?)?;
        let (block, path) = layer_and_path(path)?;
        let part = BLOCK_TENSORS.iter().find(|tensor| tensor.1 == path)?.0;
        Some((rest.is_some(), MobileNetTensor::Block(stage, block, part)))
    }

    /// Whether a tensor of the files belongs to the tower, also one that this table does not have.
    pub fn is_of_tower(name: &str) -> bool {
        name.strip_prefix(OF_MODULES).unwrap_or(name).starts_with(TOWER)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn names_and_tensors_are_in_bijection() {
        let blocks = [(0, 0), (2, 36), (3, usize::MAX)];
        let parts = BLOCK_TENSORS.into_iter().enumerate().flat_map(|(at, (part, _))| {
            assert_eq!(part as usize, at);
            blocks.map(|(stage, block)| MobileNetTensor::Block(stage, block, part))
        });
        let mut names = HashSet::new();
        for tensor in parts.chain(SINGLE.map(|single| single.0)) {
            let name = tensor.hf();
            assert_eq!(MobileNetTensor::parse(&name), Some((false, tensor)), "{name}");
            let of_module = format!("model.{name}");
            assert_eq!(MobileNetTensor::parse(&of_module), Some((true, tensor)), "{of_module}");
            assert!(MobileNetTensor::is_of_tower(&name) && MobileNetTensor::is_of_tower(&of_module));
            assert!(names.insert(name));
        }
    }

    #[test]
    fn look_alikes_are_not_names() {
        for name in [
            "vision_tower.timm_model.blocks.0.00.bn1.weight",
            "vision_tower.timm_model.blocks.0.bn1.weight",
            "vision_tower.timm_model.blocks.0.0.bn1.bias",
            "vision_tower.timm_model.blocks.0.0.conv_stem.conv.weight",
            "vision_tower.timm_model.conv_stem.conv",
            "vision_tower.conv_stem.conv.weight",
            "model.model.vision_tower.timm_model.msfa.norm.weight",
            "",
        ] {
            assert_eq!(MobileNetTensor::parse(name), None, "{name}");
        }
    }
}
