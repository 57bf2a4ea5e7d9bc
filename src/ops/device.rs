//! A frozen matrix on a device other than the CPU, and the linear layers it makes.

use super::factor::{Factor, to_dtype, to_f32};
#[cfg(feature = "gpu")]
use super::gpu;
use super::{Frozen, RowLosses, plain};
use crate::quant::QuantizedMatrix;
use burn::tensor::{DType, Device, FloatDType, Int, Tensor, TensorData};
use std::ops::Range;
use std::sync::Arc;

/// A frozen matrix `[out, in]` of a device, unpacked or converted by tiles where it is used.
#[derive(Debug, Clone)]
pub struct DeviceMatrix {
    held: Arc<Held>,
    dims: [usize; 2],
    bytes: u64,
    compute_dtype: FloatDType,
}

#[derive(Debug, Clone)]
#[allow(clippy::large_enum_variant)] // always behind an `Arc`
enum Held {
    /// f32, bf16 or f16.
    Dense(Tensor<2>),
    /// As it is stored.
    #[cfg(feature = "gpu")]
    Packed(gpu::Packed),
    /// In main memory, for a device that has no kernels of ours: unpacked there and uploaded at each use.
    Away(Frozen, Device),
}

/// Bytes that are unpacked or converted at once; little in tests, so that there are several tiles.
pub const TILE_BYTES: usize = if cfg!(test) { 4 << 10 } else { 256 << 20 };

impl DeviceMatrix {
    /// Holds a tensor of any float dtype. One of f32 is computed with in f32.
    pub fn dense(matrix: Tensor<2>) -> Self {
        let (dims, dtype) = (matrix.dims(), matrix.dtype());
        let bytes = (dims[0] * dims[1] * dtype.size()) as u64;
        let compute_dtype = if dtype == DType::F32 { FloatDType::F32 } else { fastest_factors(&matrix.device()) };
        DeviceMatrix { held: Arc::new(Held::Dense(matrix)), dims, bytes, compute_dtype }
    }

    /// Holds a quantised matrix in its compressed form.
    pub fn quantized(matrix: QuantizedMatrix, device: &Device) -> Self {
        let (dims, bytes, compute_dtype) = (matrix.dims(), matrix.bytes(), fastest_factors(device));
        #[cfg(feature = "gpu")]
        if let Some(packed) = gpu::Packed::new(&matrix, device) {
            return DeviceMatrix { held: Arc::new(Held::Packed(packed)), dims, bytes, compute_dtype };
        }
        let held = Arc::new(Held::Away(Frozen::quantized(matrix), device.clone().inner()));
        DeviceMatrix { held, dims, bytes, compute_dtype }
    }

    /// The same matrix, whose products round their factors to this dtype instead of the one that the device multiplies fastest.
    pub fn computed_in(self, compute_dtype: FloatDType) -> Self {
        DeviceMatrix { compute_dtype, ..self }
    }

    /// What the factors of its products are rounded to.
    pub fn compute_dtype(&self) -> FloatDType {
        self.compute_dtype
    }

    /// `[out, in]`.
    pub fn dims(&self) -> [usize; 2] {
        self.dims
    }

    /// Bytes it occupies.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether it is held in a compressed form.
    pub fn is_quantized(&self) -> bool {
        !matches!(*self.held, Held::Dense(_))
    }

    /// Rows `range` in f32: the held tensor itself where that is all of it.
    ///
    /// # Shapes
    /// - output: `[range.len(), in]`
    pub fn rows(&self, range: Range<usize>) -> Tensor<2> {
        self.rows_in(range, FloatDType::F32)
    }

    /// Rows `range` as a factor of products.
    ///
    /// # Shapes
    /// - output: `[range.len(), in]`, of the compute dtype
    pub(super) fn tile(&self, range: Range<usize>) -> Tensor<2> {
        self.rows_in(range, self.compute_dtype)
    }

    fn rows_in(&self, range: Range<usize>, dtype: FloatDType) -> Tensor<2> {
        let [out, input] = self.dims;
        match &*self.held {
            Held::Dense(stored) if range == (0..out) => to_dtype(stored.clone(), dtype),
            Held::Dense(stored) => to_dtype(stored.clone().slice([range, 0..input]), dtype),
            #[cfg(feature = "gpu")]
            Held::Packed(packed) => packed.rows(range, dtype),
            Held::Away(matrix, device) => {
                let mut values = vec![0.0; range.len() * input];
                let shape = [range.len(), input];
                matrix.unpack(range, &mut values);
                to_dtype(Tensor::from_data(TensorData::new(values, shape), device), dtype)
            }
        }
    }

