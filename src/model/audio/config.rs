//! What a conformer looks like.

use crate::weights::names::{AudioModule, AudioNorm, AudioProjection, AudioTensor, TensorId};

/// The shape and constants of a Gemma 3n audio tower, named as in Hugging Face.
///
/// Its fixed parts carry no field: two convolutions, SiLU, no biases, no dropout, 1e-6 in the norms of feed-forward and
/// attention and of a block.
#[derive(Debug, Clone, PartialEq)]
pub struct AudioConfig {
    /// Mel bins of a frame.
    pub input_feat_size: usize,
    /// Width of the residual stream, `w`.
    pub hidden_size: usize,
    /// Added to the mean square in the norms of a light convolution.
    pub rms_norm_eps: f64,
    /// What activations are held within, on both sides of 0.
    pub gradient_clipping: f64,
    /// Rows that attend together.
    pub conf_attention_chunk_size: usize,
    /// Rows that a row sees up to itself, itself included.
    pub conf_attention_context_left: usize,
    /// Rows that it sees after itself.
    pub conf_attention_context_right: usize,
    /// Bends attention scores into `(-c, c)`.
    pub conf_attention_logit_cap: f64,
    /// Heads, `h`; divides `hidden_size`.
    pub conf_num_attention_heads: usize,
    /// Blocks.
    pub conf_num_hidden_layers: usize,
    /// Rows that a light convolution looks at: the current one and those before it.
    pub conf_conv_kernel_size: usize,
    /// Of so many rows the first is handed on.
    pub conf_reduction_factor: usize,
    /// How much of what a feed-forward block gives is added.
    pub conf_residual_weight: f64,
    /// Channels that each convolution makes.
    pub sscp_conv_channel_size: [usize; 2],
    /// Added to the variance in the norms of the convolutions.
    pub sscp_conv_group_norm_eps: f64,
    /// Frames and bins that each convolution looks at.
    pub sscp_conv_kernel_size: [[usize; 2]; 2],
    /// Its steps in frames and in bins.
    pub sscp_conv_stride_size: [[usize; 2]; 2],
}

/// Bins of silence on either side of a convolution's input.
pub(super) const PADDED_BINS: usize = 1;

impl AudioConfig {
    /// Width of a head, `e`.
    pub fn head_dim(&self) -> usize {
        self.hidden_size / self.conf_num_attention_heads
    }

    /// Rows before itself that a row sees.
    pub fn past(&self) -> usize {
        self.conf_attention_context_left.saturating_sub(1)
    }

    /// Rows that are seen by those that attend together.
    pub fn context(&self) -> usize {
        self.conf_attention_chunk_size + self.past() + self.conf_attention_context_right
    }

    /// What is left of the bins after each convolution; `None` where a kernel is wider than what it looks at.
    pub fn bins(&self) -> Option<[usize; 2]> {
        let after = |bins: usize, at: usize| {
            let ([_, kernel], [_, stride]) = (self.sscp_conv_kernel_size[at], self.sscp_conv_stride_size[at]);
            Some((bins + 2 * PADDED_BINS).checked_sub(kernel)? / stride.max(1) + 1)
        };
        let first = after(self.input_feat_size, 0)?;
        Some([first, after(first, 1)?])
    }

    /// The rows that the tower makes of a clip of so many frames, `t`.
    pub fn rows(&self, frames: usize) -> usize {
        frames.div_ceil(self.frames_per_row())
    }

    /// The frames that become one row: each step rounds up, which all of them together do as well.
    pub fn frames_per_row(&self) -> usize {
        let strides = self.sscp_conv_stride_size.map(|[stride, _]| stride);
        strides.into_iter().product::<usize>() * self.conf_reduction_factor
    }

    /// Numbers that the tower keeps of a clip of so many frames for the way back, where a linear layer of a block that
    /// `has_adapter` names has one; 0 without any. Counted as if all of its later blocks' layers had one: what it keeps is mostly
    /// what activations and norms keep.
    ///
    /// Of each row in a block: of a feed-forward 17 widths (norms and clips 4, its input, three times its inside of 4), of
    /// attention 7 and keys and values once for each row that sees them, of the light convolution 9, and 2 at the end; and
    /// twice the scores.
    pub fn kept(&self, frames: usize, has_adapter: impl Fn(usize) -> bool) -> u64 {
        let strides = self.sscp_conv_stride_size.map(|[stride, _]| stride);
        let rows = strides.into_iter().fold(frames, usize::div_ceil);
        let Some(first) = (0..self.conf_num_hidden_layers).find(|block| has_adapter(*block)) else { return 0 };
        let (w, context) = (self.hidden_size, self.context());
        let seen = 2 * context * w / self.conf_attention_chunk_size.max(1);
        let per_row = (2 * 17 + 7 + 9 + 2) * w + seen + 2 * self.conf_num_attention_heads * context;
        (rows * (self.conf_num_hidden_layers - first) * per_row) as u64
    }

    /// The linear layers, in the order of a forward pass, with the dimensions of their weights `[out, in]`.
    pub fn linears(&self) -> impl Iterator<Item = (AudioModule, [usize; 2])> + use<> {
        let w = self.hidden_size;
        let [_, bins] = self.bins().unwrap_or_default();
        let input = (AudioModule::InputProjection, [w, bins * self.sscp_conv_channel_size[1]]);
        let dims = move |part| match part {
            AudioProjection::StartUp | AudioProjection::EndUp => [4 * w, w],
            AudioProjection::StartDown | AudioProjection::EndDown => [w, 4 * w],
            AudioProjection::LinearStart => [2 * w, w],
            _ => [w, w],
        };
        let blocks = (0..self.conf_num_hidden_layers)
            .flat_map(move |block| AudioProjection::ALL.map(|part| (AudioModule::Projection(block, part), dims(part))));
        std::iter::once(input).chain(blocks)
    }

    /// The kernel of a convolution before the blocks, `[out, in, frames, bins]`.
    pub fn kernel(&self, at: usize) -> [usize; 4] {
        let [frames, bins] = self.sscp_conv_kernel_size[at];
        let channels = self.sscp_conv_channel_size;
        [channels[at], if at == 0 { 1 } else { channels[at - 1] }, frames, bins]
    }

    /// The kernel of a light convolution, `[w, 1, rows]`: of each channel its own.
    pub fn depthwise_kernel(&self) -> [usize; 3] {
        [self.hidden_size, 1, self.conf_conv_kernel_size]
    }

    /// Every tensor of a tower of this shape.
    pub fn tensors(&self) -> Vec<(TensorId, Vec<usize>)> {
        let w = self.hidden_size;
        let before = (0..2).flat_map(|at| {
            let kernel = (AudioTensor::Weight(AudioModule::Conv(at)), self.kernel(at).to_vec());
            [kernel, (AudioTensor::Weight(AudioModule::ConvNorm(at)), vec![self.sscp_conv_channel_size[at]])]
        });
        let linears = self.linears().map(|(module, dims)| (AudioTensor::Weight(module), dims.to_vec()));
        let blocks = (0..self.conf_num_hidden_layers).flat_map(|block| {
            let norms = AudioNorm::ALL.map(|norm| (AudioTensor::Weight(AudioModule::Norm(block, norm)), vec![w]));
            let kernel = (AudioTensor::Weight(AudioModule::DepthwiseConv(block)), self.depthwise_kernel().to_vec());
            norms.into_iter().chain([kernel, (AudioTensor::PerDimScale(block), vec![self.head_dim()])])
        });
        let all = before.chain(linears).chain(blocks);
        all.map(|(tensor, dims)| (TensorId::Audio(tensor), dims)).collect()
    }
}
