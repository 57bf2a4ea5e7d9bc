//! Matrices that bitsandbytes stored as NF4 in safetensors files, as transformers and Unsloth save them.
//!
//! Beside `X.weight`, whose bytes are the packed codes, lie `X.weight.absmax`, `X.weight.quant_map`, with quantised
//! scales also `X.weight.nested_absmax` and `X.weight.nested_quant_map`, and `X.weight.quant_state.bitsandbytes__nf4`:
//! JSON with the matrix's own shape.

use super::convert::unusable;
use super::safetensors_file::{Entry, SafetensorsFile};
use super::{DAMAGED, wrong};
use crate::error::{Error, Result};
use crate::quant::absmax::{DoubleQuantized, NESTED_BLOCK};
use crate::quant::{Absmax, QuantizedMatrix, SharedBytes, nf4};
use safetensors::Dtype;
use serde::Deserialize;

const NF4_STATE: &str = "quant_state.bitsandbytes__nf4";
const FP4_STATE: &str = "quant_state.bitsandbytes__fp4";
const PARTS: [&str; 6] = ["absmax", "quant_map", "nested_absmax", "nested_quant_map", NF4_STATE, FP4_STATE];

/// What the files say of one packed matrix.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Packed {
    /// Its own shape.
    pub(super) dims: [usize; 2],
    /// The mean of its scales, where they are quantised.
    nested_offset: Option<f32>,
}

/// The JSON of a `quant_state` tensor; its `dtype` only says what the original was.
#[derive(Deserialize)]
struct QuantState {
    quant_type: String,
    blocksize: usize,
    shape: Vec<usize>,
    nested_blocksize: Option<usize>,
    nested_offset: Option<f32>,
}

impl Packed {
    /// Whether a tensor is a part of a packed matrix other than its codes.
    pub(super) fn is_part(name: &str) -> bool {
        PARTS.iter().any(|part| name.strip_suffix(part).is_some_and(|weight| weight.ends_with(".weight.")))
    }

    /// Reads the state of the matrix `name`; `None` if it is not packed.
    ///
    /// # Errors
    /// If it is packed in a form that cannot be read.
    pub(super) fn find(files: &[SafetensorsFile], name: &str) -> Result<Option<Self>> {
        let parts = Parts { files, name };
        if parts.find(FP4_STATE).is_some() {
            return Err(
                parts.wrong("stored as FP4, which cannot be read", "NF4 can: quantise the original model again")
            );
        }
        let Some((file, entry)) = parts.find(NF4_STATE) else { return Ok(None) };
        let bytes = file.share(entry);
        let state: QuantState = serde_json::from_slice(bytes.as_deref().unwrap_or_default())
            .map_err(|e| parts.wrong(&format!("described by JSON that is not valid: {e}"), DAMAGED))?;
        let &[rows, cols] = state.shape.as_slice() else {
            return Err(parts.wrong(&format!("said to be {:?}, which is no matrix", state.shape), DAMAGED));
        };
        if (state.quant_type.as_str(), state.blocksize, state.nested_blocksize.unwrap_or(NESTED_BLOCK))
            != ("nf4", nf4::BLOCK, NESTED_BLOCK)
        {
            let form = format!(
                "stored as {} in blocks of {} (scales in blocks of {})",
                state.quant_type,
                state.blocksize,
                state.nested_blocksize.unwrap_or(NESTED_BLOCK)
            );
            return Err(parts.wrong(&form, "NF4 in blocks of 64, with scales in blocks of 256, can be read"));
        }
        let packed = rows.checked_mul(cols).map(|elements| elements.div_ceil(2));
        if packed.is_none() || packed != parts.find("").map(|(_, entry)| entry.bytes.len()) {
            return Err(parts.wrong(&format!("said to be [{rows}, {cols}], which its bytes are not"), DAMAGED));
        }
        Ok(Some(Packed { dims: [rows, cols], nested_offset: state.nested_offset }))
    }

    /// Whether the scales are quantised.
    pub(super) fn is_double(&self) -> bool {
        self.nested_offset.is_some()
    }

    /// The name of the form, as [`QuantizedMatrix::kind`] has it.
    pub(super) fn kind(&self) -> &'static str {
        if self.is_double() { "NF4_DOUBLE" } else { "NF4" }
    }

    /// The matrix; its codes stay in the file.
    ///
    /// # Errors
    /// If a part is missing, has another size, or holds another map than NF4's.
    pub(super) fn matrix(&self, files: &[SafetensorsFile], name: &str) -> Result<QuantizedMatrix> {
        let parts = Parts { files, name };
        if parts.floats("quant_map")? != nf4::VALUES {
            return Err(parts.wrong("stored with another `quant_map` than NF4's", DAMAGED));
        }
        let codes = parts.bytes("", Dtype::U8)?;
        let absmax = match self.nested_offset {
            None => Absmax::Plain(parts.floats("absmax")?.into()),
            Some(offset) => {
                let map = <[f32; 256]>::try_from(parts.floats("nested_quant_map")?)
                    .map_err(|_| parts.wrong("stored with a `nested_quant_map` of another size than 256", DAMAGED))?;
                Absmax::Double(DoubleQuantized {
                    codes: parts.bytes("absmax", Dtype::U8)?,
                    scales: parts.floats("nested_absmax")?.into(),
                    map: map.into(),
                    offset,
                })
            }
        };
        if let Some(found) = absmax.first_unusable(nf4::BLOCK) {
            return Err(parts.locate(unusable(name, &self.dims, found)));
        }
        QuantizedMatrix::nf4(self.dims, codes, absmax)
            .map_err(|e| parts.wrong(&format!("damaged: {}", e.what()), DAMAGED))
    }
}

/// The tensors of one packed matrix, which may lie in several shards.
struct Parts<'a> {
    files: &'a [SafetensorsFile],
    name: &'a str,
}

impl<'a> Parts<'a> {
    fn full_name(&self, part: &str) -> String {
        if part.is_empty() { self.name.to_owned() } else { format!("{}.{part}", self.name) }
    }

    fn find(&self, part: &str) -> Option<(&'a SafetensorsFile, &'a Entry)> {
        let name = self.full_name(part);
        self.files.iter().find_map(|file| file.entry(&name).map(|entry| (file, entry)))
    }

    fn bytes(&self, part: &str, dtype: Dtype) -> Result<SharedBytes> {
        let found = self.find(part).filter(|(_, entry)| entry.dtype == dtype);
        found.and_then(|(file, entry)| file.share(entry)).ok_or_else(|| {
            let name = self.full_name(part);
            self.wrong(&format!("packed, but `{name}` is missing or not of {dtype}"), DAMAGED)
        })
    }

    fn floats(&self, part: &str) -> Result<Vec<f32>> {
        let bytes = self.bytes(part, Dtype::F32)?;
        Ok(bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect())
    }

    fn wrong(&self, what: &str, hint: &str) -> Error {
        self.locate(wrong(format!("tensor `{}` is {what}", self.name)).hint(hint))
    }

    fn locate(&self, error: Error) -> Error {
        match self.find("") {
            Some((file, _)) => file.locate(error),
            None => error,
        }
    }
}
