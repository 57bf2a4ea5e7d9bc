//! A frozen matrix in the form it is held in.

mod memory;
mod tiles;

use super::device::fastest_factors;
use super::factor::{to_dtype, to_f32};
#[cfg(feature = "gpu")]
use super::gpu;
use super::node::is_cpu;
use super::passing::{Passing, Sparse};
use super::traffic::upload;
use crate::quant::QuantizedMatrix;
use burn::backend::Flex;
use burn::backend::flex::FlexTensor;
use burn::tensor::{DType, Device, FloatDType, Int, Tensor, TensorData};
use std::ops::Range;
use std::sync::Arc;

/// A frozen weight `[out, in]` (Hugging Face's layout), held as plain floats or compressed, and used as f32; cheap to
/// clone.
#[derive(Debug, Clone)]
pub struct Weight {
    held: Arc<Held>,
    dims: [usize; 2],
    bytes: u64,
    compute_dtype: FloatDType,
    /// Whether the inputs of its products are rounded to signed bytes, where its form allows it.
    rounds_inputs: bool,
    /// What of its products is asked for, where that is little.
    sparse: Option<Sparse>,
}

/// The forms that a weight is held in.
#[derive(Debug)]
#[allow(clippy::large_enum_variant)] // always behind an `Arc`
enum Held {
    /// f32, bf16 or f16 in main memory, contiguous, for the CPU's kernels.
    CpuFloats(FlexTensor),
    /// Compressed in main memory or in a mapped file, for the same kernels: unpacked row by row where it is used.
    CpuCompressed(QuantizedMatrix),
    /// f32, bf16 or f16 on another device.
    DeviceFloats(Tensor<2>),
    /// Compressed on a device that has kernels of ours, in its stored bytes.
    #[cfg(feature = "gpu")]
    DevicePacked(gpu::Packed),
    /// Compressed in main memory, for a device that has none: unpacked here and uploaded at each use.
    Away(QuantizedMatrix, Device),
}

impl Weight {
    /// Holds a tensor `[out, in]` of any float dtype where it is. On a device other than the CPU one of f32 is computed
    /// with in f32, and the others in what that device multiplies fastest.
    pub fn new(stored: Tensor<2>) -> Self {
        let (dims, dtype) = (stored.dims(), stored.dtype());
        let bytes = (dims[0] * dims[1] * dtype.size()) as u64;
        let (held, compute_dtype) = match stored.clone().try_into_primitive::<Flex>() {
            Ok(floats) => (Held::CpuFloats(floats.to_contiguous()), FloatDType::F32),
            Err(_) if dtype == DType::F32 => (Held::DeviceFloats(stored), FloatDType::F32),
            Err(_) => {
                let fastest = fastest_factors(&stored.device());
                (Held::DeviceFloats(stored), fastest)
            }
        };
        Weight { held: Arc::new(held), dims, bytes, compute_dtype, rounds_inputs: false, sparse: None }
    }

    /// Holds a compressed matrix `[out, in]` whose rows are used on `device`, and moves its packed form there.
    pub fn quantized(matrix: QuantizedMatrix, device: &Device) -> Self {
        let (dims, bytes) = (matrix.dims(), matrix.bytes());
        let (held, compute_dtype) = match is_cpu(device) {
            true => (Held::CpuCompressed(matrix), FloatDType::F32),
            false => (Held::on_device(matrix, device), fastest_factors(device)),
        };
        Weight { held: Arc::new(held), dims, bytes, compute_dtype, rounds_inputs: false, sparse: None }
    }

    /// The same weight, whose products round their factors to this dtype. Without it the CPU rounds nothing, and another
    /// device takes what it multiplies fastest; those of f32 weights are f32. The CPU has no products of f16.
    pub fn computed_in(self, compute_dtype: FloatDType) -> Self {
        let is_multiplied = !self.is_on_cpu() || matches!(compute_dtype, FloatDType::F32 | FloatDType::BF16);
        if is_multiplied { Weight { compute_dtype, ..self } } else { self }
    }

    /// The same weight, whose products `x W^T` round `x` to signed bytes in runs of 32 and sum whole numbers, where it is held
    /// in the CPU's memory in a form of signed bytes with scales. Nothing else rounds: not its gradient, and not what has
    /// [`Weight::with_outputs`] or [`Weight::with_inputs`].
    pub fn with_rounded_inputs(self) -> Self {
        Weight { rounds_inputs: true, ..self }
    }

