//! A frozen matrix in the form it is held in.

use crate::ops::{self, DeviceMatrix, Frozen, RowLosses};
use crate::quant::QuantizedMatrix;
use burn::tensor::{Device, FloatDType, Tensor, TensorData};
use std::ops::Range;

/// A frozen weight `[out, in]` (Hugging Face's layout), held as plain floats or quantised, and used as f32.
#[derive(Debug, Clone)]
pub struct Weight(Held);

#[derive(Debug, Clone)]
enum Held {
    Cpu(Frozen),
    Device(DeviceMatrix),
}

impl Weight {
    /// Wraps a tensor `[out, in]` of any float dtype.
    pub fn new(stored: Tensor<2>) -> Self {
        Weight(match Frozen::on_cpu(&stored) {
            Some(frozen) => Held::Cpu(frozen),
            None => Held::Device(DeviceMatrix::dense(stored)),
        })
    }

    /// Wraps a quantised matrix `[out, in]` whose rows are used on `device`, and moves its packed form there.
    pub fn quantized(matrix: QuantizedMatrix, device: &Device) -> Self {
        Weight(match ops::is_cpu(device) {
            true => Held::Cpu(Frozen::quantized(matrix)),
            false => Held::Device(DeviceMatrix::quantized(matrix, device)),
        })
    }

    /// The same weight, whose products round their factors to this dtype where it is on a device other than the CPU, which computes in
    /// f32. Without it they are what that device multiplies fastest; those of f32 weights are f32.
    pub fn computed_in(self, compute_dtype: FloatDType) -> Self {
        Weight(match self.0 {
            Held::Cpu(frozen) => Held::Cpu(frozen),
            Held::Device(matrix) => Held::Device(matrix.computed_in(compute_dtype)),
        })
    }

    /// What the factors of its products are rounded to.
    pub fn compute_dtype(&self) -> FloatDType {
        match &self.0 {
            Held::Cpu(_) => FloatDType::F32,
            Held::Device(matrix) => matrix.compute_dtype(),
        }
    }

    /// `[out, in]`.
    pub fn dims(&self) -> [usize; 2] {
        match &self.0 {
            Held::Cpu(frozen) => frozen.dims(),
            Held::Device(matrix) => matrix.dims(),
        }
    }

    /// Bytes it occupies.
    pub fn bytes(&self) -> u64 {
        match &self.0 {
            Held::Cpu(frozen) => frozen.bytes(),
            Held::Device(matrix) => matrix.bytes(),
        }
    }

    /// Whether it is held in a compressed form.
    pub fn is_quantized(&self) -> bool {
        match &self.0 {
            Held::Cpu(frozen) => frozen.is_quantized(),
            Held::Device(matrix) => matrix.is_quantized(),
        }
    }

    /// The whole weight in f32: the held tensor itself where it is f32, a converted copy otherwise.
    ///
    /// # Shapes
    /// - output: `[out, in]`
    pub fn to_f32(&self) -> Tensor<2> {
        match &self.0 {
            Held::Cpu(frozen) => frozen.to_tensor(),
            Held::Device(matrix) => matrix.rows(0..matrix.dims()[0]),
        }
    }

    /// Output rows `range` in f32.
    ///
    /// # Shapes
    /// - output: `[range.len(), in]`
    pub fn rows(&self, range: Range<usize>) -> Tensor<2> {
        match &self.0 {
            Held::Cpu(frozen) => {
                let shape = [range.len(), frozen.dims()[1]];
                let mut values = vec![0.0; shape[0] * shape[1]];
                frozen.unpack(range, &mut values);
                Tensor::from_data(TensorData::new(values, shape), &Device::flex())
            }
            Held::Device(matrix) => matrix.rows(range),
        }
    }

    /// The rows with these indices, in f32: an embedding lookup.
    ///
    /// # Shapes
    /// - output: `[indices.len(), in]`
    pub fn select(&self, indices: &[u32]) -> Tensor<2> {
        match &self.0 {
            Held::Cpu(frozen) => {
                let shape = [indices.len(), frozen.dims()[1]];
                Tensor::from_data(TensorData::new(frozen.select(indices), shape), &Device::flex())
            }
            Held::Device(matrix) => matrix.select(indices),
        }
    }

    /// `x W^T`.
    ///
    /// # Shapes
    /// - `x`: `[n, in]`
    /// - output: `[n, out]`
    pub fn project(&self, x: Tensor<2>) -> Tensor<2> {
        match &self.0 {
            Held::Cpu(frozen) => ops::linear(x, frozen),
            Held::Device(matrix) => matrix.linear(x),
        }
    }

    /// `x W^T + s (x A^T) B^T`.
    ///
    /// # Shapes
    /// - `x`: `[n, in]`
    /// - `a`: `[r, in]`, `b`: `[out, r]`
    /// - output: `[n, out]`
    pub fn project_adapted(&self, x: Tensor<2>, a: &Tensor<2>, b: &Tensor<2>, scaling: f64) -> Tensor<2> {
        match &self.0 {
            Held::Cpu(frozen) => ops::lora_linear(x, frozen, a, b, scaling),
            Held::Device(matrix) => matrix.lora_linear(x, a, b, scaling),
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
        match &self.0 {
            Held::Cpu(frozen) => ops::geglu_lora_linear(gate, up, frozen, a, b, scaling),
            Held::Device(matrix) => matrix.geglu_lora_linear(gate, up, a, b, scaling),
        }
    }

    /// The loss of each row of `x` with this as the head, and its gradient; `None` on devices without a kernel.
    ///
    /// # Shapes
    /// - `x`: `[m, in]`
    /// - `targets`: `m` numbers below `out`
    pub fn linear_cross_entropy(&self, x: &Tensor<2>, targets: &[u32], scale: Option<f64>) -> Option<RowLosses> {
        match &self.0 {
            Held::Cpu(frozen) => ops::linear_cross_entropy(x, frozen, targets, scale),
            Held::Device(matrix) => matrix.linear_cross_entropy(x, targets, scale),
        }
    }
}
