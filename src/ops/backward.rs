//! The start of a backward pass.

#[cfg(feature = "gpu")]
use super::gpu;
use super::graph::{Node, Storage, finish};
use super::node::Cpu;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, DispatchKindConversion, DispatchTensor, TensorMetadata};
use burn::tensor::{DType, Shape, Tensor};

/// A number whose gradient with respect to `y` is `gradient`, so that a backward pass from it is the vector-Jacobian
/// product of what made `y`. Its value is 0 where the device has kernels of ours: nothing is multiplied or added up.
///
/// # Shapes
/// - `y`, `gradient`: alike
/// - output: `[1]`
pub fn backward_from(y: Tensor<2>, gradient: Tensor<2>) -> Tensor<1> {
    if let (Some(y), Some(gradient)) = (Cpu::new(&y), Cpu::new(&gradient)) {
        return started(y, gradient);
    }
    #[cfg(feature = "gpu")]
    if let Some(start) = gpu::backward_from(&y, &gradient) {
        return start;
    }
    // The gradient of sum(y * g) with a constant g.
    (y * gradient).sum()
}

/// See [`backward_from`].
pub fn started<B: Storage>(y: Node<B>, gradient: Node<B>) -> Tensor<1>
where
    DispatchTensor: DispatchKindConversion<B> + DispatchKindConversion<Autodiff<B>>,
    FloatTensor<B>: std::fmt::Debug,
{
    let gradient = gradient.primitive().clone();
    assert_eq!(gradient.shape(), y.primitive().shape());
    let zero = B::float_zeros(Shape::new([1]), &gradient.device(), DType::F32.into());
    finish([y], zero, gradient, |gradient, _, [wanted]| [wanted.then_some(gradient)])
}
