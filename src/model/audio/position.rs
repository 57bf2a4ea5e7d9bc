//! How far apart two rows are, as attention scores see it.

use crate::nn::{Linear, SidePath};
use burn::tensor::{Device, Tensor, TensorData};

/// What queries meet of each distance: waves of many lengths, projected.
///
/// # Source
/// Dai et al. 2019 (Transformer-XL), the terms of its equation 3 without biases.
#[derive(Debug, Clone)]
pub struct RelativePositions {
    /// Waves at each distance from the farthest row behind to the farthest ahead, `[distances, w]`.
    pub waves: Tensor<2>,
    /// `[w, w]`.
    pub pos_proj: Linear,
}

/// The shortest wave turns once in `2 pi` rows, the longest in so many times that.
const LONGEST: f64 = 1e4;

impl RelativePositions {
    /// The waves at distances from `past` down to `-future`: sines of all lengths, then cosines.
    ///
    /// # Numerics
    /// f32 angles and lengths, as in the reference.
    pub fn waves(past: usize, future: usize, width: usize, device: &Device) -> Tensor<2> {
        let half = width / 2;
        let increment = LONGEST.ln() / half.saturating_sub(1).max(1) as f64;
        let pace = |i: usize| (i as f32 * -(increment as f32)).exp();
        let row = |distance: f32| {
            let angles: Vec<f32> = (0..half).map(|i| distance * pace(i)).collect();
            let sines = angles.iter().map(|angle| angle.sin()).collect::<Vec<f32>>();
            sines.into_iter().chain(angles.into_iter().map(f32::cos))
        };
        let distances = (0..=past + future).map(|at| past as f32 - at as f32);
        let values: Vec<f32> = distances.flat_map(row).collect();
        Tensor::from_data(TensorData::new(values, [past + future + 1, 2 * half]), device)
    }

    /// What queries meet of each distance.
    ///
    /// # Shapes
    /// - output: `[h, e, distances]`
    pub fn keys(&self, heads: usize, side: &dyn SidePath) -> Tensor<3> {
        let projected = self.pos_proj.forward(self.waves.clone(), side); // [distances, h e]
        let [distances, width] = projected.dims();
        projected.reshape([distances, heads, width / heads]).permute([1, 2, 0])
    }
}

/// Scores of distances as scores of rows: those of the `i`-th of the rows that attend together begin at the `i`-th row that
/// they see. What is beside them means nothing.
///
/// # Shapes
/// - `scores`: `[h, chunks, chunk, distances]`
/// - output: `[h, chunks, chunk, context]`
pub fn shifted(scores: Tensor<4>, context: usize) -> Tensor<4> {
    let [h, chunks, chunk, distances] = scores.dims();
    // Each line is one longer than what it becomes, so each begins one place further on.
    let lines = scores.pad([(0, 0), (0, 0), (0, 0), (0, context + 1 - distances)], 0.0);
    let lines = lines.reshape([h, chunks, chunk * (context + 1)]);
    lines.narrow(2, 0, chunk * context).reshape([h, chunks, chunk, context])
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Int;

    #[test]
    fn scores_move_with_the_row_that_attends() {
        let scores = Tensor::<1, Int>::arange(1..7, &Device::flex()).float().reshape([1, 1, 3, 2]);
        let got: Vec<f32> = shifted(scores, 4).into_data().iter().collect();
        assert_eq!(got, [1., 2., 0., 0., 0., 3., 4., 0., 0., 0., 5., 6.]);
    }

    #[test]
    fn waves_are_sines_and_cosines_of_the_distance() {
        let waves: Vec<f32> = RelativePositions::waves(2, 1, 6, &Device::flex()).into_data().iter().collect();
        assert_eq!(waves.len(), 4 * 6);
        assert_eq!(waves[12..18], [0., 0., 0., 1., 1., 1.], "the third distance is 0");
        let expected = [2f32.sin(), 0.02f32.sin(), 0.0002f32.sin(), 2f32.cos()];
        for (got, expected) in waves.iter().zip(expected) {
            assert!((got - expected).abs() < 1e-6, "{got} {expected}");
        }
        assert!((waves[18] + 1f32.sin()).abs() < 1e-6, "one row ahead is -1");
    }
}
