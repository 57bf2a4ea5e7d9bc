//! Dropout.

#[cfg(feature = "gpu")]
use super::gpu;
use super::traffic::upload;
use crate::random::Mask;
use burn::tensor::{Tensor, TensorData};

/// `x` times the mask, drawn where `x` is: the same bits on every device.
///
/// # Shapes
/// - `x`, output: `[n, in]`
///
/// # Source
/// Srivastava et al. 2014, scaled while training.
pub fn dropout(x: &Tensor<2>, mask: &Mask) -> Tensor<2> {
    #[cfg(feature = "gpu")]
    if let Some(y) = gpu::dropout(x, mask) {
        return y;
    }
    let [n, input] = x.dims();
    let factors = TensorData::new(mask.draw(n * input), [n, input]);
    x.clone() * upload(factors, &x.device().inner())
}
