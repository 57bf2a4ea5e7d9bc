//! Products with a weight on a device other than the CPU, a tile of its rows at a time.

use super::{Held, Weight};
use crate::ops::factor::Factor;
use crate::ops::sizes::UNPACKED_TILE_BYTES;
use burn::tensor::{DType, Tensor};
use std::ops::Range;

impl Weight {
    /// Rows `range` as a factor of products.
    ///
    /// # Shapes
    /// - output: `[range.len(), in]`, of the compute dtype
    pub(in crate::ops) fn tile(&self, range: Range<usize>) -> Tensor<2> {
        self.rows_in(range, self.compute_dtype)
    }

    /// `x W^T`, a tile of outputs at a time.
    pub(in crate::ops) fn times_tiles(&self, x: &Tensor<2>) -> Tensor<2> {
        let x = Factor::new(x, self.compute_dtype);
        let mut parts: Vec<_> = self.runs().map(|run| x.times(self.tile(run).transpose())).collect();
        if parts.len() == 1 { parts.remove(0) } else { Tensor::cat(parts, 1) }
    }

    /// `dy W`, summed over tiles of outputs in their order.
    #[cfg(feature = "gpu")]
    pub(in crate::ops) fn times_tiles_back(&self, dy: &Tensor<2>) -> Tensor<2> {
        let [n, out] = dy.dims();
        let part = |run: Range<usize>| {
            let dy = if run.len() == out { dy.clone() } else { dy.clone().slice([0..n, run.clone()]) };
            Factor::new(&dy, self.compute_dtype).times(self.tile(run))
        };
        let sum = self.runs().map(part).reduce(|sum, part| sum + part);
        sum.unwrap_or_else(|| Tensor::zeros([n, self.dims[1]], &dy.device()))
    }

    /// Runs of outputs whose rows are converted at once: all of them where they are held as they are multiplied.
    fn runs(&self) -> impl Iterator<Item = Range<usize>> + use<> {
        let [out, input] = self.dims;
        let factor = DType::from(self.compute_dtype);
        let rows = match &*self.held {
            Held::DeviceFloats(floats) if floats.dtype() == factor => out,
            _ => UNPACKED_TILE_BYTES / (factor.size() * input.max(1)),
        };
        let rows = rows.max(1);
        (0..out).step_by(rows).map(move |start| start..(start + rows).min(out))
    }
}
