//! From frames to rows: two convolutions over frames and bins, and a matrix.

use crate::model::audio::config::PADDED_BINS;
use crate::nn::{Linear, SidePath};
use crate::ops::product;
use burn::tensor::activation::relu;
use burn::tensor::{Device, Int, Tensor};

/// Steps in time whose patches are gathered at once: more are not worth their memory.
const STEPS_AT_ONCE: usize = 64;

/// What makes rows of a clip's frames: fewer in time and in bins after each convolution, then as wide as the tower.
#[derive(Debug, Clone)]
pub struct SubSampleConvProjection {
    /// The two convolutions.
    pub convs: [ConvBlock; 2],
    /// `[w, bins channels]`.
    pub input_proj_linear: Linear,
}

impl SubSampleConvProjection {
    /// The rows of one clip.
    ///
    /// # Shapes
    /// - `frames`: `[frames, bins, 1]`
    /// - output: `[rows, w]`
    pub fn forward(&self, frames: Tensor<3>, side: &dyn SidePath) -> Tensor<2> {
        let x = self.convs.iter().fold(frames, |x, conv| conv.forward(x));
        let [rows, bins, channels] = x.dims();
        self.input_proj_linear.forward(x.reshape([rows, bins * channels]), side)
    }
}

/// A convolution over frames and bins, which looks ahead in time, and what tames it: `relu(norm(conv(x)))`.
#[derive(Debug, Clone)]
pub struct ConvBlock {
    /// `[frames bins in, out]`, of a kernel of so many frames and bins.
    pub kernel: Tensor<2>,
    /// Frames and bins of the kernel.
    pub kernel_size: [usize; 2],
    /// Its steps in frames and in bins.
    pub stride: [usize; 2],
    /// After it.
    pub norm: CumulativeGroupNorm,
}

impl ConvBlock {
    /// One whose kernel `[out, in frames bins]` lies as it is stored.
    pub fn new(
        stored: Tensor<2>,
        [out, input, frames, bins]: [usize; 4],
        stride: [usize; 2],
        norm: CumulativeGroupNorm,
    ) -> Self {
        let kernel = stored.reshape([out, input, frames, bins]).permute([2, 3, 1, 0]);
        let kernel = kernel.reshape([frames * bins * input, out]);
        ConvBlock { kernel, kernel_size: [frames, bins], stride, norm }
    }

    /// Applies the block.
    ///
    /// # Shapes
    /// - `x`: `[frames, bins, in]`
    /// - output: `[frames', bins', out]`
    pub fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        relu(self.norm.forward(self.convolved(x)))
    }

    /// The convolution alone. Beyond the last frame, and beside the bins, there is silence of 0.
    ///
    /// # Shapes
    /// - as [`ConvBlock::forward`]
    pub fn convolved(&self, x: Tensor<3>) -> Tensor<3> {
        let ([frames, bins, _], [_, out]) = (x.dims(), self.kernel.dims());
        let ([high, wide], [down, right]) = (self.kernel_size, self.stride);
        let x = x.pad([(0, high - 1), (PADDED_BINS, PADDED_BINS), (0, 0)], 0.0);
        let (steps, places) = ((frames - 1) / down + 1, (bins + 2 * PADDED_BINS - wide) / right + 1);
        let device = x.device();
        let columns: Vec<_> = (0..wide).map(|at| x.clone().select(1, every(at, right, places, &device))).collect();
        let piece = |start: usize| {
            let count = STEPS_AT_ONCE.min(steps - start);
            let patches = (0..high).flat_map(|at| {
                let rows = every(start * down + at, down, count, &device);
                columns.iter().map(move |column| column.clone().select(0, rows.clone()))
            });
            let patches = Tensor::cat(patches.collect(), 2); // [count, places, frames bins in]
            let [count, places, width] = patches.dims();
            product(patches.reshape([count * places, width]), self.kernel.clone())
        };
        let pieces = (0..steps).step_by(STEPS_AT_ONCE).map(piece).collect();
        Tensor::cat(pieces, 0).reshape([steps, places, out])
    }
}

