//! A frozen matrix in the form it is held in.

use crate::quant::{QuantType, QuantizedMatrix};
use burn::backend::Flex;
use burn::backend::flex::FlexTensor;
use burn::tensor::{DType, Tensor};
use half::{bf16, f16};
use rayon::prelude::*;
use std::cell::RefCell;
use std::ops::Range;

/// A frozen matrix `[out, in]` in main memory, used as f32.
#[derive(Debug, Clone)]
pub struct Frozen {
    stored: Stored,
    dims: [usize; 2],
}

#[derive(Debug, Clone)]
enum Stored {
    /// f32, bf16 or f16.
    Dense(FlexTensor),
    Quantized(QuantizedMatrix),
}

/// Bytes of f32 that are unpacked at once: small enough to stay in a core's cache until they are used.
const TILE_BYTES: usize = 1 << 20;

impl Frozen {
    /// The storage of a matrix of any float dtype; `None` on any device but the CPU.
    pub fn on_cpu(matrix: &Tensor<2>) -> Option<Self> {
        let stored = matrix.clone().try_into_primitive::<Flex>().ok()?;
        Some(Frozen { stored: Stored::Dense(stored.to_contiguous()), dims: matrix.dims() })
    }

    /// A matrix that stays in its compressed form.
    pub fn quantized(matrix: QuantizedMatrix) -> Self {
        Frozen { dims: matrix.dims(), stored: Stored::Quantized(matrix) }
    }

    /// `[out, in]`.
    pub fn dims(&self) -> [usize; 2] {
        self.dims
    }

    /// Bytes it occupies, in memory or in its file.
    pub fn bytes(&self) -> u64 {
        match &self.stored {
            Stored::Dense(stored) => (self.dims[0] * self.dims[1] * stored.dtype().size()) as u64,
            Stored::Quantized(matrix) => matrix.bytes(),
        }
    }

    /// Whether it is held in a compressed form.
    pub fn is_quantized(&self) -> bool {
        matches!(self.stored, Stored::Quantized(_))
    }

    /// All of it as an f32 tensor: the held one itself where it is that.
    pub fn to_tensor(&self) -> Tensor<2> {
        if let Stored::Dense(stored) = &self.stored
            && stored.dtype() == DType::F32
        {
            return Tensor::from_primitive::<Flex>(stored.clone());
        }
        let mut values = vec![0.0; self.dims[0] * self.dims[1]];
        self.unpack(0..self.dims[0], &mut values);
        Tensor::from_primitive::<Flex>(super::node::tensor(values, self.dims))
    }

    /// Its rows as f32 without unpacking, where they are held so.
    fn as_f32(&self) -> Option<&[f32]> {
        match &self.stored {
            Stored::Dense(stored) => stored.as_slice::<f32>(),
            Stored::Quantized(_) => None,
        }
    }

    /// Calls `visit` with runs of rows, in order, each unpacked to f32. All rows at once where they are held so.
    pub fn tiles(&self, visit: impl FnMut(Range<usize>, &[f32])) {
        let [out, input] = self.dims;
        match self.as_f32() {
            Some(_) => self.tiles_of(out, visit),
            None => self.tiles_of((TILE_BYTES / (4 * input.max(1))).clamp(16, 4096) / 16 * 16, visit),
        }
    }

    /// As [`Frozen::tiles`], with runs of `rows` rows.
    pub fn tiles_of(&self, rows: usize, mut visit: impl FnMut(Range<usize>, &[f32])) {
        thread_local! {
            static TILE: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
        }
        let [out, input] = self.dims;
        let ranges = (0..out).step_by(rows.max(1)).map(|start| start..(start + rows).min(out));
        if let Some(values) = self.as_f32() {
            ranges.for_each(|range| visit(range.clone(), &values[range.start * input..range.end * input]));
            return;
        }
        let mut tile = TILE.take();
        for range in ranges {
            tile.resize(range.len() * input, 0.0);
            self.unpack(range.clone(), &mut tile);
            visit(range, &tile);
        }
        TILE.set(tile);
    }

    /// Rows `range` as f32 into `out`, on all threads.
    pub fn unpack(&self, range: Range<usize>, out: &mut [f32]) {
        const ROWS: usize = 16;
        let [_, input] = self.dims;
        out.par_chunks_mut(ROWS * input).enumerate().for_each(|(chunk, out)| {
            let first = range.start + chunk * ROWS;
            self.rows(first..first + out.len() / input, out);
        });
    }

    /// The rows with these indices as f32, one after the other.
    pub fn select(&self, indices: &[u32]) -> Vec<f32> {
        let [_, input] = self.dims;
        let mut out = vec![0.0; indices.len() * input];
        out.par_chunks_exact_mut(input.max(1)).zip(indices).for_each(|(out, &index)| {
            self.rows(index as usize..index as usize + 1, out);
        });
        out
    }

    /// The products of rows `range` with `x`, on this thread, without unpacking them.
    ///
    /// # Shapes
    /// - `x`: `[in]`
    /// - `out`: `[range.len()]`
    pub fn dot_rows(&self, range: Range<usize>, x: &[f32], out: &mut [f32]) {
        let [_, input] = self.dims;
        match &self.stored {
            Stored::Quantized(matrix) => matrix.dot_rows(range, x, out),
            Stored::Dense(stored) => {
                let (of, bytes) = floats(stored);
                let rows = bytes[of.block_bytes() * input * range.start..].chunks_exact(of.block_bytes() * input);
                out.iter_mut().zip(rows).for_each(|(out, row)| *out = of.dot(row, x));
            }
        }
    }

    /// Rows `range` as f32 into `out`.
    pub fn rows(&self, range: Range<usize>, out: &mut [f32]) {
        let [_, input] = self.dims;
        match &self.stored {
            Stored::Quantized(matrix) => matrix.dequantize_rows(range, out),
            Stored::Dense(stored) => {
                let (of, bytes) = floats(stored);
                of.unpack(&bytes[of.block_bytes() * input * range.start..], out);
            }
        }
    }
}

/// The dtype and bytes of a dense matrix.
fn floats(stored: &FlexTensor) -> (QuantType, &[u8]) {
    match stored.dtype() {
        DType::BF16 => (QuantType::BF16, bytemuck::cast_slice(stored.as_slice::<bf16>().unwrap_or_default())),
        DType::F16 => (QuantType::F16, bytemuck::cast_slice(stored.as_slice::<f16>().unwrap_or_default())),
        _ => (QuantType::F32, bytemuck::cast_slice(stored.as_slice::<f32>().unwrap_or_default())),
    }
}
