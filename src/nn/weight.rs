//! A frozen matrix in the form it is held in.

use burn::tensor::{DType, FloatDType, Int, Tensor, TensorData};
use std::ops::Range;

/// A frozen weight `[out, in]` (Hugging Face's layout), held as f32, bf16 or f16 and used as f32.
#[derive(Debug, Clone)]
pub struct Weight {
    stored: Tensor<2>,
}

impl Weight {
    /// Wraps a tensor `[out, in]` of any float dtype.
    pub fn new(stored: Tensor<2>) -> Self {
        Weight { stored }
    }

    /// `[out, in]`.
    pub fn dims(&self) -> [usize; 2] {
        self.stored.dims()
    }

    /// The dtype it is held in.
    pub fn dtype(&self) -> DType {
        self.stored.dtype()
    }

    /// Bytes it occupies.
    pub fn bytes(&self) -> u64 {
        let [out, input] = self.dims();
        (out * input * self.dtype().size()) as u64
    }

    /// The whole weight in f32: the held tensor itself where it is f32, a converted copy otherwise.
    ///
    /// # Shapes
    /// - output: `[out, in]`
    pub fn to_f32(&self) -> Tensor<2> {
        to_f32(self.stored.clone())
    }

    /// Output rows `range` in f32.
    ///
    /// # Shapes
    /// - output: `[range.len(), in]`
    pub fn rows(&self, range: Range<usize>) -> Tensor<2> {
        let [out, input] = self.dims();
        if range == (0..out) {
            return self.to_f32();
        }
        to_f32(self.stored.clone().slice([range, 0..input]))
    }

    /// The rows with these indices, in f32: an embedding lookup.
    ///
    /// # Shapes
    /// - output: `[indices.len(), in]`
    pub fn select(&self, indices: &[u32]) -> Tensor<2> {
        let device = self.stored.device();
        let indices: Vec<i64> = indices.iter().map(|&i| i64::from(i)).collect();
        let len = indices.len();
        let indices = Tensor::<1, Int>::from_data(TensorData::new(indices, [len]), &device);
        to_f32(self.stored.clone().select(0, indices))
    }

    /// `x W^T`.
    ///
    /// # Shapes
    /// - `x`: `[n, in]`
    /// - output: `[n, out]`
    pub fn project(&self, x: Tensor<2>) -> Tensor<2> {
        x.matmul(self.to_f32().transpose())
    }
}

fn to_f32(tensor: Tensor<2>) -> Tensor<2> {
    if tensor.dtype() == DType::F32 { tensor } else { tensor.cast(FloatDType::F32) }
}
