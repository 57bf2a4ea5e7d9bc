//! A tensor in main memory, before it goes to a device or into a file.

use crate::error::Result;
use crate::quant::usable::{self, Unusable};
use crate::quant::{QuantType, QuantizedMatrix};
use half::{bf16, f16};
use std::fmt;

/// How a tensor's elements are held in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum HostDtype {
    /// 32-bit floats.
    F32,
    /// Brain floats: the range of `F32` with 8 bits of precision.
    BF16,
    /// IEEE half-precision floats: at most 65,504.
    F16,
}

impl HostDtype {
    /// The type that elements of a stored type are read as where nobody asks for another: their own, and bf16 for
    /// blocks.
    pub(super) fn of_stored(stored: QuantType) -> Self {
        match stored {
            QuantType::F32 => HostDtype::F32,
            QuantType::F16 => HostDtype::F16,
            _ => HostDtype::BF16,
        }
    }

    /// Bytes per element.
    pub fn bytes(self) -> usize {
        match self {
            HostDtype::F32 => 4,
            HostDtype::BF16 | HostDtype::F16 => 2,
        }
    }

    /// The name in a safetensors header.
    pub fn name(self) -> &'static str {
        match self {
            HostDtype::F32 => "F32",
            HostDtype::BF16 => "BF16",
            HostDtype::F16 => "F16",
        }
    }
}

impl fmt::Display for HostDtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The elements of a [`HostTensor`], row after row.
#[derive(Debug, Clone, PartialEq)]
pub enum HostData {
    /// 32-bit floats.
    F32(Vec<f32>),
    /// Brain floats.
    BF16(Vec<bf16>),
    /// Half-precision floats.
    F16(Vec<f16>),
}

impl HostData {
    /// The number of elements.
    pub fn len(&self) -> usize {
        match self {
            HostData::F32(data) => data.len(),
            HostData::BF16(data) => data.len(),
            HostData::F16(data) => data.len(),
        }
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The type of the elements.
    pub fn dtype(&self) -> HostDtype {
        match self {
            HostData::F32(_) => HostDtype::F32,
            HostData::BF16(_) => HostDtype::BF16,
            HostData::F16(_) => HostDtype::F16,
        }
    }

    /// The elements' bytes as files hold them (little endian).
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            HostData::F32(data) => bytemuck::cast_slice(data),
            HostData::BF16(data) => bytemuck::cast_slice(data),
            HostData::F16(data) => bytemuck::cast_slice(data),
        }
    }
}

/// A dense tensor in main memory.
#[derive(Debug, Clone, PartialEq)]
pub struct HostTensor {
    /// The size of each axis, outermost first.
    pub shape: Vec<usize>,
    /// The elements, row after row.
    pub data: HostData,
}

impl HostTensor {
    /// A tensor of 32-bit floats.
    pub fn f32(shape: impl Into<Vec<usize>>, data: Vec<f32>) -> Self {
        HostTensor { shape: shape.into(), data: HostData::F32(data) }
    }

    /// The type of the elements.
    pub fn dtype(&self) -> HostDtype {
        self.data.dtype()
    }

    /// The elements as 32-bit floats.
    ///
    /// # Numerics
    /// Exact: every value of the narrower types is one of `f32`.
    pub fn to_f32(&self) -> Vec<f32> {
        match &self.data {
            HostData::F32(data) => data.clone(),
            HostData::BF16(data) => data.iter().map(|v| v.to_f32()).collect(),
            HostData::F16(data) => data.iter().map(|v| v.to_f32()).collect(),
        }
    }

    /// The first number that is no weight, if there is one.
    pub fn first_unusable(&self) -> Option<Unusable> {
        match &self.data {
            HostData::F32(values) => usable::first_unusable(values),
            HostData::BF16(_) => QuantType::BF16.first_unusable(self.data.as_bytes()),
            HostData::F16(_) => QuantType::F16.first_unusable(self.data.as_bytes()),
        }
    }

    /// The largest magnitude of its numbers; 0 of none.
    pub fn largest(&self) -> f32 {
        let largest = |values: &mut dyn Iterator<Item = f32>| values.fold(0.0f32, |largest, x| largest.max(x.abs()));
        match &self.data {
            HostData::F32(values) => largest(&mut values.iter().copied()),
            HostData::BF16(values) => largest(&mut values.iter().map(|x| x.to_f32())),
            HostData::F16(values) => largest(&mut values.iter().map(|x| x.to_f32())),
        }
    }

    /// A matrix as blocks of one element, for devices that have no tensors of its type.
    ///
    /// # Errors
    /// If it has not these dimensions.
    pub fn into_blocks(self, dims: [usize; 2]) -> Result<QuantizedMatrix> {
        let of = match self.dtype() {
            HostDtype::F32 => QuantType::F32,
            HostDtype::BF16 => QuantType::BF16,
            HostDtype::F16 => QuantType::F16,
        };
        QuantizedMatrix::blocks(dims, of, self.data.as_bytes().to_vec().into())
    }

    /// The elements as 32-bit floats, without a copy where they are already.
    pub fn into_f32(self) -> Vec<f32> {
        match self.data {
            HostData::F32(data) => data,
            _ => self.to_f32(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn narrow_types_widen_exactly() {
        let values = [1.0f32, -0.15625, 3.0e-8, 65504.0];
        let halves = HostTensor { shape: vec![4], data: HostData::F16(values.map(f16::from_f32).to_vec()) };
        assert_eq!(halves.to_f32(), [1.0, -0.15625, 5.9604645e-8, 65504.0]);
        assert_eq!(halves.data.as_bytes().len(), 8);
        let brains = HostTensor { shape: vec![4], data: HostData::BF16(values.map(bf16::from_f32).to_vec()) };
        assert_eq!(brains.into_f32(), [1.0, -0.15625, 3.0035153e-8, 65536.0]);
    }

    #[test]
    fn blocks_hold_the_same_values() {
        let values = [1.0f32, -0.15625, 3.5, -0.0, 65504.0, 2.0];
        let of = [
            HostData::F32(values.to_vec()),
            HostData::BF16(values.map(bf16::from_f32).to_vec()),
            HostData::F16(values.map(f16::from_f32).to_vec()),
        ];
        for data in of {
            let tensor = HostTensor { shape: vec![2, 3], data };
            let want = tensor.to_f32();
            assert!(tensor.clone().into_blocks([3, 3]).is_err());
            let blocks = tensor.into_blocks([2, 3]).unwrap();
            let mut got = vec![0.0; 6];
            blocks.dequantize_rows(0..2, &mut got);
            assert_eq!(got, want);
        }
    }
}