    /// The same weight `[f, in]` for products whose outputs are read where something passes only. The others of
    /// `x W^T` may be anything, and of its gradient `dy` they are taken to be zero.
    pub fn with_outputs(&self, passing: &Passing) -> Self {
        Weight { sparse: Some(passing.as_outputs()), ..self.clone() }
    }

    /// The same weight `[out, f]` for products whose inputs are zero where nothing passes. The others of the gradient
    /// `dx = dy W` may be anything.
    pub fn with_inputs(&self, passing: &Passing) -> Self {
        Weight { sparse: Some(passing.as_inputs()), ..self.clone() }
    }

    pub(super) fn sparse(&self) -> Option<&Sparse> {
        self.sparse.as_ref()
    }

    /// What the factors of its products are rounded to.
    pub fn compute_dtype(&self) -> FloatDType {
        self.compute_dtype
    }

    /// `[out, in]`.
    pub fn dims(&self) -> [usize; 2] {
        self.dims
    }

    /// Bytes it occupies, in memory or in its file.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether it is held in a compressed form.
    pub fn is_quantized(&self) -> bool {
        !matches!(*self.held, Held::CpuFloats(_) | Held::DeviceFloats(_))
    }

    /// Whether the CPU computes with it.
    pub(super) fn is_on_cpu(&self) -> bool {
        matches!(*self.held, Held::CpuFloats(_) | Held::CpuCompressed(_))
    }

    /// The whole weight in f32: the held tensor itself where it is f32, a converted copy otherwise.
    ///
    /// # Shapes
    /// - output: `[out, in]`
    pub fn to_f32(&self) -> Tensor<2> {
        self.rows(0..self.dims[0])
    }

    /// Output rows `range` in f32.
    ///
    /// # Shapes
    /// - output: `[range.len(), in]`
    pub fn rows(&self, range: Range<usize>) -> Tensor<2> {
        self.rows_in(range, FloatDType::F32)
    }

    /// Output rows `range` in a dtype; in f32 on the CPU.
    fn rows_in(&self, range: Range<usize>, dtype: FloatDType) -> Tensor<2> {
        let [out, input] = self.dims;
        match &*self.held {
            Held::CpuFloats(floats) if floats.dtype() == DType::F32 && range == (0..out) => {
                Tensor::from_primitive::<Flex>(floats.clone())
            }
            Held::CpuFloats(_) | Held::CpuCompressed(_) => self.unpacked(range, &Device::flex()),
            Held::DeviceFloats(floats) if range == (0..out) => to_dtype(floats.clone(), dtype),
            Held::DeviceFloats(floats) => to_dtype(floats.clone().slice([range, 0..input]), dtype),
            #[cfg(feature = "gpu")]
            Held::DevicePacked(packed) => packed.rows(range, dtype),
            Held::Away(_, device) => to_dtype(self.unpacked(range, device), dtype),
        }
    }

    /// The rows with these indices, in f32: an embedding lookup.
    ///
    /// # Shapes
    /// - output: `[indices.len(), in]`
    pub fn select(&self, indices: &[u32]) -> Tensor<2> {
        let len = indices.len();
        let here = |device: &Device| upload(TensorData::new(self.selected(indices), [len, self.dims[1]]), device);
        match &*self.held {
            Held::CpuFloats(_) | Held::CpuCompressed(_) => here(&Device::flex()),
            Held::DeviceFloats(floats) => {
                let indices: Vec<i64> = indices.iter().map(|&i| i64::from(i)).collect();
                let indices: Tensor<1, Int> = upload(TensorData::new(indices, [len]), &floats.device());
                to_f32(floats.clone().select(0, indices))
            }
            #[cfg(feature = "gpu")]
            Held::DevicePacked(packed) => packed.select(indices),
            Held::Away(_, device) => here(device),
        }
    }
}

impl Held {
    fn on_device(matrix: QuantizedMatrix, device: &Device) -> Self {
        #[cfg(feature = "gpu")]
        if let Some(packed) = gpu::Packed::new(&matrix, device) {
            return Held::DevicePacked(packed);
        }
        Held::Away(matrix, device.clone().inner())
    }
}
