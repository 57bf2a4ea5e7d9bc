//! Layer normalisation.

use burn::tensor::Tensor;

/// Layer norm over the last axis: `(x - mean(x)) / sqrt(var(x) + eps) * weight + bias`, with the variance over all `w`
/// numbers, not `w - 1`.
///
/// # Numerics
/// f32 throughout.
///
/// # Source
/// Ba et al. 2016, equation 3.
#[derive(Debug, Clone)]
pub struct LayerNorm {
    /// `[w]`.
    pub weight: Tensor<1>,
    /// `[w]`.
    pub bias: Tensor<1>,
    /// Added to the variance.
    pub eps: f64,
}

impl LayerNorm {
    /// Normalises each row.
    ///
    /// # Shapes
    /// - `x`, output: `[n, w]`
    pub fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let centred = x.clone() - x.mean_dim(1);
        let scale = centred.clone().square().mean_dim(1).add_scalar(self.eps).sqrt().recip(); // [n, 1]
        centred * scale * self.weight.clone().unsqueeze() + self.bias.clone().unsqueeze()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    #[test]
    fn rows_come_out_centred_and_of_unit_variance_before_weight_and_bias() {
        let device = Device::flex();
        let vector = |values: [f32; 4]| Tensor::<1>::from_floats(values, &device);
        let norm = LayerNorm { weight: vector([1.0, 2.0, 1.0, -1.0]), bias: vector([0.0, 0.5, 0.0, 0.0]), eps: 0.0 };
        let x = Tensor::<2>::from_floats([[1.0, 2.0, 3.0, 4.0], [-7.0, -5.0, -3.0, -1.0]], &device);
        let y: Vec<f32> = norm.forward(x).into_data().iter().collect();
        let (far, near) = (1.5 / 1.25_f32.sqrt(), 0.5 / 1.25_f32.sqrt());
        let expected = [-far, 0.5 - 2.0 * near, near, -far];
        for (got, expected) in y.iter().zip(expected.iter().chain(&expected)) {
            assert!((got - expected).abs() < 1e-6, "{got} {expected}");
        }
    }
}
