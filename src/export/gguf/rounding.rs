//! What rounding does to a matrix before it is done.

use super::budget::candidates;
use crate::error::{Error, Kind, Result};
use crate::quant::{QuantType, QuantizedMatrix, Unusable};
use rayon::prelude::*;

/// The most numbers of a matrix by which its types are compared.
const SAMPLE: usize = 1 << 20;

/// A matrix and how much each of its inputs counts, if that is known.
#[derive(Debug, Clone, Copy)]
pub struct Rounded<'a> {
    /// Row after row.
    pub weight: &'a [f32],
    /// Rows and columns.
    pub dims: [usize; 2],
    /// The mean square of what comes into each column.
    pub importance: Option<&'a [f32]>,
}

/// About four bits: enough to be seen above what f32 rounds, little enough for effects to add up. `None` where rows are no
/// blocks of such a type.
pub fn trial(columns: usize) -> Option<QuantType> {
    candidates(columns).into_iter().find(|of| matches!(of, QuantType::Q4K | QuantType::IQ4NL))
}

/// The fewest bytes that a matrix may have.
pub fn smallest([rows, columns]: [usize; 2]) -> u64 {
    let sizes = candidates(columns).into_iter().filter_map(|of| of.bytes_of(rows * columns));
    sizes.min().unwrap_or(usize::MAX) as u64
}

/// What is taken for the harm of a matrix that was not measured: it stays at eight bits or more.
pub fn unmeasured(of: QuantType) -> f64 {
    match of {
        QuantType::BF16 => 0.0,
        QuantType::Q8_0 => 1e-9,
        _ => 1e9,
    }
}

/// Rows of `row` values in blocks, on all threads.
///
/// # Errors
/// The first value that does not fit.
pub(super) fn rows_of(
    of: QuantType,
    row: usize,
    values: &[f32],
    importance: Option<&[f32]>,
) -> Result<Vec<u8>, Unusable> {
    /// Numbers that a thread takes at a time, about.
    const CHUNK: usize = 1 << 15;
    let rows = (CHUNK / row).max(1);
    let bytes = row / of.block_size() * of.block_bytes();
    let mut out = vec![0; values.len() / row * bytes];
    let chunks = out.par_chunks_mut(bytes * rows).zip(values.par_chunks(row * rows)).enumerate();
    chunks.try_for_each(|(chunk, (out, values))| {
        of.quantize(values, importance, out).map_err(|found| found.after(chunk * rows * row))
    })?;
    Ok(out)
}

impl Rounded<'_> {
    /// The matrix in blocks.
    ///
    /// # Errors
    /// A number that does not fit.
    pub fn to(&self, of: QuantType) -> Result<QuantizedMatrix> {
        let bytes = rows_of(of, self.dims[1], self.weight, self.importance).map_err(|found| {
            Error::new(Kind::Weights, format!("a number is {:e}, which no block holds", found.value))
        })?;
        QuantizedMatrix::blocks(self.dims, of, bytes.into())
    }

    /// Some of its rows, enough to tell types apart, row after row.
    pub fn sample(&self) -> Vec<f32> {
        let [rows, columns] = self.dims;
        let step = (rows * columns).div_ceil(SAMPLE).max(1);
        self.weight.chunks_exact(columns).step_by(step).flatten().copied().collect()
    }

    /// The squared error of all numbers, each weighed by how much its input counts.
    ///
    /// # Errors
    /// A number that does not fit.
    pub fn error(&self, of: QuantType) -> Result<f64> {
        let [rows, columns] = self.dims;
        let mut back = vec![0f32; self.weight.len()];
        self.to(of)?.dequantize_rows_parallel(0..rows, &mut back);
        let of_row = |(back, row): (&[f32], &[f32])| -> f64 {
            let off = back.iter().zip(row).enumerate().map(|(column, (back, x))| {
                let off = f64::from(back - x);
                off * off * self.importance.map_or(1.0, |importance| f64::from(importance[column]))
            });
            off.sum()
        };
        // Summed in order, so that it is the same on any number of threads.
        let all: Vec<f64> = back.par_chunks(columns).zip(self.weight.par_chunks(columns)).map(of_row).collect();
        Ok(all.iter().sum())
    }
}
