//! A weight's rows as slices of f32, for the kernels of the CPU.

use super::{Held, Weight};
use crate::ops::cpu::bf16::{self as rounding, Right};
use crate::ops::traffic::{read_back, upload};
use crate::quant::simd::dot;
use crate::quant::{FloatRows, PlainRows, QuantType, QuantizedMatrix, Storage};
use burn::backend::flex::FlexTensor;
use burn::tensor::{DType, Device, FloatDType, Tensor, TensorData};
use half::{bf16, f16};
use rayon::prelude::*;
use std::cell::RefCell;
use std::ops::Range;

/// Bytes of f32 that are unpacked at once: small enough to stay in a core's cache until they are used.
const TILE_BYTES: usize = 1 << 20;

impl Weight {
    /// Rows of inputs, and fewer, for which to pack a weight as a product of large matrices does takes longer than it saves: what is
    /// done with them in [`inference`](crate::ops::inference()).
    pub(in crate::ops) const FEW_ROWS: usize = 48;

    /// Its rows as f32 without unpacking, where they are held so in main memory.
    fn as_f32(&self) -> Option<&[f32]> {
        match &*self.held {
            Held::CpuFloats(floats) => floats.as_slice::<f32>(),
            _ => None,
        }
    }

    /// Calls `visit` with runs of rows, in order, each unpacked to f32. All rows at once where they are held so.
    pub(in crate::ops) fn tiles(&self, visit: impl FnMut(Range<usize>, &[f32])) {
        let [out, input] = self.dims;
        match self.as_f32() {
            Some(_) => self.tiles_of(out, visit),
            None => self.tiles_of((TILE_BYTES / (4 * input.max(1))).clamp(16, 4096) / 16 * 16, visit),
        }
    }