/// So many places, a stride apart.
fn every(first: usize, stride: usize, count: usize, device: &Device) -> Tensor<1, Int> {
    Tensor::<1, Int>::arange(0..count as i64, device).mul_scalar(stride as i64).add_scalar(first as i64)
}

/// A norm over all bins and channels of a step and of those before it, with a gain per channel:
/// `(x - mean) / sqrt(var + eps) * weight`.
///
/// # Numerics
/// f32 throughout. The mean and the variance are those of the steps so far; what is squared for the variance is how far
/// each step was from the mean that it knew, not from the one that is known now.
#[derive(Debug, Clone)]
pub struct CumulativeGroupNorm {
    /// `[channels]`.
    pub weight: Tensor<1>,
    /// Added to the variance.
    pub eps: f64,
}

impl CumulativeGroupNorm {
    /// Normalises one clip.
    ///
    /// # Shapes
    /// - `x`, output: `[steps, bins, channels]`
    pub fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let [steps, bins, channels] = x.dims();
        let seen = every(1, 1, steps, &x.device()).float().mul_scalar((bins * channels) as f32).reshape([steps, 1, 1]);
        let so_far = |x: Tensor<3>| x.sum_dim(2).sum_dim(1).cumsum(0) / seen.clone(); // [steps, 1, 1]
        let centred = x.clone() - so_far(x);
        let scale = so_far(centred.clone().square()).add_scalar(self.eps).sqrt().recip();
        centred * scale * self.weight.clone().reshape([1, 1, channels])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor<const D: usize>(shape: [usize; D]) -> Tensor<D> {
        let n = shape.iter().product::<usize>() as i64;
        let values = Tensor::<1, Int>::arange(0..n, &Device::flex()).float();
        values.mul_scalar(0.7).sin().reshape(shape)
    }

    fn values<const D: usize>(tensor: &Tensor<D>) -> Vec<f32> {
        tensor.to_data().iter().collect()
    }

    #[test]
    fn a_convolution_looks_ahead_in_time_and_to_both_sides_in_bins() {
        for ([frames, bins], [high, wide], [down, right]) in
            [([9, 6], [3, 3], [2, 2]), ([1, 4], [3, 3], [2, 2]), ([5, 7], [2, 4], [1, 3]), ([140, 3], [3, 3], [2, 1])]
        {
            let (input, out) = (2, 3);
            let (x, kernel) = (tensor([frames, bins, input]), tensor([out, input * high * wide]));
            let norm = CumulativeGroupNorm { weight: Tensor::ones([out], &Device::flex()), eps: 1e-3 };
            let conv = ConvBlock::new(kernel.clone(), [out, input, high, wide], [down, right], norm);
            let got = conv.convolved(x.clone());
            let (steps, places) = ((frames - 1) / down + 1, (bins + 2 - wide) / right + 1);
            assert_eq!(got.dims(), [steps, places, out]);
            let (x, kernel, got) = (values(&x), values(&kernel), values(&got));
            for (at, got) in got.into_iter().enumerate() {
                let (step, place, channel) = (at / (places * out), at / out % places, at % out);
                let mut sum = 0.0;
                for (h, w, i) in (0..high).flat_map(|h| (0..wide).flat_map(move |w| (0..input).map(move |i| (h, w, i))))
                {
                    let (frame, bin) = (step * down + h, (place * right + w).wrapping_sub(1));
                    if frame < frames && bin < bins {
                        let weight = kernel[((channel * input + i) * high + h) * wide + w];
                        sum += weight * x[(frame * bins + bin) * input + i];
                    }
                }
                assert!((sum - got).abs() < 1e-5, "{step} {place} {channel}: {sum} {got}");
            }
        }
    }

    #[test]
    fn what_comes_later_changes_nothing_before_it() {
        let norm = CumulativeGroupNorm { weight: tensor([3]), eps: 1e-3 };
        let x = tensor([20, 4, 3]);
        let whole = values(&norm.forward(x.clone()));
        let first = values(&norm.forward(x.narrow(0, 0, 7)));
        for (whole, first) in whole.iter().zip(&first) {
            assert!((whole - first).abs() < 1e-6, "{whole} {first}");
        }
    }
}
