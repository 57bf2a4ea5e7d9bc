//! How a model's matrices are held in memory.

use super::HostDtype;
use super::names::TensorId;
use crate::error::Result;
use crate::quant::QuantType;
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
    /// What the factors of their products are rounded to; `None` is what a GPU multiplies fastest, and f32 on the CPU.
    pub compute_dtype: Option<HostDtype>,
    /// Whether the inputs of products with blocks are rounded to signed bytes, on the CPU: for inference alone.
    pub int8_inputs: bool,
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

    /// The word for what the factors of products are asked to be rounded to.
    pub fn computes_in(&self) -> &'static str {
        match self.compute_dtype {
            _ if self.int8_inputs => "int8",
            Some(dtype) => dtype.name(),
            None => "auto",
        }
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

    /// The form of a matrix that is stored as bf16, as every published model is.
    pub fn form_of_bf16(&self, id: &TensorId) -> Form {
        self.form(self.of(id), QuantType::BF16)
    }

    /// The form of a matrix under a compression, of which a file has elements of the type `stored`.
    pub(super) fn form(&self, compression: Compression, stored: QuantType) -> Form {
        match compression {
            Compression::None => Form::Dense(self.dtype.unwrap_or(HostDtype::of_stored(stored))),
            Compression::AsStored => Form::Blocks(stored),
            Compression::Int8 => Form::Int8,
            Compression::Nf4 => Form::Nf4 { double: false },
            Compression::Nf4Double => Form::Nf4 { double: true },
        }
    }

    /// What is asked for of one matrix.
    pub(super) fn of(&self, id: &TensorId) -> Compression {
        match (id, self.projections) {
            // Towers stay as they are stored.
            (id, _) if !id.is_of_text() => Compression::None,
            // Gathered row by row from main memory or from its file, and never needed as a whole.
            (TensorId::EmbedTokensPerLayer, _) => Compression::AsStored,
            (id, projections) if id.is_compressible() => projections,
            (id, _) if id.is_linear() => Compression::None,
            _ if self.embedding_int8 => Compression::Int8,
            (_, Compression::AsStored) => Compression::AsStored,
            _ => Compression::None,
        }
    }
}

/// The form that a matrix is held in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Form {
    /// Plain floats.
    Dense(HostDtype),
    /// Signed bytes with a scale per row.
    Int8,
    /// 4-bit NormalFloat, with quantised maxima if `double`.
    Nf4 {
        /// Whether the maxima are quantised.
        double: bool,
    },
    /// As in a GGUF file.
    Blocks(QuantType),
}

impl Form {
    /// Its name: `f32`, `int8`, `nf4_double`, `Q4_K`.
    pub fn name(self) -> &'static str {
        match self {
            Form::Dense(HostDtype::F32) => "f32",
            Form::Dense(HostDtype::BF16) => "bf16",
            Form::Dense(HostDtype::F16) => "f16",
            Form::Int8 => "int8",
            Form::Nf4 { double: false } => "nf4",
            Form::Nf4 { double: true } => "nf4_double",
            Form::Blocks(of) => of.name(),
        }
    }

    /// Bytes of a matrix in this form; 0 if its rows are not whole blocks.
    pub fn bytes(self, dims: [usize; 2]) -> u64 {
        let elements = dims.iter().map(|&n| n as u64).product::<u64>();
        match self {
            Form::Dense(dtype) => elements * dtype.bytes() as u64,
            Form::Int8 => int8_bytes(dims),
            Form::Nf4 { double } => nf4_bytes(dims, double),
            Form::Blocks(of) => of.bytes_of(dims[0] * dims[1]).unwrap_or(0) as u64,
        }
    }
}
