//! From what the last stages give to what the tower gives.

use crate::model::vision::mobilenet::inverted_residual::UniversalInvertedResidual;
use crate::nn::RmsNorm;
use burn::tensor::{Int, Tensor, TensorData};

/// What several scales give, as large as the largest and side by side, widened and narrowed, then made as small as the
/// output and normalised.
///
/// # Source
/// timm's `MobileNetV5MultiScaleFusionAdapter`.
#[derive(Debug, Clone)]
pub struct MultiScaleFusion {
    /// Without convolutions of single channels, layer scale and residual.
    pub ffn: UniversalInvertedResidual,
    /// After it.
    pub norm: RmsNorm,
    /// Cells on a side of the output.
    pub output_resolution: usize,
}

impl MultiScaleFusion {
    /// Fuses them.
    ///
    /// # Shapes
    /// - `scales`: `[height, width, c]` each, the largest first
    /// - output: `[output_resolution, output_resolution, w]`
    pub fn forward(&self, scales: Vec<Tensor<3>>) -> Tensor<3> {
        let [height, width] = scales.first().map_or([0, 0], |first| [first.dims()[0], first.dims()[1]]);
        let resized = scales.into_iter().map(|x| nearest(nearest(x, 0, height), 1, width));
        let fused = self.ffn.forward(Tensor::cat(resized.collect(), 2));
        self.norm.forward(shrunk(fused, self.output_resolution))
    }
}

/// The cells along an axis that lie nearest to those of a larger grid.
fn nearest(x: Tensor<3>, axis: usize, cells: usize) -> Tensor<3> {
    let own = x.dims()[axis];
    if own >= cells {
        return x;
    }
    // In f32, as the reference computes it.
    let scale = own as f32 / cells as f32;
    let from = (0..cells).map(|cell| ((cell as f32 * scale) as usize).min(own - 1));
    select(x, axis, from)
}

/// A grid of so many cells on a side: the mean of each block of cells where blocks fill it, or else what lies between the
/// four nearest.
fn shrunk(x: Tensor<3>, cells: usize) -> Tensor<3> {
    let [height, width, c] = x.dims();
    if [height, width] == [cells, cells] {
        return x;
    }
    if !height.is_multiple_of(cells) || !width.is_multiple_of(cells) {
        return between(between(x, 0, cells), 1, cells);
    }
    let blocks = x.reshape([cells, height / cells, cells, width / cells, c]);
    blocks.mean_dim(3).mean_dim(1).reshape([cells, cells, c])
}

/// Cells along an axis between the two nearest, whose middles are spread evenly.
fn between(x: Tensor<3>, axis: usize, cells: usize) -> Tensor<3> {
    let own = x.dims()[axis];
    let scale = own as f32 / cells as f32;
    let middles: Vec<f32> = (0..cells).map(|cell| ((cell as f32 + 0.5) * scale - 0.5).max(0.0)).collect();
    let before = middles.iter().map(|&at| (at as usize).min(own - 1));
    let after = before.clone().map(|cell| (cell + 1).min(own - 1));
    let shares = middles.iter().zip(before.clone()).map(|(at, before)| at - before as f32).collect();
    let mut dims = [1; 3];
    dims[axis] = cells;
    let shares = Tensor::<3>::from_data(TensorData::new(shares, dims), &x.device());
    let (before, after) = (select(x.clone(), axis, before), select(x, axis, after));
    before.clone() + (after - before) * shares
}

fn select(x: Tensor<3>, axis: usize, cells: impl Iterator<Item = usize>) -> Tensor<3> {
    let cells: Vec<i64> = cells.map(|cell| cell as i64).collect();
    let len = cells.len();
    let cells = Tensor::<1, Int>::from_data(TensorData::new(cells, [len]), &x.device());
    x.select(axis, cells)
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    fn values(x: Tensor<3>) -> Vec<f32> {
        x.into_data().iter().collect()
    }

    #[test]
    fn grids_are_resized_as_the_reference_resizes_them() {
        let x = Tensor::<1, Int>::arange(0..12, &Device::flex()).float().reshape([3, 4, 1]);
        // torch.nn.functional.interpolate(x, size=(5, 7), mode="nearest"), columns of the first row, then rows.
        let wide = values(nearest(x.clone(), 1, 7));
        assert_eq!(wide[..7], [0.0, 0.0, 1.0, 1.0, 2.0, 2.0, 3.0]);
        let tall = values(nearest(x.clone(), 0, 5));
        assert_eq!(tall.iter().step_by(4).copied().collect::<Vec<_>>(), [0.0, 0.0, 4.0, 4.0, 8.0]);
        assert_eq!(nearest(x.clone(), 1, 4).dims(), [3, 4, 1]);
        // torch.nn.functional.interpolate(x, size=(2, 2), mode="bilinear")
        let few = values(shrunk(x.clone(), 2));
        let expected = [1.5, 3.5, 7.5, 9.5];
        assert!(few.iter().zip(expected).all(|(got, expected)| (got - expected).abs() < 1e-6), "{few:?}");
        let y = x.reshape([2, 6, 1]);
        assert_eq!(values(shrunk(y, 2)), [1.0, 4.0, 7.0, 10.0], "means of blocks");
    }
}