    /// As [`Weight::tiles`], with runs of `rows` rows.
    pub(in crate::ops) fn tiles_of(&self, rows: usize, mut visit: impl FnMut(Range<usize>, &[f32])) {
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

    /// Whether its products round their factors to bf16 on the CPU.
    pub(in crate::ops) fn rounds(&self) -> bool {
        self.is_on_cpu() && self.compute_dtype == FloatDType::BF16
    }

    /// Calls `visit` with runs of rows in bf16, in order, each of `rows` rows or a multiple of them that is small enough;
    /// of all rows at once where they are held so.
    pub(in crate::ops) fn rounded_runs(&self, rows: usize, visit: impl FnMut(Range<usize>, Right)) {
        let [out, input] = self.dims;
        let at_once = match self.as_bf16() {
            Some(_) => out,
            None => (TILE_BYTES / (rows * input).max(1)).max(1) * rows,
        };
        self.rounded_tiles(at_once, visit);
    }

    /// As [`Weight::rounded_runs`], with runs of `rows` rows.
    pub(in crate::ops) fn rounded_tiles(&self, rows: usize, mut visit: impl FnMut(Range<usize>, Right)) {
        thread_local! {
            static TILE: RefCell<Vec<u16>> = const { RefCell::new(Vec::new()) };
        }
        let [out, input] = self.dims;
        let ranges = (0..out).step_by(rows.max(1)).map(|start| start..(start + rows.max(1)).min(out));
        if let Some(values) = self.as_bf16() {
            for range in ranges {
                let values = &values[range.start * input..range.end * input];
                visit(range.clone(), Right { values, rows: range.len(), width: input });
            }
            return;
        }
        let mut tile = TILE.take();
        for range in ranges {
            tile.resize(range.len() * input, 0);
            self.unpack_rounded(range.clone(), &mut tile);
            visit(range.clone(), Right { values: &tile, rows: range.len(), width: input });
        }
        TILE.set(tile);
    }

    /// Its rows as bf16 without rounding, where they are held so in main memory.
    fn as_bf16(&self) -> Option<&[u16]> {
        match &*self.held {
            Held::CpuFloats(floats) => floats.as_slice::<bf16>().map(bytemuck::cast_slice),
            _ => None,
        }
    }

    /// Rows `range` rounded to bf16 into `out`, on all threads.
    fn unpack_rounded(&self, range: Range<usize>, out: &mut [u16]) {
        const ROWS: usize = 16;
        thread_local! {
            static ROWS_OF_F32: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
        }
        let [_, input] = self.dims;
        out.par_chunks_mut((ROWS * input).max(1)).enumerate().for_each(|(chunk, out)| {
            ROWS_OF_F32.with_borrow_mut(|rows| {
                rows.resize(out.len(), 0.0);
                let first = range.start + chunk * ROWS;
                self.unpack_here(first..first + out.len() / input, rows);
                rounding::round(rows, 0.0, out);
            });
        });
    }

    /// Rows `range` as an f32 tensor on a device, unpacked in main memory.
    pub(super) fn unpacked(&self, range: Range<usize>, device: &Device) -> Tensor<2> {
        let shape = [range.len(), self.dims[1]];
        let mut values = vec![0.0; shape[0] * shape[1]];
        self.unpack(range, &mut values);
        upload(TensorData::new(values, shape), device)
    }

    /// Rows `range` as f32 into `out`, on all threads.
    fn unpack(&self, range: Range<usize>, out: &mut [f32]) {
        const ROWS: usize = 16;
        let [_, input] = self.dims;
        out.par_chunks_mut(ROWS * input).enumerate().for_each(|(chunk, out)| {
            let first = range.start + chunk * ROWS;
            self.unpack_here(first..first + out.len() / input, out);
        });
    }

    /// The rows with these indices as f32, one after the other.
    pub(in crate::ops) fn selected(&self, indices: &[u32]) -> Vec<f32> {
        let [_, input] = self.dims;
        let mut out = vec![0.0; indices.len() * input];
        out.par_chunks_exact_mut(input.max(1)).zip(indices).for_each(|(out, &index)| {
            self.unpack_here(index as usize..index as usize + 1, out);
        });
        out
    }

    /// How many rows of inputs, and fewer, are multiplied as each would be alone, bit for bit: so few that a product waits for the
    /// weight to arrive, and takes less than unpacking it. They are more in blocks, whose codes are taken out once for eight, and still
    /// more of these in [`inference`](crate::ops::inference()).
    pub fn rows_alone(&self) -> usize {
        match &*self.held {
            _ if self.rounding_inputs().is_some() => usize::MAX,
            _ if self.is_in_blocks() => 8,
            Held::CpuCompressed(_) | Held::CpuFloats(_) => 3,
            _ => 0,
        }
    }

    /// Whether it is held in blocks of codes in main memory.
    pub(in crate::ops) fn is_in_blocks(&self) -> bool {
        matches!(&*self.held, Held::CpuCompressed(matrix) if matches!(matrix.storage(), Storage::Blocks(of, _) if !of.is_float()))
    }

    /// The products of rows `range` with inputs, on this thread, without unpacking them.
    ///
    /// # Shapes
    /// - `x`: `[n, in]`
    /// - `out`: `[n, range.len()]`
    pub(in crate::ops) fn dot_rows(&self, range: Range<usize>, x: &PlainRows, out: &mut [f32]) {
        let [_, input] = self.dims;
        let outputs = range.len().max(1);
        let each = |out: &mut [f32], dot: &dyn Fn(&[f32], usize) -> f32| {
            for (x, out) in x.rows().zip(out.chunks_exact_mut(outputs)) {
                out.iter_mut().enumerate().for_each(|(row, out)| *out = dot(x, row));
            }
        };
        match &*self.held {
            Held::CpuCompressed(matrix) | Held::Away(matrix, _) => matrix.dot_rows(range, x, out),
            Held::CpuFloats(floats) => {
                let (of, bytes) = stored(floats);
                let row_bytes = of.block_bytes() * input;
                let bytes = &bytes[row_bytes * range.start..];
                each(out, &|x, row| of.dot(&bytes[row_bytes * row..row_bytes * (row + 1)], x));
            }
            _ => {
                let values = self.downloaded(range);
                each(out, &|x, row| dot(&values[input * row..input * (row + 1)], x));
            }
        }
    }

    /// As [`Weight::dot_rows`], of rows that are unpacked first.
    pub(in crate::ops) fn times_floats(&self, range: Range<usize>, x: &FloatRows, out: &mut [f32]) {
        // Rows that lie in the nearest caches until they are used.
        const ROWS: usize = 8;
        thread_local! {
            static UNPACKED: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
        }
        let [_, input] = self.dims;
        if let Some(all) = self.as_f32() {
            return x.times(&all[range.start * input..range.end * input], 0, range.len(), out);
        }
        UNPACKED.with_borrow_mut(|unpacked| {
            unpacked.resize(ROWS * input, 0.0);
            for first in range.clone().step_by(ROWS) {
                let rows = first..range.end.min(first + ROWS);
                let unpacked = &mut unpacked[..rows.len() * input];
                self.unpack_here(rows, unpacked);
                x.times(unpacked, first - range.start, range.len(), out);
            }
        });
    }

    /// Its matrix of signed bytes, where the inputs of products are rounded.
    pub(in crate::ops) fn rounding_inputs(&self) -> Option<&QuantizedMatrix> {
        match &*self.held {
            Held::CpuCompressed(matrix) if self.rounds_inputs && matrix.has_codes() => Some(matrix),
            _ => None,
        }
    }

    /// Rows `range` as f32 into `out`, on this thread.
    fn unpack_here(&self, range: Range<usize>, out: &mut [f32]) {
        let [_, input] = self.dims;
        match &*self.held {
            Held::CpuCompressed(matrix) | Held::Away(matrix, _) => matrix.dequantize_rows(range, out),
            Held::CpuFloats(floats) => {
                let (of, bytes) = stored(floats);
                of.unpack(&bytes[of.block_bytes() * input * range.start..], out);
            }
            _ => out.copy_from_slice(&self.downloaded(range)),
        }
    }

    /// Rows `range` of what is on another device.
    fn downloaded(&self, range: Range<usize>) -> Vec<f32> {
        read_back(self.rows(range)).iter().collect()
    }
}

/// The dtype and bytes of plain floats.
fn stored(floats: &FlexTensor) -> (QuantType, &[u8]) {
    match floats.dtype() {
        DType::BF16 => (QuantType::BF16, bytemuck::cast_slice(floats.as_slice::<bf16>().unwrap_or_default())),
        DType::F16 => (QuantType::F16, bytemuck::cast_slice(floats.as_slice::<f16>().unwrap_or_default())),
        _ => (QuantType::F32, bytemuck::cast_slice(floats.as_slice::<f32>().unwrap_or_default())),
    }
}
