//! How a model's matrices are held in memory.

use super::names::TensorId;
use super::{HostDtype, HostTensor};
use crate::error::Result;
use crate::quant::QuantizedMatrix;
use crate::quant::matrix::{int8_bytes, nf4_bytes};

/// How a model's matrices are held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Holding {
    /// The type of what is not compressed; `None` as it is stored, and bf16 for GGUF blocks.
    pub dtype: Option<HostDtype>,
    /// How the projections are compressed.
    pub projections: Compression,
    /// Whether embedding and head are held as signed bytes.
    pub embedding_int8: bool,
    /// What the factors of their products are rounded to on a GPU; `None` is what it multiplies fastest.
    pub compute_dtype: Option<HostDtype>,
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

    /// Refuses what plain floats cannot be held as.
    ///
    /// # Errors
    /// `as_stored`.
    pub fn check_plain(&self) -> Result<()> {
        if self.projections != Compression::AsStored {
            return Ok(());
        }
        Err(super::wrong("`as_stored` keeps a file's own blocks, but these weights are plain floats")
            .hint("use `quantization: nf4_double`, `nf4` or `int8`, or a `.gguf` file as the base"))
    }

    /// Bytes of a matrix that is stored as bf16, as every published model is.
    pub fn bytes_of_bf16(&self, id: &TensorId, dims: [usize; 2]) -> u64 {
        let stored = dims.iter().map(|&n| n as u64).product::<u64>() * HostDtype::BF16.bytes() as u64;
        self.bytes_of(self.of(id), dims, stored, HostDtype::BF16)
    }

    /// Bytes of a matrix under a compression, of which a file has `stored` bytes that are `widened` when read as floats.
    pub(super) fn bytes_of(&self, compression: Compression, dims: [usize; 2], stored: u64, widened: HostDtype) -> u64 {
        let elements = dims.iter().map(|&n| n as u64).product::<u64>();
        match compression {
            Compression::None => elements * self.dtype.unwrap_or(widened).bytes() as u64,
            Compression::AsStored => stored,
            Compression::Int8 => int8_bytes(dims),
            Compression::Nf4 => nf4_bytes(dims, false),
            Compression::Nf4Double => nf4_bytes(dims, true),
        }
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
