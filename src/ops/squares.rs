//! Sums of squares.

#[cfg(feature = "gpu")]
use super::gpu;
use burn::tensor::Tensor;

/// The sum of the squares of each of these tensors, which are on one device, in an order of its own that never changes;
/// what a GPU adds up is fetched at once.
///
/// # Numerics
/// f32 within a tensor; on a GPU its last few sums in f64.
pub fn square_sums(tensors: &[Tensor<2>]) -> Vec<f64> {
    #[cfg(feature = "gpu")]
    if let Some(sums) = gpu::square_sums(tensors) {
        return sums;
    }
    tensors.iter().map(|t| f64::from(t.clone().square().sum().into_scalar::<f32>())).collect()
}
