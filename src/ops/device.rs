//! What a device can hold, and what it multiplies fastest.

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
