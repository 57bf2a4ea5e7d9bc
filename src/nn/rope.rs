//! Rotary position embedding, half rotation.

use crate::ops::upload;
use burn::tensor::{Device, Tensor, TensorData};

/// The frequencies of one kind of layer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rope {
    /// Base of the geometric series.
    pub theta: f64,
    /// Positions are divided by this (linear scaling); 1 where there is none.
    pub factor: f64,
}

impl Rope {
    /// The cosines and sines of `positions` for heads of `head_dim`.
    ///
    /// # Numerics
    /// Frequencies and angles in f32 as in the reference, never lower: at position 30,000 a bf16 angle is noise.
    ///
    /// # Source
    /// Su et al. 2021, equation 34; checked by the logits goldens.
    pub fn table(&self, positions: &[usize], head_dim: usize, device: &Device) -> RopeTable {
        let half = head_dim / 2;
        let frequencies: Vec<f32> = (0..half)
            .map(|i| {
                let exponent = (2 * i) as f32 / head_dim as f32;
                1.0 / (self.theta as f32).powf(exponent) / self.factor as f32
            })
            .collect();
        let mut cos = Vec::with_capacity(positions.len() * half);
        let mut sin = Vec::with_capacity(positions.len() * half);
        for &position in positions {
            for &frequency in &frequencies {
                let (s, c) = (position as f32 * frequency).sin_cos();
                cos.push(c);
                sin.push(s);
            }
        }
        let tensor = |values| upload(TensorData::new(values, [positions.len(), 1, half]), device);
        RopeTable { cos: tensor(cos), sin: tensor(sin) }
    }
}

/// Cosines and sines `[n, 1, e/2]` for the tokens of one batch.
#[derive(Debug, Clone)]
pub struct RopeTable {
    /// Of each token's angles.
    pub cos: Tensor<3>,
    /// Of each token's angles.
    pub sin: Tensor<3>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn linear_scaling_divides_positions() {
        let device = Device::flex();
        let plain = Rope { theta: 1e6, factor: 1.0 }.table(&[3], 16, &device);
        let scaled = Rope { theta: 1e6, factor: 8.0 }.table(&[24], 16, &device);
        let gap = (plain.cos - scaled.cos).abs().max().into_scalar::<f32>();
        assert!(gap < 1e-6, "{gap}");
    }

    #[test]
    fn a_rotation_keeps_lengths_and_position_zero() {
        let device = Device::flex();
        let x = Tensor::<1>::from_floats([1.0, -2.0, 0.5, 3.0, 0.1, 0.2, -0.3, 0.4], &device).reshape([2, 1, 4]);
        let y = Rope { theta: 1e4, factor: 1.0 }.table(&[0, 7], 4, &device);
        let y = crate::ops::plain::rotate(x.clone(), &y.cos, &y.sin);
        let norms = |t: &Tensor<3>| t.clone().square().sum_dim(2).into_data().try_to_vec::<f32>().unwrap();
        for (a, b) in norms(&x).iter().zip(norms(&y)) {
            assert!((a - b).abs() < 1e-5);
        }
        assert_eq!(
            x.slice([0..1, 0..1, 0..4]).into_data().try_to_vec::<f32>().unwrap(),
            y.slice([0..1, 0..1, 0..4]).into_data().try_to_vec::<f32>().unwrap()
        );
    }
}
