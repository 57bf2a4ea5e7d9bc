//! How a model's matrices are held in memory.

use super::names::TensorId;
use super::{HostDtype, HostTensor};
use crate::quant::QuantizedMatrix;

/// How a model's matrices are held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Holding {
    /// The type of what is not compressed; `None` as it is stored, and bf16 for GGUF blocks.
    pub dtype: Option<HostDtype>,
    /// How the projections are compressed.
    pub projections: Compression,
    /// Whether embedding and head are held as signed bytes.
    pub embedding_int8: bool,
}

/// A compression of frozen matrices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Compression {
    /// None; a folder that is stored quantised stays as it is stored.
    #[default]
    None,
    /// Signed bytes with a scale per row.
    Int8,
    /// 4-bit NormalFloat.
    Nf4,
    /// 4-bit NormalFloat with quantised scales.
    Nf4Double,
    /// As the file has them, embedding and head included.
    AsStored,
}

impl Holding {
    /// Nothing is compressed.
    pub fn dense(dtype: Option<HostDtype>) -> Self {
        Holding { dtype, ..Holding::default() }
    }

    /// What is asked for of one matrix.
    pub(super) fn of(&self, id: &TensorId) -> Compression {
        match (id, self.projections) {
            (TensorId::Projection(..), projections) => projections,
            _ if self.embedding_int8 => Compression::Int8,
            (_, Compression::AsStored) => Compression::AsStored,
            _ => Compression::None,
        }
    }
}

/// A matrix as it is held.
#[derive(Debug, Clone)]
pub enum HeldMatrix {
    /// Plain floats.
    Dense(HostTensor),
    /// Compressed.
    Quantized(QuantizedMatrix),
}
