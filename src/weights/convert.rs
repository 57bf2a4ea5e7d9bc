//! From a tensor's stored bytes to a [`HostTensor`], on all threads and in slabs.

use super::mapped::Mapped;
use super::{HostData, HostDtype, HostTensor, wrong};
use crate::error::{Error, Place, Result};
use crate::quant::{QuantType, QuantizedMatrix, Unusable};
use half::slice::HalfFloatSliceExt;
use half::vec::{HalfBitsVecExt, HalfFloatVecExt};
use half::{bf16, f16};
use rayon::prelude::*;
use std::ops::Range;
use std::sync::Arc;

/// Elements after which the file's pages are given back: at most 32 MB of the file are held beside the result.
pub(super) const SLAB: usize = 1 << 23;
/// Elements that a thread takes at a time; like [`SLAB`] a multiple of every block size.
pub(super) const CHUNK: usize = 1 << 15;
/// Elements that are unpacked to `f32` before they are narrowed; on the stack.
const SCRATCH: usize = 1 << 12;

/// A tensor in a mapped file: `bytes` is in the file and holds exactly the elements of `shape`.
pub(super) struct Stored<'a> {
    pub(super) name: &'a str,
    pub(super) file: &'a Arc<Mapped>,
    pub(super) bytes: Range<usize>,
    pub(super) of: QuantType,
    pub(super) shape: &'a [usize],
    /// Whether 1 is subtracted, in `f32`: GGUF files hold norms as `1 + w`.
    pub(super) minus_one: bool,
    /// Whether a number that is no weight (see [`Unusable`]) is refused while it is read.
    pub(super) refuse_unusable: bool,
}

