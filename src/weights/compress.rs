//! From a tensor's stored bytes to a [`QuantizedMatrix`]: as they are, or quantised slab by slab.

use super::convert::{CHUNK, SLAB, Stored};
use super::wrong;
use crate::error::Result;
use crate::quant::absmax::DoubleQuantized;
use crate::quant::{Absmax, QuantizedMatrix, int8, nf4};
use rayon::prelude::*;
use std::sync::Arc;

impl Stored<'_> {
    /// The matrix as the file has it, not copied.
    ///
    /// Its scales are looked at once, on all threads, which reads the file into the system's cache.
    ///
    /// # Errors
    /// If the tensor is not a matrix, or a number is no weight.
    pub(super) fn share(&self) -> Result<QuantizedMatrix> {
        let mut at = self.bytes.start;
        for slab in self.stored().chunks(self.bytes_of(SLAB)) {
            let before = self.elements_of(at - self.bytes.start);
            let chunks = slab.par_chunks(self.bytes_of(CHUNK)).enumerate();
            chunks.try_for_each(|(chunk, stored)| self.check(stored, before + chunk * CHUNK))?;
            self.file.release(at..at + slab.len());
            at += slab.len();
        }
        let bytes = self.file.share(self.bytes.clone()).unwrap_or_else(|| Vec::new().into());
        QuantizedMatrix::blocks(self.dims()?, self.of, bytes)
    }

    /// The matrix as signed bytes with a scale per row.
    ///
    /// # Errors
    /// If the tensor is not a matrix, or a value is not finite.
    pub(super) fn to_int8(&self) -> Result<QuantizedMatrix> {
        let [rows, cols] = self.dims()?;
        // Zeros where they will stay: a vector that becomes shared is copied, and the largest matrix stood twice.
        let mut codes: Arc<[i8]> = std::iter::repeat_n(0, rows * cols).collect();
        let mut scales = vec![0f32; rows];
        let tile = (CHUNK / cols.max(1)).max(1); // rows at a time
        let outs = Arc::make_mut(&mut codes).chunks_mut((tile * cols).max(1)).zip(scales.chunks_mut(tile)).collect();
        self.each_chunk(tile * cols, outs, |values, (codes, scales)| int8::quantize(values, cols, codes, scales))?;
        QuantizedMatrix::int8([rows, cols], codes, scales.into())
    }

    /// The matrix as NF4, with quantised maxima if `double`.
    ///
    /// # Errors
    /// As [`Stored::to_int8`].
    pub(super) fn to_nf4(&self, double: bool) -> Result<QuantizedMatrix> {
        let [rows, cols] = self.dims()?;
        let mut codes = vec![0u8; (rows * cols).div_ceil(2)];
        let mut maxima = vec![0f32; (rows * cols).div_ceil(nf4::BLOCK)];
        let outs = codes.chunks_mut(CHUNK / 2).zip(maxima.chunks_mut(CHUNK / nf4::BLOCK)).collect();
        self.each_chunk(CHUNK, outs, |values, (codes, maxima)| nf4::quantize(values, codes, maxima))?;
        let absmax = if double { Absmax::Double(DoubleQuantized::new(&maxima)) } else { Absmax::Plain(maxima.into()) };
        QuantizedMatrix::nf4([rows, cols], codes.into(), absmax)
    }

    fn dims(&self) -> Result<[usize; 2]> {
        let dims = self.shape.try_into();
        dims.map_err(|_| wrong(format!("tensor `{}` is no matrix: {:?}", self.name, self.shape)))
    }

    /// Unpacks the tensor in chunks of `len` elements (whole blocks) on all threads, and gives each to `quantize` with
    /// its place among `outs`; `quantize` says `None` of a value that is not finite. File pages are given back slab by
    /// slab.
    fn each_chunk<O: Send>(
        &self,
        len: usize,
        outs: Vec<O>,
        quantize: impl Fn(&[f32], O) -> Option<()> + Sync,
    ) -> Result<()> {
        let chunk_bytes = self.bytes_of(len).max(1);
        let mut outs = outs.into_iter();
        let mut at = self.bytes.start;
        for slab in self.stored().chunks(chunk_bytes * (SLAB / len.max(1)).max(1)) {
            let before = self.elements_of(at - self.bytes.start);
            let chunks: Vec<(&[u8], O)> = slab.chunks(chunk_bytes).zip(outs.by_ref()).collect();
            chunks.into_par_iter().enumerate().try_for_each_init(Vec::new, |values, (chunk, (bytes, out))| {
                self.check(bytes, before + chunk * len)?;
                values.resize(bytes.len() / self.of.block_bytes() * self.of.block_size(), 0.0);
                self.widen(bytes, values)?;
                quantize(values, out).ok_or_else(|| {
                    wrong(format!("tensor `{}` has values that are not finite", self.name))
                        .hint("such weights cannot be quantised, or used: fetch the model again")
                })
            })?;
            self.file.release(at..at + slab.len());
            at += slab.len();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