    /// The rows with these indices, in f32.
    ///
    /// # Shapes
    /// - output: `[indices.len(), in]`
    pub fn select(&self, indices: &[u32]) -> Tensor<2> {
        let [_, input] = self.dims;
        let len = indices.len();
        match &*self.held {
            Held::Dense(stored) => {
                let indices: Vec<i64> = indices.iter().map(|&i| i64::from(i)).collect();
                let indices = Tensor::<1, Int>::from_data(TensorData::new(indices, [len]), &stored.device());
                to_f32(stored.clone().select(0, indices))
            }
            #[cfg(feature = "gpu")]
            Held::Packed(packed) => packed.select(indices),
            Held::Away(matrix, device) => {
                Tensor::from_data(TensorData::new(matrix.select(indices), [len, input]), device)
            }
        }
    }

    /// See [`super::linear()`].
    pub fn linear(&self, x: Tensor<2>) -> Tensor<2> {
        #[cfg(feature = "gpu")]
        if let Some(y) = gpu::linear(&x, self) {
            return y;
        }
        self.project(&x)
    }

    /// See [`super::lora_linear`].
    pub fn lora_linear(&self, x: Tensor<2>, a: &Tensor<2>, b: &Tensor<2>, scaling: f64) -> Tensor<2> {
        #[cfg(feature = "gpu")]
        if let Some(y) = gpu::lora_linear(&x, self, a, b, scaling) {
            return y;
        }
        plain::add_low_rank(self.project(&x), &x, a, b, scaling)
    }

    /// See [`super::geglu_lora_linear`].
    pub fn geglu_lora_linear(
        &self,
        gate: Tensor<2>,
        up: Tensor<2>,
        a: &Tensor<2>,
        b: &Tensor<2>,
        scaling: f64,
    ) -> Tensor<2> {
        #[cfg(feature = "gpu")]
        if let Some(y) = gpu::geglu_lora_linear(&gate, &up, self, a, b, scaling) {
            return y;
        }
        self.lora_linear(plain::geglu(gate, up), a, b, scaling)
    }

    /// See [`super::linear_cross_entropy`]; `None` on devices without a kernel.
    #[cfg_attr(not(feature = "gpu"), expect(unused_variables))]
    pub fn linear_cross_entropy(&self, x: &Tensor<2>, targets: &[u32], scale: Option<f64>) -> Option<RowLosses> {
        #[cfg(feature = "gpu")]
        if let Some(losses) = gpu::linear_cross_entropy(x, self, targets, scale) {
            return Some(losses);
        }
        None
    }

    /// `x W^T`, a tile of outputs at a time.
    pub(super) fn project(&self, x: &Tensor<2>) -> Tensor<2> {
        let x = Factor::new(x, self.compute_dtype);
        let mut parts: Vec<_> = self.tiles().map(|tile| x.times(self.tile(tile).transpose())).collect();
        if parts.len() == 1 { parts.remove(0) } else { Tensor::cat(parts, 1) }
    }

    /// `dy W`, summed over tiles of outputs in their order.
    #[cfg(feature = "gpu")]
    pub(super) fn project_back(&self, dy: &Tensor<2>) -> Tensor<2> {
        let [n, out] = dy.dims();
        let part = |tile: Range<usize>| {
            let dy = if tile.len() == out { dy.clone() } else { dy.clone().slice([0..n, tile.clone()]) };
            Factor::new(&dy, self.compute_dtype).times(self.tile(tile))
        };
        let sum = self.tiles().map(part).reduce(|sum, part| sum + part);
        sum.unwrap_or_else(|| Tensor::zeros([n, self.dims[1]], &dy.device()))
    }

    /// Runs of outputs whose rows are converted at once: all of them where they are held as they are multiplied.
    fn tiles(&self) -> impl Iterator<Item = Range<usize>> + use<> {
        let [out, input] = self.dims;
        let factor = DType::from(self.compute_dtype);
        let rows = match &*self.held {
            Held::Dense(stored) if stored.dtype() == factor => out,
            _ => TILE_BYTES / (factor.size() * input.max(1)),
        };
        let rows = rows.max(1);
        (0..out).step_by(rows).map(move |start| start..(start + rows).min(out))
    }
}

/// Whether a device can hold a tensor of so many bytes of these numbers.
#[cfg_attr(not(feature = "gpu"), expect(unused_variables))]
pub fn can_hold(device: &Device, dtype: FloatDType, bytes: u64) -> bool {
    #[cfg(feature = "gpu")]
    if gpu::largest_buffer(device).is_some_and(|largest| bytes > largest) {
        return false;
    }
    device.supports_dtype(dtype)
}

/// What the device multiplies fastest with sums in f32: bf16 where it has matrix units for them, or else f16; f32 without such units.
#[cfg_attr(not(feature = "gpu"), expect(unused_variables))]
pub fn fastest_factors(device: &Device) -> FloatDType {
    #[cfg(feature = "gpu")]
    if let Some(dtype) = gpu::fastest_factors(device) {
        return dtype;
    }
    FloatDType::F32
}
