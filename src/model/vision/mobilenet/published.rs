//! The layout of the published tower, timm's `mobilenetv5_300m_enc`.

use crate::model::vision::mobilenet::config::{BlockConfig, BlockKind, MobileNetConfig};

/// Channels of the first convolution.
pub const STEM_SIZE: usize = 64;

/// Channels of what a tower gives, which timm gives every one of them.
pub const HIDDEN_SIZE: usize = 2048;

/// Cells on a side of what it gives.
pub const MSFA_OUTPUT_RESOLUTION: usize = 16;

impl MobileNetConfig {
    /// The published tower.
    pub fn published() -> Self {
        MobileNetConfig {
            stem_size: STEM_SIZE,
            stages: MobileNetConfig::chained(STEM_SIZE, stages(), 1.0),
            hidden_size: HIDDEN_SIZE,
            msfa_output_resolution: MSFA_OUTPUT_RESOLUTION,
        }
    }
}

/// Its 84 blocks, before their channels are known.
pub fn stages() -> Vec<Vec<BlockConfig>> {
    let block = |out_channels, stride, kind| BlockConfig { in_channels: 0, out_channels, stride, skip: true, kind };
    let edge = |stride| block(128, stride, BlockKind::EdgeResidual { kernel: 3, exp_ratio: 4.0 });
    let inverted = |channels, start, mid, stride, exp_ratio| {
        block(channels, stride, BlockKind::UniversalInvertedResidual { start, mid, end: 0, exp_ratio })
    };
    let attending = |channels, num_heads, key_dim, kv_stride| {
        let attention = BlockKind::MobileAttention { num_heads, key_dim, kv_stride, kernel: 3 };
        [block(channels, 1, attention), inverted(channels, 0, 0, 1, 2.0)]
    };
    let first = vec![edge(2), edge(1), edge(1)];
    let mut second = vec![inverted(256, 3, 5, 2, 6.0)];
    second.extend([5, 3, 5, 3].map(|start| inverted(256, start, 0, 1, 4.0)));
    let mut third = vec![inverted(640, 5, 5, 2, 6.0)];
    third.extend((0..7).map(|_| inverted(640, 5, 0, 1, 4.0)));
    third.push(inverted(640, 0, 0, 1, 1.0));
    third.extend((0..14).flat_map(|_| attending(640, 12, 64, 2)));
    let mut fourth = vec![inverted(1280, 5, 5, 2, 6.0)];
    fourth.extend((0..19).flat_map(|_| attending(1280, 16, 96, 1)));
    vec![first, second, third, fourth]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_tower_has_the_tensors_and_parameters_of_the_published_file() {
        let tower = MobileNetConfig::published();
        assert_eq!(tower.stages.iter().map(Vec::len).collect::<Vec<_>>(), [3, 5, 37, 39]);
        let tensors = tower.tensors();
        let parameters: usize = tensors.iter().map(|(_, dims)| dims.iter().product::<usize>()).sum();
        assert_eq!((tensors.len(), parameters), (548, 294_126_912));
        assert_eq!((tower.fused_channels(), tower.num_tokens()), (1920, 256));
    }
}
