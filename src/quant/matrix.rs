//! A frozen matrix in a compressed form, unpacked row by row where it is used.

use super::absmax::{self, Absmax, DoubleQuantized};
use super::gguf_blocks::{self, UNIT};
use super::{PlainRows, QuantType, RoundedRows, SharedBytes, int8, nf4, simd};
use crate::error::{Error, Kind, Result};
use rayon::prelude::*;
use std::cell::RefCell;
use std::ops::Range;
use std::sync::Arc;

/// A matrix `[rows, cols]` in main memory or in a mapped file, in one of the forms of [`Storage`]; cheap to clone.
///
/// Sizes are checked when it is made, so that rows can be unpacked without a way to fail.
#[derive(Debug, Clone)]
pub struct QuantizedMatrix {
    rows: usize,
    cols: usize,
    storage: Storage,
}

/// How a [`QuantizedMatrix`] is stored.
#[derive(Debug, Clone)]
pub enum Storage {
    /// As in a GGUF file (blocks or plain floats), row after row.
    Blocks(QuantType, SharedBytes),
    /// Signed bytes, and the scale of each row.
    Int8(Arc<[i8]>, Arc<[f32]>),
    /// Two 4-bit codes a byte, and the absolute maximum of each 64 weights.
    Nf4(SharedBytes, Absmax),
}

impl QuantizedMatrix {
    /// Wraps bytes that hold the rows in the form `of`; a row is whole blocks.
    ///
    /// # Errors
    /// If the bytes are not exactly those of the matrix.
    pub fn blocks([rows, cols]: [usize; 2], of: QuantType, bytes: SharedBytes) -> Result<Self> {
        let expected = of.bytes_of(cols).and_then(|row| row.checked_mul(rows));
        Self::checked([rows, cols], expected == Some(bytes.len()), Storage::Blocks(of, bytes))
    }

    /// Wraps signed bytes and the scale of each row.
    ///
    /// # Errors
    /// If their numbers are not those of the matrix.
    pub fn int8([rows, cols]: [usize; 2], codes: Arc<[i8]>, scales: Arc<[f32]>) -> Result<Self> {
        let fits = rows.checked_mul(cols) == Some(codes.len()) && scales.len() == rows;
        Self::checked([rows, cols], fits, Storage::Int8(codes, scales))
    }

    /// Wraps NF4 codes and the maximum of each block.
    ///
    /// # Errors
    /// If their numbers are not those of the matrix.
    pub fn nf4([rows, cols]: [usize; 2], codes: SharedBytes, absmax: Absmax) -> Result<Self> {
        let fits = rows.checked_mul(cols).is_some_and(|n| {
            let nested = match &absmax {
                Absmax::Plain(_) => true,
                Absmax::Double(double) => double.scales.len() == double.codes.len().div_ceil(absmax::NESTED_BLOCK),
            };
            codes.len() == n.div_ceil(2) && absmax.len() == n.div_ceil(nf4::BLOCK) && nested
        });
        Self::checked([rows, cols], fits, Storage::Nf4(codes, absmax))
    }

    fn checked([rows, cols]: [usize; 2], fits: bool, storage: Storage) -> Result<Self> {
        let matrix = QuantizedMatrix { rows, cols, storage };
        if fits {
            return Ok(matrix);
        }
        let what = format!("a matrix [{rows}, {cols}] as {} is not stored in {} bytes", matrix.kind(), matrix.bytes());
        Err(Error::new(Kind::Weights, what))
    }

    /// Quantises a matrix to signed bytes, on this thread; `None` if a value is not finite.
    pub fn to_int8(values: &[f32], [rows, cols]: [usize; 2]) -> Option<Self> {
        let mut codes = vec![0; values.len()];
        let mut scales = vec![0.0; rows];
        int8::quantize(values, cols, &mut codes, &mut scales)?;
        Self::int8([rows, cols], codes.into(), scales.into()).ok()
    }

