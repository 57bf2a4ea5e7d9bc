//! Writing a safetensors file one tensor at a time, whole or not at all.

use crate::atomic;
use crate::error::{Error, Result};
use crate::weights::{HostDtype, HostTensor, wrong};
use serde_json::{Map, Value, json};
use std::collections::HashSet;
use std::io::Write;
use std::path::Path;

/// The metadata that Hugging Face libraries look for.
pub const FORMAT_PT: &[(&str, &str)] = &[("format", "pt")];

/// A tensor to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorSpec {
    /// Its name.
    pub name: String,
    /// The type of its elements.
    pub dtype: HostDtype,
    /// The size of each axis, outermost first.
    pub shape: Vec<usize>,
}

impl TensorSpec {
    /// The spec of a tensor that is there already.
    pub fn of(name: impl Into<String>, tensor: &HostTensor) -> Self {
        TensorSpec { name: name.into(), dtype: tensor.dtype(), shape: tensor.shape.clone() }
    }

    /// Bytes of the tensor.
    ///
    /// # Errors
    /// If the number does not fit.
    pub fn bytes(&self) -> Result<usize> {
        let elements = self.shape.iter().try_fold(1usize, |product, &size| product.checked_mul(size));
        elements
            .and_then(|n| n.checked_mul(self.dtype.bytes()))
            .ok_or_else(|| wrong(format!("tensor `{}`: {:?} is too large", self.name, self.shape)))
    }
}

/// Writes tensors that are in memory already to `path`, sorted by name within each element size.
///
/// # Errors
/// If a name comes twice or writing fails; `path` is then as it was before.
pub fn write_safetensors(
    path: &Path,
    tensors: impl IntoIterator<Item = (String, HostTensor)>,
    metadata: &[(&str, &str)],
) -> Result<()> {
    let mut tensors: Vec<_> = tensors.into_iter().map(Some).collect();
    let specs: Vec<_> = tensors.iter().flatten().map(|(name, tensor)| TensorSpec::of(name, tensor)).collect();
    let position: std::collections::HashMap<_, _> = specs.iter().zip(0..).map(|(spec, i)| (&spec.name, i)).collect();
    write_streamed(path, &specs, metadata, |spec| {
        let held: Option<usize> = position.get(&spec.name).copied();
        let taken = held.and_then(|i| tensors.get_mut(i)?.take());
        taken.map(|(_, tensor)| tensor).ok_or_else(|| twice(&spec.name))
    })
}

/// Writes tensors to `path` as `producer` makes them, so that only one is in memory at a time.
///
/// They are asked for in the order of the file: wider elements first, so that each is aligned, then by name. The same
/// tensors and metadata give the same bytes.
///
/// # Errors
/// If a name comes twice, the producer fails or gives another shape or type than the spec, or writing fails; `path` is
/// then as it was before.
pub fn write_streamed(
    path: &Path,
    specs: &[TensorSpec],
    metadata: &[(&str, &str)],
    mut producer: impl FnMut(&TensorSpec) -> Result<HostTensor>,
) -> Result<()> {
    let LaidOut { head, tensors } = laid_out(specs.iter().cloned().map(|spec| (spec, ())).collect(), metadata)?;
    // The producer's own error is better than the I/O error that it has to pass through.
    let mut failed = None;
    let written = atomic::write_with(path, |file| {
        file.write_all(&head)?;
        for (spec, ()) in &tensors {
            match produce(spec, &mut producer) {
                Ok(tensor) => file.write_all(tensor.data.as_bytes())?,
                Err(error) => {
                    failed = Some(error);
                    return Err(std::io::Error::other("no tensor"));
                }
            }
        }
        Ok(())
    });
    match failed {
        Some(error) => Err(error),
        None => written,
    }
}

/// A file of tensors before any of their values is at hand.
pub struct LaidOut<T> {
    /// The bytes before the first tensor.
    pub head: Vec<u8>,
    /// The tensors in the order of the file, each with what came along.
    pub tensors: Vec<(TensorSpec, T)>,
}

/// Puts tensors in the order of a file, and makes its head.
///
/// # Errors
/// If a name comes twice, or they are too large for one file.
pub fn laid_out<T>(mut tensors: Vec<(TensorSpec, T)>, metadata: &[(&str, &str)]) -> Result<LaidOut<T>> {
    tensors.sort_by(|(a, _), (b, _)| b.dtype.bytes().cmp(&a.dtype.bytes()).then_with(|| a.name.cmp(&b.name)));
    let header = header(tensors.iter().map(|(spec, _)| spec), metadata)?;
    let head = [&(header.len() as u64).to_le_bytes()[..], &header].concat();
    Ok(LaidOut { head, tensors })
}

/// The header's JSON, padded with spaces so that the first tensor starts at a multiple of 8 bytes.
fn header<'s>(specs: impl Iterator<Item = &'s TensorSpec>, metadata: &[(&str, &str)]) -> Result<Vec<u8>> {
    let mut object = Map::new();
    if !metadata.is_empty() {
        let texts = metadata.iter().map(|(key, value)| ((*key).to_owned(), Value::from(*value)));
        object.insert("__metadata__".to_owned(), Value::Object(texts.collect()));
    }
    let mut names = HashSet::new();
    let mut at = 0usize;
    for spec in specs {
        if !names.insert(&spec.name) {
            return Err(twice(&spec.name));
        }
        let end = at.checked_add(spec.bytes()?).ok_or_else(|| wrong("the tensors are too large for one file"))?;
        let entry = json!({"dtype": spec.dtype.name(), "shape": spec.shape, "data_offsets": [at, end]});
        object.insert(spec.name.clone(), entry);
        at = end;
    }
    let mut text = Value::Object(object).to_string().into_bytes();
    text.resize(text.len().next_multiple_of(8), b' ');
    Ok(text)
}

/// Asks for one tensor and holds the producer to the header that has been written already.
fn produce(spec: &TensorSpec, producer: &mut impl FnMut(&TensorSpec) -> Result<HostTensor>) -> Result<HostTensor> {
    let tensor = producer(spec)?;
    let fits = tensor.shape == spec.shape && tensor.dtype() == spec.dtype;
    if fits && tensor.data.len() == tensor.shape.iter().product::<usize>() {
        return Ok(tensor);
    }
    Err(wrong(format!(
        "tensor `{}`: expected {:?} of {}, was given {:?} of {} with {} elements",
        spec.name,
        spec.shape,
        spec.dtype,
        tensor.shape,
        tensor.dtype(),
        tensor.data.len()
    )))
}

fn twice(name: &str) -> Error {
    wrong(format!("tensor `{name}` would be written twice"))
}