impl Stored<'_> {
    /// Reads the tensor, held as `held`; `None` as stored, with blocks as BF16.
    ///
    /// # Numerics
    /// Widening is exact. Narrowing rounds to nearest, ties to even. Equal types are copied bit for bit.
    ///
    /// # Errors
    /// If a finite value is too large for F16, or a number is no weight.
    pub(super) fn read(&self, held: Option<HostDtype>) -> Result<HostTensor> {
        let elements = self.shape.iter().product();
        let data = match held.unwrap_or(HostDtype::of_stored(self.of)) {
            HostDtype::F32 => {
                let mut out = vec![0f32; elements];
                self.fill(0, &mut out, |bytes, out| self.widen(bytes, out))?;
                HostData::F32(out)
            }
            HostDtype::BF16 => {
                let mut out = vec![0u16; elements].reinterpret_into::<bf16>();
                if self.of == QuantType::BF16 && !self.minus_one {
                    self.fill(0, &mut out, copy)?;
                } else {
                    self.fill(0, &mut out, |bytes, out| self.narrow(bytes, out, narrow_bf16))?;
                }
                HostData::BF16(out)
            }
            HostDtype::F16 => {
                let mut out = vec![0u16; elements].reinterpret_into::<f16>();
                if self.of == QuantType::F16 && !self.minus_one {
                    self.fill(0, &mut out, copy)?;
                } else {
                    self.fill(0, &mut out, |bytes, out| self.narrow(bytes, out, narrow_f16))?;
                }
                HostData::F16(out)
            }
        };
        Ok(HostTensor { shape: self.shape.to_vec(), data })
    }

    /// Widens the elements from `first` on, as many as `out` has; both are at the bounds of blocks.
    ///
    /// # Errors
    /// As [`Stored::read`].
    pub(super) fn read_from(&self, first: usize, out: &mut [f32]) -> Result<()> {
        self.fill(first, out, |bytes, out| self.widen(bytes, out))
    }

    /// Fills `out` slab by slab, each on all threads, giving back the file's pages behind it.
    fn fill<T: Send>(
        &self,
        first: usize,
        out: &mut [T],
        convert: impl Fn(&[u8], &mut [T]) -> Result<()> + Sync,
    ) -> Result<()> {
        let bytes_of = |elements| self.bytes_of(elements);
        let run = bytes_of(first)..bytes_of(first + out.len());
        let mut at = self.bytes.start + run.start;
        let stored = self.stored().get(run).unwrap_or_default();
        let slabs = stored.chunks(bytes_of(SLAB)).zip(out.chunks_mut(SLAB));
        for (stored, out) in slabs {
            let before = self.elements_of(at - self.bytes.start);
            stored
                .par_chunks(bytes_of(CHUNK))
                .zip(out.par_chunks_mut(CHUNK))
                .enumerate()
                .try_for_each(|(chunk, (stored, out))| {
                    self.check(stored, before + chunk * CHUNK)?;
                    convert(stored, out)
                })
                .map_err(|e| e.or_at(Place::Path(self.file.path().into())))?;
            self.file.release(at..at + stored.len());
            at += stored.len();
        }
        Ok(())
    }

    /// Whether another tensor of this shape holds the same numbers, however each is stored.
    ///
    /// # Errors
    /// If one is not whole blocks.
    pub(super) fn is_same(&self, other: &Stored) -> Result<bool> {
        let same_form = self.of == other.of && self.minus_one == other.minus_one;
        let elements: usize = self.shape.iter().product();
        for start in (0..elements).step_by(SLAB) {
            let end = elements.min(start + SLAB);
            let [ours, theirs] = [self, other].map(|tensor| {
                let bytes = tensor.bytes_of(start)..tensor.bytes_of(end);
                (tensor.stored().get(bytes.clone()).unwrap_or_default(), bytes)
            });
            let equal = ours.0.par_chunks(self.bytes_of(CHUNK)).zip(theirs.0.par_chunks(other.bytes_of(CHUNK)));
            let equal = equal.map(|(ours, theirs)| {
                if same_form {
                    return Ok(ours == theirs);
                }
                let mut values = [vec![0.0; self.elements_of(ours.len())], vec![0.0; other.elements_of(theirs.len())]];
                self.widen(ours, &mut values[0])?;
                other.widen(theirs, &mut values[1])?;
                Ok(values[0] == values[1])
            });
            let equal = equal.try_reduce(|| true, |one, two| Ok(one && two))?;
            for (tensor, (_, bytes)) in [(self, ours), (other, theirs)] {
                tensor.file.release(tensor.bytes.start + bytes.start..tensor.bytes.start + bytes.end);
            }
            if !equal {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The tensor's bytes.
    pub(super) fn stored(&self) -> &[u8] {
        self.file.bytes().get(self.bytes.clone()).unwrap_or_default()
    }

    /// Refuses numbers that are no weights in a run of whole blocks, which begins at this element of the tensor.
    pub(super) fn check(&self, stored: &[u8], element: usize) -> Result<()> {
        let found = if self.refuse_unusable { self.of.first_unusable(stored) } else { None };
        match found {
            None => Ok(()),
            Some(found) => Err(unusable(self.name, self.shape, found.after(element)).at_path(self.file.path())),
        }
    }

    /// Elements in so many bytes, which are whole blocks.
    pub(super) fn elements_of(&self, bytes: usize) -> usize {
        bytes / self.of.block_bytes() * self.of.block_size()
    }

    /// Bytes of so many elements, which are whole blocks.
    pub(super) fn bytes_of(&self, elements: usize) -> usize {
        elements / self.of.block_size() * self.of.block_bytes()
    }

    /// Unpacks a run of whole blocks.
    pub(super) fn widen(&self, bytes: &[u8], out: &mut [f32]) -> Result<()> {
        self.of.dequantize(bytes, out)?;
        if self.minus_one {
            for value in out {
                *value -= 1.0;
            }
        }
        Ok(())
    }

    fn narrow<T>(&self, bytes: &[u8], out: &mut [T], narrow: impl Fn(&[f32], &mut [T]) -> bool) -> Result<()> {
        let mut scratch = [0f32; SCRATCH];
        let scratch_bytes = SCRATCH / self.of.block_size() * self.of.block_bytes();
        for (bytes, out) in bytes.chunks(scratch_bytes).zip(out.chunks_mut(SCRATCH)) {
            let scratch = &mut scratch[..out.len()];
            self.widen(bytes, scratch)?;
            if !narrow(scratch, out) {
                return Err(too_large_for_f16(self.name));
            }
        }
        Ok(())
    }
}

/// A quantised matrix as plain floats; `None` as bf16.
pub(super) fn unpack(matrix: &QuantizedMatrix, held: Option<HostDtype>) -> Result<HostTensor> {
    let [rows, cols] = matrix.dims();
    let mut values = vec![0f32; rows * cols];
    matrix.dequantize_rows_parallel(0..rows, &mut values);
    let data = match held.unwrap_or(HostDtype::BF16) {
        HostDtype::F32 => HostData::F32(values),
        HostDtype::BF16 => HostData::BF16(Vec::from_f32_slice(&values)),
        HostDtype::F16 => {
            let mut out = vec![f16::ZERO; values.len()];
            if !narrow_f16(&values, &mut out) {
                return Err(too_large_for_f16(matrix.kind()));
            }
            HostData::F16(out)
        }
    };
    Ok(HostTensor { shape: vec![rows, cols], data })
}

/// The problem of a number that is no weight, in the tensor of this name and shape.
pub(super) fn unusable(name: &str, shape: &[usize], Unusable { element, value, is_scale }: Unusable) -> Error {
    let mut rest = element;
    let mut place: Vec<usize> = shape.iter().rev().map(|&size| (rest % size.max(1), rest /= size.max(1)).0).collect();
    place.reverse();
    let what = match (is_scale, value.is_finite()) {
        (true, _) => format!("the block at {place:?} has the scale {value}"),
        (false, false) => format!("the number at {place:?} is {value}"),
        (false, true) => format!("the number at {place:?} is {value:e}, which is no weight"),
    };
    wrong(format!("tensor `{name}`: {what}"))
        .hint("the file is damaged, or the run that wrote it had diverged: fetch the model again")
}

fn too_large_for_f16(name: &str) -> Error {
    wrong(format!("tensor `{name}` has values that f16 cannot hold (beyond 65,504)"))
        .hint("hold the weights as bf16 or f32")
}

fn copy<T: bytemuck::Pod>(bytes: &[u8], out: &mut [T]) -> Result<()> {
    bytemuck::cast_slice_mut(out).copy_from_slice(bytes);
    Ok(())
}

fn narrow_bf16(values: &[f32], out: &mut [bf16]) -> bool {
    out.convert_from_f32_slice(values);
    true
}

/// False if a finite value became infinite.
fn narrow_f16(values: &[f32], out: &mut [f16]) -> bool {
    out.convert_from_f32_slice(values);
    values.iter().zip(out).all(|(value, half)| half.is_finite() || !value.is_finite())
}
