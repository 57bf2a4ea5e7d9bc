//! A frozen matrix in the form it is held in.

use crate::ops::{self, Frozen, plain};
use crate::quant::QuantizedMatrix;
use burn::tensor::{DType, Device, FloatDType, Int, Tensor, TensorData};
use std::ops::Range;

/// A frozen weight `[out, in]` (Hugging Face's layout), held as plain floats or quantised, and used as f32.
#[derive(Debug, Clone)]
pub struct Weight {
    kind: WeightKind,
    /// The same values as the CPU's kernels see them; `None` on other devices.
    frozen: Option<Frozen>,
}

/// The forms a [`Weight`] is held in, for operations that unpack it tile by tile.
#[derive(Debug, Clone)]
pub enum WeightKind {
    /// A tensor of f32, bf16 or f16 on the device.
    Dense(Tensor<2>),
    /// A matrix in main memory or in a mapped file.
    Quantized {
        /// The matrix.
        matrix: QuantizedMatrix,
        /// Where its unpacked rows go.
        device: Device,
    },
}

impl Weight {
    /// Wraps a tensor `[out, in]` of any float dtype.
    pub fn new(stored: Tensor<2>) -> Self {
        let frozen = Frozen::on_cpu(&stored);
        Weight { kind: WeightKind::Dense(stored), frozen }
    }

    /// Wraps a quantised matrix `[out, in]` whose rows are used on `device`.
    pub fn quantized(matrix: QuantizedMatrix, device: &Device) -> Self {
        let frozen = ops::is_cpu(device).then(|| Frozen::quantized(matrix.clone()));
        Weight { kind: WeightKind::Quantized { matrix, device: device.clone() }, frozen }
    }

    /// The matrix as the CPU's kernels see it; `None` on other devices.
    pub fn frozen(&self) -> Option<&Frozen> {
        self.frozen.as_ref()
    }

    /// The form it is held in.
    pub fn kind(&self) -> &WeightKind {
        &self.kind
    }

    /// `[out, in]`.
    pub fn dims(&self) -> [usize; 2] {
        match &self.kind {
            WeightKind::Dense(stored) => stored.dims(),
            WeightKind::Quantized { matrix, .. } => matrix.dims(),
        }
    }

    /// Bytes it occupies.
    pub fn bytes(&self) -> u64 {
        match &self.kind {
            WeightKind::Dense(stored) => (stored.dims().iter().product::<usize>() * stored.dtype().size()) as u64,
            WeightKind::Quantized { matrix, .. } => matrix.bytes(),
        }
    }

    /// The whole weight in f32: the held tensor itself where it is f32, a converted copy otherwise.
    ///
    /// # Shapes
    /// - output: `[out, in]`
    pub fn to_f32(&self) -> Tensor<2> {
        let [out, _] = self.dims();
        self.rows(0..out)
    }

    /// Output rows `range` in f32.
    ///
    /// # Shapes
    /// - output: `[range.len(), in]`
    pub fn rows(&self, range: Range<usize>) -> Tensor<2> {
        let [out, input] = self.dims();
        match &self.kind {
            WeightKind::Dense(stored) if range == (0..out) => to_f32(stored.clone()),
            WeightKind::Dense(stored) => to_f32(stored.clone().slice([range, 0..input])),
            WeightKind::Quantized { matrix, device } => {
                let mut values = vec![0.0; range.len() * input];
                let shape = [range.len(), input];
                matrix.dequantize_rows_parallel(range, &mut values);
                Tensor::from_data(TensorData::new(values, shape), device)
            }
        }
    }

    /// The rows with these indices, in f32: an embedding lookup.
    ///
    /// # Shapes
    /// - output: `[indices.len(), in]`
    pub fn select(&self, indices: &[u32]) -> Tensor<2> {
        let [_, input] = self.dims();
        let len = indices.len();
        match &self.kind {
            WeightKind::Dense(stored) => {
                let indices: Vec<i64> = indices.iter().map(|&i| i64::from(i)).collect();
                let indices = Tensor::<1, Int>::from_data(TensorData::new(indices, [len]), &stored.device());
                to_f32(stored.clone().select(0, indices))
            }
            WeightKind::Quantized { matrix, device } => {
                let mut values = vec![0.0; len * input];
                for (&index, row) in indices.iter().zip(values.chunks_exact_mut(input.max(1))) {
                    matrix.dequantize_rows(index as usize..index as usize + 1, row);
                }
                Tensor::from_data(TensorData::new(values, [len, input]), device)
            }
        }
    }

    /// `x W^T`.
    ///
    /// # Shapes
    /// - `x`: `[n, in]`
    /// - output: `[n, out]`
    pub fn project(&self, x: Tensor<2>) -> Tensor<2> {
        match &self.frozen {
            Some(frozen) => ops::linear(x, frozen),
            None => x.matmul(self.to_f32().transpose()),
        }
    }

    /// `x W^T + s (x A^T) B^T`.
    ///
    /// # Shapes
    /// - `x`: `[n, in]`
    /// - `a`: `[r, in]`, `b`: `[out, r]`
    /// - output: `[n, out]`
    pub fn project_adapted(&self, x: Tensor<2>, a: &Tensor<2>, b: &Tensor<2>, scaling: f64) -> Tensor<2> {
        match &self.frozen {
            Some(frozen) => ops::lora_linear(x, frozen, a, b, scaling),
            None => plain::add_low_rank(self.project(x.clone()), &x, a, b, scaling),
        }
    }

    /// As [`Weight::project_adapted`], of `gelu_tanh(gate) * up`.
    ///
    /// # Shapes
    /// - `gate`, `up`: `[n, in]`
    /// - `a`: `[r, in]`, `b`: `[out, r]`
    /// - output: `[n, out]`
    pub fn project_gated(
        &self,
        gate: Tensor<2>,
        up: Tensor<2>,
        a: &Tensor<2>,
        b: &Tensor<2>,
        scaling: f64,
    ) -> Tensor<2> {
        match &self.frozen {
            Some(frozen) => ops::geglu_lora_linear(gate, up, frozen, a, b, scaling),
            None => self.project_adapted(ops::geglu(gate, up), a, b, scaling),
        }
    }
}

fn to_f32(tensor: Tensor<2>) -> Tensor<2> {
    if tensor.dtype() == DType::F32 { tensor } else { tensor.cast(FloatDType::F32) }
}
