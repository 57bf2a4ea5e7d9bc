//! One update of a parameter by Adam with decoupled weight decay.

pub(super) mod rates;

#[cfg(feature = "gpu")]
use super::gpu;
use super::plain;
use burn::tensor::Tensor;
use rates::AdamW;

/// The updated parameter, and its first and second moment.
///
/// # Shapes
/// - all alike
///
/// # Source
/// Loshchilov & Hutter 2019, algorithm 2, in PyTorch's order of operations.
pub fn adamw(
    parameter: Tensor<2>,
    gradient: Tensor<2>,
    first: &Tensor<2>,
    second: &Tensor<2>,
    by: &AdamW,
) -> [Tensor<2>; 3] {
    #[cfg(feature = "gpu")]
    if let Some(updated) = gpu::adamw([&parameter, &gradient, first, second], by) {
        return updated;
    }
    plain::adamw(parameter, gradient, first, second, by)
}
