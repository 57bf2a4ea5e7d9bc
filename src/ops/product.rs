//! Products of matrices that no other operation is made of.

#[cfg(feature = "gpu")]
use super::gpu;
use burn::tensor::{Device, Tensor};

/// `a b`, in f32 on every device.
///
/// # Shapes
/// - `a`: `[.., n, k]`
/// - `b`: `[.., k, m]`
/// - output: `[.., n, m]`
///
/// # Numerics
/// Factors are not rounded: kernels that would make TF32 of them are not chosen.
pub fn product<const D: usize>(a: Tensor<D>, b: Tensor<D>) -> Tensor<D> {
    #[cfg(feature = "gpu")]
    if let Some(product) = gpu::product(&a, &b) {
        return product;
    }
    a.matmul(b)
}

/// Tries the kernels that large products take on a device, and uses no longer those that fail there or give wrong
/// numbers; says which, and why.
#[cfg_attr(not(feature = "gpu"), expect(unused_variables))]
pub fn unusable_ways(device: &Device) -> Vec<String> {
    #[cfg(feature = "gpu")]
    return gpu::unusable_ways(device);
    #[cfg(not(feature = "gpu"))]
    Vec::new()
}
