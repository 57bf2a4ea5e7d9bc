//! Sums of squares.

#[cfg(feature = "gpu")]
use super::gpu;
use super::traffic::read_back;
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
    let sum = |t: &Tensor<2>| read_back(t.clone().square().sum()).iter::<f32>().sum::<f32>();
    tensors.iter().map(|t| f64::from(sum(t))).collect()
}
