//! The tensors of a tower and their shapes.

use crate::model::vision::mobilenet::config::{BlockConfig, BlockKind, MobileNetConfig};
use crate::weights::names::{BlockTensor, MobileNetTensor, TensorId};

/// Side of the kernel of the first convolution.
pub const STEM_KERNEL: usize = 3;

/// Numbers of a pixel.
pub const COLOURS: usize = 3;

impl MobileNetConfig {
    /// Every tensor of a tower of this shape.
    pub fn tensors(&self) -> Vec<(TensorId, Vec<usize>)> {
        let &MobileNetConfig { stem_size: stem, hidden_size: w, .. } = self;
        let (fused, expanded) = (self.fused_channels(), self.fusion_expanded());
        let single = [
            (MobileNetTensor::StemConv, vec![stem, COLOURS, STEM_KERNEL, STEM_KERNEL]),
            (MobileNetTensor::StemBias, vec![stem]),
            (MobileNetTensor::StemBn, vec![stem]),
            (MobileNetTensor::FusionExpConv, vec![expanded, fused, 1, 1]),
            (MobileNetTensor::FusionExpBn, vec![expanded]),
            (MobileNetTensor::FusionProjConv, vec![w, expanded, 1, 1]),
            (MobileNetTensor::FusionProjBn, vec![w]),
            (MobileNetTensor::FusionNorm, vec![w]),
        ];
        let blocks = self.stages.iter().enumerate().flat_map(|(stage, blocks)| {
            blocks.iter().enumerate().flat_map(move |(index, block)| {
                let parts = of_block(block).into_iter();
                parts.map(move |(part, dims)| (MobileNetTensor::Block(stage, index, part), dims))
            })
        });
        single.into_iter().chain(blocks).map(|(tensor, dims)| (TensorId::MobileNet(tensor), dims)).collect()
    }
}

fn of_block(block: &BlockConfig) -> Vec<(BlockTensor, Vec<usize>)> {
    let (c, o, f) = (block.in_channels, block.out_channels, block.expanded());
    let depthwise = |conv, norm, channels, side: usize| {
        let both = [(conv, vec![channels, 1, side, side]), (norm, vec![channels])];
        both.into_iter().filter(move |_| side > 0)
    };
    let pointwise = |conv, to, from| (conv, vec![to, from, 1, 1]);
    match block.kind {
        BlockKind::EdgeResidual { kernel, .. } => vec![
            (BlockTensor::ConvExp, vec![f, c, kernel, kernel]),
            (BlockTensor::Bn1, vec![f]),
            pointwise(BlockTensor::ConvPwl, o, f),
            (BlockTensor::Bn2, vec![o]),
        ],
        BlockKind::UniversalInvertedResidual { start, mid, end, .. } => {
            let wide = [pointwise(BlockTensor::PwExpConv, f, c), (BlockTensor::PwExpBn, vec![f])];
            let narrow = [pointwise(BlockTensor::PwProjConv, o, f), (BlockTensor::PwProjBn, vec![o])];
            depthwise(BlockTensor::DwStartConv, BlockTensor::DwStartBn, c, start)
                .chain(wide)
                .chain(depthwise(BlockTensor::DwMidConv, BlockTensor::DwMidBn, f, mid))
                .chain(narrow)
                .chain(depthwise(BlockTensor::DwEndConv, BlockTensor::DwEndBn, o, end))
                .chain([(BlockTensor::LayerScale, vec![o])])
                .collect()
        }
        BlockKind::MobileAttention { num_heads: h, key_dim: e, kv_stride, kernel } => {
            let side = if kv_stride > 1 { kernel } else { 0 };
            let single = [
                (BlockTensor::Norm, vec![c]),
                pointwise(BlockTensor::Query, h * e, c),
                pointwise(BlockTensor::Key, e, c),
                pointwise(BlockTensor::Value, e, c),
                pointwise(BlockTensor::Output, o, h * e),
                (BlockTensor::LayerScale, vec![o]),
            ];
            let keys = depthwise(BlockTensor::KeyDownConv, BlockTensor::KeyNorm, c, side);
            let values = depthwise(BlockTensor::ValueDownConv, BlockTensor::ValueNorm, c, side);
            single.into_iter().chain(keys).chain(values).collect()
        }
    }
}
