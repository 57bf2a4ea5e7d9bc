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
    pub(in crate::ops) fn times_tiles(&self, x: &Factor<2>) -> Tensor<2> {
        joined(self.runs().map(|run| x.times(self.tile(run).transpose())).collect())
    }

    /// The same before its rows are multiplied by their scales, where the factor was scaled.
    #[cfg(feature = "gpu")]
    pub(in crate::ops) fn times_tiles_unscaled(&self, x: &Factor<2>) -> (Tensor<2>, Option<Tensor<2>>) {
        let y = joined(self.runs().map(|run| x.times_unscaled(self.tile(run).transpose())).collect());
        (y, x.scales())
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

    /// The same before its rows are multiplied by their scales, where there are any: each tile has scales of its own, so that
    /// there are none of several.
    #[cfg(feature = "gpu")]
    pub(in crate::ops) fn times_tiles_back_unscaled(&self, dy: &Tensor<2>) -> (Tensor<2>, Option<Tensor<2>>) {
        let [_, out] = dy.dims();
        if self.runs().next().is_none_or(|run| run.len() < out) {
            return (self.times_tiles_back(dy), None);
        }
        let dy = Factor::new(dy, self.compute_dtype);
        (dy.times_unscaled(self.tile(0..out)), dy.scales())
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

/// Tiles of outputs side by side.
fn joined(mut tiles: Vec<Tensor<2>>) -> Tensor<2> {
    if tiles.len() == 1 { tiles.remove(0) } else { Tensor::cat(tiles, 1) }
}
