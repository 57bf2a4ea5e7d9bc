//! What a MobileNetV5 encoder looks like.

/// The shape of a MobileNetV5 encoder.
///
/// Its fixed parts carry no field: colours of three numbers, 'same' padding everywhere, GELU with tanh, RMS norms over
/// channels with an `eps` of 1e-6, a bias in the stem alone, and a fusion of what the last two stages give, which is
/// twice as wide inside.
#[derive(Debug, Clone, PartialEq)]
pub struct MobileNetConfig {
    /// Channels of the first convolution, which halves the picture.
    pub stem_size: usize,
    /// First to last; each halves the picture.
    pub stages: Vec<Vec<BlockConfig>>,
    /// Channels of what the tower gives, `w`.
    pub hidden_size: usize,
    /// Cells on a side of what the tower gives.
    pub msfa_output_resolution: usize,
}

/// A block of the tower.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockConfig {
    /// Its input's channels, `c`.
    pub in_channels: usize,
    /// Its output's channels, `o`.
    pub out_channels: usize,
    /// How many cells of the input a cell of the output stands for, on a side.
    pub stride: usize,
    /// Whether its input is added to its output, where both have one shape.
    pub skip: bool,
    /// What it does.
    pub kind: BlockKind,
}

/// What a block does. Sides of kernels are in cells; one of 0 means that the convolution is not there.
#[derive(Debug, Clone, PartialEq)]
pub enum BlockKind {
    /// A convolution that widens, and what narrows.
    EdgeResidual {
        /// Side of the kernel.
        kernel: usize,
        /// How much wider it is inside.
        exp_ratio: f64,
    },
    /// What widens and narrows, with convolutions of each channel before, between and after.
    UniversalInvertedResidual {
        /// Side of the kernel before.
        start: usize,
        /// Side of the kernel between.
        mid: usize,
        /// Side of the kernel after.
        end: usize,
        /// How much wider it is inside.
        exp_ratio: f64,
    },
    /// Attention of every cell to every cell, whose heads share keys and values.
    MobileAttention {
        /// Heads of queries, `h`.
        num_heads: usize,
        /// Width of a head, of a key and of a value, `e`.
        key_dim: usize,
        /// How many cells a key and a value stand for, on a side.
        kv_stride: usize,
        /// Side of the kernel that makes one of them.
        kernel: usize,
    },
}

/// How much wider the fusion is inside.
const FUSION_RATIO: f64 = 2.0;

impl BlockConfig {
    /// Whether its input is added to its output.
    pub fn has_skip(&self) -> bool {
        self.skip && self.stride == 1 && self.in_channels == self.out_channels
    }

    /// Channels inside, `f`; none of an attention.
    pub fn expanded(&self) -> usize {
        match self.kind {
            BlockKind::EdgeResidual { exp_ratio, .. } | BlockKind::UniversalInvertedResidual { exp_ratio, .. } => {
                divisible(self.in_channels as f64 * exp_ratio)
            }
            BlockKind::MobileAttention { .. } => 0,
        }
    }
}

impl MobileNetConfig {
    /// The stages with the channels that they have when there are `multiplier` times as many, each block beginning with
    /// those that the one before it ends with.
    pub fn chained(stem_size: usize, mut stages: Vec<Vec<BlockConfig>>, multiplier: f64) -> Vec<Vec<BlockConfig>> {
        let mut channels = stem_size;
        for block in stages.iter_mut().flatten() {
            block.in_channels = channels;
            block.out_channels = divisible(block.out_channels as f64 * multiplier);
            channels = block.out_channels;
        }
        stages
    }

    /// Channels of what the fusion begins with: those of the last two of stem and stages.
    pub fn fused_channels(&self) -> usize {
        let stages = self.stages.iter().filter_map(|stage| stage.last()).map(|block| block.out_channels);
        let all: Vec<usize> = std::iter::once(self.stem_size).chain(stages).collect();
        all.iter().rev().take(2).sum()
    }

    /// Channels inside the fusion.
    pub fn fusion_expanded(&self) -> usize {
        divisible(self.fused_channels() as f64 * FUSION_RATIO)
    }

    /// Cells of what the tower gives, `p`.
    pub fn num_tokens(&self) -> usize {
        self.msfa_output_resolution.pow(2)
    }
}

/// A number of channels as timm rounds it: the nearest multiple of 8, and not less than nine tenths.
pub fn divisible(channels: f64) -> usize {
    const DIVISOR: f64 = 8.0;
    let rounded = (((channels + DIVISOR / 2.0).trunc() / DIVISOR).floor() * DIVISOR).max(DIVISOR);
    let enough = if rounded < 0.9 * channels { rounded + DIVISOR } else { rounded };
    enough as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_are_rounded_as_timm_rounds_them() {
        // timm.layers.make_divisible
        let rounded = [0.4, 3.2, 6.4, 12.0, 12.8, 20.0, 31.9, 43.2, 64.0, 96.0, 115.2, 1281.0].map(divisible);
        assert_eq!(rounded, [8, 8, 8, 16, 16, 24, 32, 40, 64, 96, 112, 1280]);
    }
}
