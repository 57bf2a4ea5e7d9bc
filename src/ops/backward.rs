//! The start of a backward pass.

#[cfg(feature = "gpu")]
use super::gpu;
use super::graph;
use super::node::Cpu;
use burn::tensor::Tensor;

/// A number whose gradient with respect to `y` is `gradient`, so that a backward pass from it is the vector-Jacobian
/// product of what made `y`. Its value is 0 where the device has kernels of ours: nothing is multiplied or added up.
///
/// # Shapes
/// - `y`, `gradient`: alike
/// - output: `[1]`
pub fn backward_from(y: Tensor<2>, gradient: Tensor<2>) -> Tensor<1> {
    if let (Some(y), Some(gradient)) = (Cpu::new(&y), Cpu::new(&gradient)) {
        return graph::backward_from(y, gradient);
    }
    #[cfg(feature = "gpu")]
    if let Some(start) = gpu::backward_from(&y, &gradient) {
        return start;
    }
    // The gradient of sum(y * g) with a constant g.
    (y * gradient).sum()
}
