//! What a device can hold, and what it multiplies fastest.

use super::cpu::bf16::Kernel;
#[cfg(feature = "gpu")]
use super::gpu;
use burn::tensor::{Device, FloatDType};

/// Whether a device can hold a tensor of so many bytes of these numbers.
#[cfg_attr(not(feature = "gpu"), expect(unused_variables))]
pub fn can_hold(device: &Device, dtype: FloatDType, bytes: u64) -> bool {
    #[cfg(feature = "gpu")]
    if gpu::largest_buffer(device).is_some_and(|largest| bytes > largest) {
        return false;
    }
    device.supports_dtype(dtype)
}

/// What the device multiplies fastest with sums in f32: bf16 where it has matrix units for them, or else f16; f32
/// without such units.
#[cfg_attr(not(feature = "gpu"), expect(unused_variables))]
pub fn fastest_factors(device: &Device) -> FloatDType {
    #[cfg(feature = "gpu")]
    if let Some(dtype) = gpu::fastest_factors(device) {
        return dtype;
    }
    FloatDType::F32
}

/// Whether this processor has an instruction for products of bf16 numbers with sums in f32. Without it they are made of
/// products in f32: no faster than those, and with the same bits.
pub fn cpu_multiplies_bf16() -> bool {
    Kernel::best().is_native()
}

/// What the CPU makes products of bf16 numbers of, for reports: `AVX-512 BF16`, `made of f32 products with AVX2`.
pub fn cpu_bf16_products() -> &'static str {
    Kernel::best().name()
}
