//! The gated feed-forward block.

use crate::nn::{Linear, SidePath};
use burn::tensor::{Tensor, activation::sigmoid};

/// GeGLU: `down(gelu_tanh(gate(x)) * up(x))`.
#[derive(Debug, Clone)]
pub struct Mlp {
    /// `[f, d]`.
    pub gate_proj: Linear,
    /// `[f, d]`.
    pub up_proj: Linear,
    /// `[d, f]`.
    pub down_proj: Linear,
}

impl Mlp {
    /// Applies the block.
    ///
    /// # Shapes
    /// - `x`: `[n, d]`
    /// - output: `[n, d]`
    pub fn forward(&self, x: Tensor<2>, side: &dyn SidePath) -> Tensor<2> {
        let gate = gelu_tanh(self.gate_proj.forward(x.clone(), side)); // [n, f]
        let up = self.up_proj.forward(x, side); // [n, f]
        self.down_proj.forward(gate * up, side)
    }
}

/// GELU in its tanh form, `x/2 (1 + tanh(u))` with `u = sqrt(2/pi) (x + 0.044715 x^3)`.
///
/// Written as `x sigmoid(2u)`, the same function: one exponential instead of a tanh, and a gradient that stays finite
/// however large `|x|` is.
///
/// # Source
/// Hendrycks & Gimpel 2016, section 2.
pub fn gelu_tanh<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    const TWICE_SQRT_2_OVER_PI: f64 = 2.0 * 0.797_884_560_802_865_4;
    let cubic = x.clone().square().mul_scalar(0.044715).add_scalar(1.0); // 1 + 0.044715 x^2
    let twice_u = (x.clone() * cubic).mul_scalar(TWICE_SQRT_2_OVER_PI);
    x * sigmoid(twice_u)
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    #[test]
    fn gelu_matches_its_definition_and_stays_finite_far_out() {
        let device = Device::flex();
        let points = [-100.0f32, -12.0, -3.0, -0.5, 0.0, 0.5, 3.0, 12.0, 100.0];
        let x = Tensor::<1>::from_floats(points, &device).autodiff().require_grad();
        let y = gelu_tanh(x.clone());
        let expected = points.map(|x| {
            let x = f64::from(x);
            0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3))).tanh())
        });
        for (got, want) in y.clone().inner().into_data().as_slice::<f32>().unwrap().iter().zip(expected) {
            assert!((f64::from(*got) - want).abs() <= 1e-6 * want.abs().max(1e-2), "{got} {want}");
        }
        let grads = y.sum().backward();
        let slope = x.grad(&grads).unwrap().into_data();
        let slope = slope.as_slice::<f32>().unwrap();
        assert!(slope.iter().all(|g| g.is_finite()), "{slope:?}");
        assert_eq!((slope[0], slope[8]), (0.0, 1.0));
    }
}
