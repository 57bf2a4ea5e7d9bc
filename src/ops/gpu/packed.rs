//! Quantised matrices in device memory, in their stored bytes.

mod blocks;
mod bytes;
mod nf4;

use super::{CubeTensor, ENABLED, Numbers, UNITS, buffer, empty_of, somewhere};
use crate::quant::{Absmax, QuantType, QuantizedMatrix, Storage, nf4 as format};
use burn::backend::Cube;
use burn::backend::cubecl::dtype_to_storage_type;
use burn::tensor::{DType, Device, FloatDType, Tensor};
use cubecl::ir::ElemType;
use cubecl::prelude::*;
use std::ops::Range;

/// A matrix `[rows, cols]` that stays in its stored form on a device, and is unpacked by runs of rows.
#[derive(Debug, Clone)]
pub struct Packed {
    form: Form,
    cols: usize,
    /// Four bytes of codes or blocks each.
    words: Numbers,
    /// Four bytes of quantised maxima each; one 0 where there are none.
    maxima: Numbers,
    /// Scales and tables, as the form has them; one 0 where there are none.
    floats: Numbers,
    /// Some tensor of the same device.
    beside: CubeTensor,
}

/// How the bytes are to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Form {
    /// `floats`: the scale of each row.
    Int8,
    /// `floats`: the 16 values, then the maxima.
    Nf4,
    /// `floats`: the 16 values, the 256 of the maxima's map, their offset, then their scales.
    Nf4Double,
    /// As in a GGUF file.
    Blocks(QuantType),
}

impl Packed {
    /// Uploads a matrix; `None` where the device has no kernels of ours, or no buffers of that size.
    pub fn new(matrix: &QuantizedMatrix, device: &Device) -> Option<Self> {
        let beside = somewhere(device)?;
        let [_, cols] = matrix.dims();
        let fits = matrix.bytes() <= beside.client.properties().memory.max_page_size;
        if !ENABLED || !fits {
            return None;
        }
        // It stays for as long as its model, and lies by itself: else the largest of it decides what all else is carved from.
        let upload =
            |bytes: &[u8]| beside.client.memory_persistent_allocation(bytes, |bytes| Numbers::upload(bytes, &beside));
        let floats = |parts: &[&[f32]]| upload(bytemuck::cast_slice(&parts.concat()));
        let (form, words, maxima, floats) = match matrix.storage() {
            Storage::Blocks(of, bytes) => (Form::Blocks(*of), upload(bytes), upload(&[]), floats(&[])),
            Storage::Int8(codes, scales) => {
                (Form::Int8, upload(bytemuck::cast_slice(codes)), upload(&[]), floats(&[scales]))
            }
            Storage::Nf4(codes, Absmax::Plain(maxima)) => {
                (Form::Nf4, upload(codes), upload(&[]), floats(&[&format::VALUES, maxima]))
            }
            Storage::Nf4(codes, Absmax::Double(double)) => {
                let tables = floats(&[&format::VALUES, &double.map[..], &[double.offset], &double.scales]);
                (Form::Nf4Double, upload(codes), upload(&double.codes), tables)
            }
        };
        Some(Packed { form, cols, words, maxima, floats, beside })
    }

    /// Rows `range` in f32, or rounded to bf16 or f16.
    pub fn rows(&self, range: Range<usize>, dtype: FloatDType) -> Tensor<2> {
        self.unpack(range.start, range.len(), None, dtype.into())
    }

    /// The rows with these indices in f32.
    pub fn select(&self, indices: &[u32]) -> Tensor<2> {
        let chosen = Numbers::upload(bytemuck::cast_slice(indices), &self.beside);
        self.unpack(0, indices.len(), Some(chosen), DType::F32)
    }