    /// Quantises a matrix to NF4, on this thread, with quantised maxima if `double`; `None` if a value is not finite.
    pub fn to_nf4(values: &[f32], [rows, cols]: [usize; 2], double: bool) -> Option<Self> {
        let mut codes = vec![0; values.len().div_ceil(2)];
        let mut maxima = vec![0.0; values.len().div_ceil(nf4::BLOCK)];
        nf4::quantize(values, &mut codes, &mut maxima)?;
        let absmax = if double { Absmax::Double(DoubleQuantized::new(&maxima)) } else { Absmax::Plain(maxima.into()) };
        Self::nf4([rows, cols], codes.into(), absmax).ok()
    }

    /// `[rows, cols]`.
    pub fn dims(&self) -> [usize; 2] {
        [self.rows, self.cols]
    }

    /// How it is stored, for code that computes on the stored form.
    pub fn storage(&self) -> &Storage {
        &self.storage
    }

    /// The name of its form: `INT8`, `NF4`, `NF4_DOUBLE`, `Q4_K`.
    pub fn kind(&self) -> &'static str {
        match &self.storage {
            Storage::Blocks(of, _) => of.name(),
            Storage::Int8(..) => "INT8",
            Storage::Nf4(_, Absmax::Plain(_)) => "NF4",
            Storage::Nf4(_, Absmax::Double(_)) => "NF4_DOUBLE",
        }
    }

    /// Bytes that it occupies, in memory or in its file.
    pub fn bytes(&self) -> u64 {
        match &self.storage {
            Storage::Blocks(_, bytes) => bytes.len() as u64,
            Storage::Int8(codes, scales) => (codes.len() + 4 * scales.len()) as u64,
            Storage::Nf4(codes, absmax) => codes.len() as u64 + absmax.bytes(),
        }
    }

    /// Unpacks rows, on this thread.
    ///
    /// # Shapes
    /// - `out`: `[rows.len(), cols]`; with another length, or rows beyond the last, what has no place is left out
    pub fn dequantize_rows(&self, rows: Range<usize>, out: &mut [f32]) {
        let start = rows.start.min(self.rows);
        let len = rows.end.min(self.rows).saturating_sub(start).min(out.len() / self.cols.max(1));
        let rows = start..start + len;
        let flat = rows.start * self.cols..rows.end * self.cols;
        let out = &mut out[..flat.len()];
        match &self.storage {
            Storage::Blocks(of, bytes) => {
                let bytes_of = |elements: usize| elements / of.block_size() * of.block_bytes();
                of.unpack(&bytes[bytes_of(flat.start)..bytes_of(flat.end)], out);
            }
            Storage::Int8(codes, scales) => int8::dequantize(&codes[flat], &scales[rows], self.cols, out),
            Storage::Nf4(codes, absmax) => nf4::dequantize(codes, absmax, flat.start, out),
        }
    }

    /// The products of rows with inputs, on this thread, of what [`QuantizedMatrix::dequantize_rows`] would unpack. Those of an
    /// input do not depend on what is beside it.
    ///
    /// # Shapes
    /// - `x`: `[n, cols]`
    /// - `out`: `[n, rows.len()]`; as there, what has no place is left out
    pub fn dot_rows(&self, rows: Range<usize>, x: &PlainRows, out: &mut [f32]) {
        let outputs = rows.len();
        let rows = rows.start.min(self.rows)..rows.end.min(self.rows);
        if outputs == 0 {
            return;
        }
        if let Storage::Blocks(of, bytes) = &self.storage
            && !of.is_float()
        {
            return of.dots(self.stored(*of, bytes, &rows), x, out);
        }
        for (x, out) in x.rows().zip(out.chunks_exact_mut(outputs)) {
            match &self.storage {
                Storage::Blocks(of, bytes) => {
                    let stored = self.stored(*of, bytes, &rows).chunks_exact((self.cols * of.block_bytes()).max(1));
                    out.iter_mut().zip(stored).for_each(|(out, row)| *out = of.dot(row, x));
                }
                Storage::Int8(codes, scales) => {
                    let rows = rows.clone().map(|row| (scales[row], &codes[row * self.cols..(row + 1) * self.cols]));
                    out.iter_mut().zip(rows).for_each(|(out, (scale, codes))| *out = scale * simd::dot_i8(codes, x));
                }
                Storage::Nf4(codes, absmax) => {
                    let starts = rows.clone().map(|row| row * self.cols);
                    out.iter_mut().zip(starts).for_each(|(out, start)| *out = nf4::dot(codes, absmax, start, x));
                }
            }
        }
    }

    /// The bytes of rows.
    fn stored<'a>(&self, of: QuantType, bytes: &'a [u8], rows: &Range<usize>) -> &'a [u8] {
        let row_bytes = self.cols / of.block_size() * of.block_bytes();
        bytes.get(rows.start * row_bytes..rows.end * row_bytes).unwrap_or_default()
    }

    /// Whether its rows are signed bytes with scales, so that [`QuantizedMatrix::times_rounded`] can multiply them.
    pub fn has_codes(&self) -> bool {
        match &self.storage {
            Storage::Blocks(of, _) => !of.is_float(),
            Storage::Int8(..) => true,
            Storage::Nf4(..) => false,
        }
    }

    /// As [`QuantizedMatrix::dot_rows`], of rounded inputs; nothing is done unless the matrix [`QuantizedMatrix::has_codes`].
    ///
    /// # Shapes
    /// - `x`: `[n, cols]`
    /// - `out`: `[n, rows.len()]`; what has no place is left out
    pub fn times_rounded(&self, rows: Range<usize>, x: &RoundedRows, out: &mut [f32]) {
        thread_local! {
            static ROWS: RefCell<Vec<[u8; UNIT]>> = const { RefCell::new(Vec::new()) };
        }
        let outputs = rows.len();
        let rows = rows.start.min(self.rows)..rows.end.min(self.rows);
        match &self.storage {
            Storage::Blocks(of, bytes) if !of.is_float() => of.dots(self.stored(*of, bytes, &rows), x, out),
            Storage::Int8(codes, scales) if outputs > 0 => {
                let units = self.cols.div_ceil(UNIT);
                // Rows that are no whole units get zeros behind them.
                ROWS.with_borrow_mut(|filled| {
                    filled.clear();
                    filled.resize(rows.len() * units, [0; UNIT]);
                    for (filled, row) in filled.chunks_exact_mut(units.max(1)).zip(rows.clone()) {
                        let codes: &[u8] = bytemuck::cast_slice(&codes[row * self.cols..(row + 1) * self.cols]);
                        filled.as_flattened_mut()[..self.cols].copy_from_slice(codes);
                    }
                    gguf_blocks::dots_of_bytes(filled, x, out);
                });
                for out in out.chunks_exact_mut(outputs) {
                    out.iter_mut().zip(&scales[rows.clone()]).for_each(|(out, scale)| *out *= scale);
                }
            }
            Storage::Blocks(..) | Storage::Int8(..) | Storage::Nf4(..) => {}
        }
    }

    /// As [`QuantizedMatrix::dequantize_rows`], on all threads.
    pub fn dequantize_rows_parallel(&self, rows: Range<usize>, out: &mut [f32]) {
        // Rows that one thread takes at a time: what it writes fits its cache.
        let tile = ((1 << 16) / self.cols.max(1)).max(1);
        out.par_chunks_mut(tile * self.cols.max(1)).enumerate().for_each(|(i, out)| {
            let start = rows.start + i * tile;
            self.dequantize_rows(start..rows.end.min(start + tile), out);
        });
    }
}

/// Bytes of a matrix as signed bytes with a scale per row.
pub fn int8_bytes([rows, cols]: [usize; 2]) -> u64 {
    rows as u64 * (cols as u64 + 4)
}

/// Bytes of a matrix as NF4, with quantised maxima if `double`.
pub fn nf4_bytes([rows, cols]: [usize; 2], double: bool) -> u64 {
    let (elements, blocks) = (rows * cols, (rows * cols).div_ceil(nf4::BLOCK));
    elements.div_ceil(2) as u64 + if double { absmax::double_bytes(blocks) } else { absmax::plain_bytes(blocks) }
}

#[cfg(test)]
mod tests;