    fn unpack(&self, first: usize, rows: usize, chosen: Option<Numbers>, dtype: DType) -> Tensor<2> {
        let out = empty_of(&self.beside, [rows, self.cols], dtype);
        if rows * self.cols > 0 {
            let run = run_for(&out);
            unpack_kernel::launch(
                &out.client,
                cubecl::calculate_cube_count_elemwise(&out.client, rows * self.cols / run, CubeDim::new_1d(UNITS)),
                CubeDim::new_1d(UNITS),
                run,
                self.words.buffer(),
                self.maxima.buffer(),
                self.floats.buffer(),
                chosen.as_ref().unwrap_or(&self.maxima).buffer(),
                buffer(&out),
                first as u32,
                self.cols as u32,
                0,
                self.form,
                chosen.is_some(),
                dtype_to_storage_type(dtype),
            );
        }
        Tensor::from_primitive::<Cube>(out)
    }
}

/// Elements that a unit unpacks and writes at once: as many as a device stores at once, where rows are multiples of that. So they are of
/// one row, and of one block where blocks are more than an element.
fn run_for(out: &CubeTensor) -> usize {
    const LONGEST: usize = 8;
    let cols = out.meta.shape()[1];
    let stored = out.client.io_optimized_vector_sizes(out.dtype.size());
    stored.filter(|run| *run <= LONGEST && cols.is_multiple_of(*run)).max().unwrap_or(1)
}

/// Unpacks rows from `first` on, or the `chosen` ones: a unit per run of `N` elements.
///
/// # Numerics
/// The same bits as the CPU's, whether or not a compiler fuses products and sums: in every block type the product is
/// exact (a scale has 11 bits, what it is multiplied with at most 13), and the maxima of NF4 keep the two apart by
/// `zero`, which is 0.
#[cube(launch)]
#[allow(clippy::too_many_arguments)]
fn unpack_kernel<F: Float, N: Size>(
    words: &[u32],
    maxima: &[u32],
    floats: &[f32],
    chosen: &[u32],
    out: &mut [Vector<F, N>],
    first: u32,
    cols: u32,
    zero: u32,
    #[comptime] form: Form,
    // Otherwise `chosen` is not read.
    #[comptime] is_chosen: bool,
    #[define(F)] _dtype: ElemType,
) {
    if ABSOLUTE_POS < out.len() {
        let runs = cols as usize / N::value();
        let mut row = first as usize + ABSOLUTE_POS / runs;
        if is_chosen {
            row = chosen[ABSOLUTE_POS / runs] as usize;
        }
        let at = row * cols as usize + ABSOLUTE_POS % runs * N::value();
        let mut values = Vector::<F, N>::empty();
        match form {
            Form::Nf4 | Form::Nf4Double => {
                let maximum = match form {
                    Form::Nf4 => nf4::maximum(floats, at),
                    _ => nf4::double_maximum(maxima, floats, zero, at),
                };
                let codes = nf4::codes(words, at);
                #[unroll]
                for i in 0..N::value() {
                    values.insert(i, F::cast_from(nf4::value(codes, floats, at, i, N::value()) * maximum));
                }
            }
            Form::Int8 => {
                let scale = floats[row];
                #[unroll]
                for i in 0..N::value() {
                    values.insert(i, F::cast_from(bytes::signed(words, at + i) * scale));
                }
            }
            Form::Blocks(of) =>
            {
                #[unroll]
                for i in 0..N::value() {
                    values.insert(i, F::cast_from(blocks::element(words, at + i, of)));
                }
            }
        }
        out[ABSOLUTE_POS] = values;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device;
    use cubecl::MemoryScope;

    #[test]
    fn what_stays_lies_by_itself() {
        const DIMS: [usize; 2] = [256, 512];
        let matrix = QuantizedMatrix::int8(DIMS, vec![1; 256 * 512].into(), vec![1.0; 256].into()).unwrap();
        for found in device::all() {
            let Some(beside) = somewhere(&found.device) else { continue };
            // Of this thread, which nothing else uses.
            let apart = || {
                let report = beside.client.memory_report(MemoryScope::CurrentStream);
                report.streams.iter().map(|stream| stream.pools.persistent.usage.bytes_in_use).sum::<u64>()
            };
            let before = apart();
            let packed = Packed::new(&matrix, &found.device).unwrap();
            assert!(apart() - before >= matrix.bytes(), "{}", found.name());
            let rows = packed.rows(0..2, FloatDType::F32).into_data();
            assert!(rows.iter::<f32>().all(|value| value == 1.0));
        }
    }
}
