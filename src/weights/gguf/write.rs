//! Writing a GGUF file one tensor at a time, whole or not at all.

use super::header::{DEFAULT_ALIGNMENT, MAX_AXES};
use super::value::{Array, Value};
use crate::atomic;
use crate::error::Result;
use crate::quant::QuantType;
use crate::weights::wrong;
use std::collections::HashSet;
use std::io::Write;
use std::path::Path;

/// The version that is written.
const VERSION: u32 = 3;
/// The longest name of a tensor: llama.cpp keeps it, and a zero, in 64 bytes.
const LONGEST_NAME: usize = 63;

/// A tensor to be written into a GGUF file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GgufTensor {
    /// Its name.
    pub name: String,
    /// How its elements are stored.
    pub of: QuantType,
    /// The size of each axis, outermost first.
    pub shape: Vec<usize>,
}

impl GgufTensor {
    /// Bytes of the tensor.
    ///
    /// # Errors
    /// If its rows are not whole blocks, or it has too many axes, a name that readers refuse, or more bytes than can be
    /// counted.
    pub fn bytes(&self) -> Result<usize> {
        let GgufTensor { name, of, shape } = self;
        if name.is_empty() || name.len() > LONGEST_NAME {
            return Err(wrong(format!("the name `{name}` has {} bytes; 1 to {LONGEST_NAME} are possible", name.len())));
        }
        if shape.len() > MAX_AXES as usize {
            return Err(wrong(format!("tensor `{name}` has {} axes; at most {MAX_AXES} are possible", shape.len())));
        }
        let row = shape.last().copied().unwrap_or(1);
        let block = of.block_size();
        if !row.is_multiple_of(block) {
            return Err(wrong(format!("tensor `{name}`: rows of {row} are not whole blocks of {block} ({of})")));
        }
        let elements = shape.iter().try_fold(1usize, |product, &size| product.checked_mul(size));
        let bytes = elements.and_then(|n| of.bytes_of(n));
        bytes.ok_or_else(|| wrong(format!("tensor `{name}`: {shape:?} is too large")))
    }
}

/// Writes metadata and tensors to `path`, each tensor as `producer` makes its bytes, so that only one is in memory at a
/// time. Tensors lie in the order of `tensors`, each at a multiple of 32 bytes. Gives the file's length.
///
/// Whole numbers are written in 32 bits where they fit, as llama.cpp expects of every key that it reads.
///
/// # Errors
/// If a key or name comes twice, a tensor cannot be stored so ([`GgufTensor::bytes`]), the producer fails or gives
/// another number of bytes, or writing fails; a regular file at `path` is then as it was before.
pub fn write_gguf(
    path: &Path,
    metadata: &[(String, Value)],
    tensors: &[GgufTensor],
    mut producer: impl FnMut(&GgufTensor) -> Result<Vec<u8>>,
) -> Result<u64> {
    let head = head(metadata, tensors)?;
    let mut length = head.len() as u64;
    // The producer's own error is better than the I/O error that it has to pass through.
    let mut failed = None;
    let written = atomic::write_with(path, |file| {
        file.write_all(&head)?;
        for tensor in tensors {
            match produce(tensor, &mut producer) {
                Ok(bytes) => {
                    file.write_all(&bytes)?;
                    let padding = padding(bytes.len());
                    file.write_all(&[0; DEFAULT_ALIGNMENT as usize][..padding])?;
                    length += (bytes.len() + padding) as u64;
                }
                Err(error) => {
                    failed = Some(error);
                    return Err(std::io::Error::other("no tensor"));
                }
            }
        }
        Ok(())
    });
    failed.map_or(written, Err).map(|()| length)
}

/// The length of the file that [`write_gguf`] would write.
///
/// # Errors
/// As there, of what is known before a tensor is made.
pub fn gguf_length(metadata: &[(String, Value)], tensors: &[GgufTensor]) -> Result<u64> {
    let data = tensors.iter().map(|tensor| tensor.bytes().map(|bytes| (bytes + padding(bytes)) as u64));
    Ok(head(metadata, tensors)?.len() as u64 + data.sum::<Result<u64>>()?)
}

/// Bytes to the next multiple of the alignment.
fn padding(bytes: usize) -> usize {
    bytes.next_multiple_of(DEFAULT_ALIGNMENT as usize) - bytes
}

/// Everything before the first tensor's bytes.
fn head(metadata: &[(String, Value)], tensors: &[GgufTensor]) -> Result<Vec<u8>> {
    let mut out = b"GGUF".to_vec();
    out.extend(VERSION.to_le_bytes());
    out.extend((tensors.len() as u64).to_le_bytes());
    out.extend((metadata.len() as u64).to_le_bytes());
    let mut seen = HashSet::new();
    for (key, value) in metadata {
        if !seen.insert(key) {
            return Err(wrong(format!("metadata `{key}` would be written twice")));
        }
        text(&mut out, key);
        write_value(&mut out, value);
    }
    let mut seen = HashSet::new();
    let mut offset = 0u64;
    for tensor in tensors {
        if !seen.insert(&tensor.name) {
            return Err(wrong(format!("tensor `{}` would be written twice", tensor.name)));
        }
        let bytes = tensor.bytes()?;
        text(&mut out, &tensor.name);
        out.extend((tensor.shape.len() as u32).to_le_bytes());
        out.extend(tensor.shape.iter().rev().flat_map(|&size| (size as u64).to_le_bytes()));
        out.extend(tensor.of.ggml().to_le_bytes());
        out.extend(offset.to_le_bytes());
        let end = offset.checked_add((bytes + padding(bytes)) as u64);
        offset = end.ok_or_else(|| wrong("the tensors are too large for one file"))?;
    }
    out.resize(out.len() + padding(out.len()), 0);
    Ok(out)
}

/// Asks for one tensor and holds the producer to the header that has been written already.
fn produce(tensor: &GgufTensor, producer: &mut impl FnMut(&GgufTensor) -> Result<Vec<u8>>) -> Result<Vec<u8>> {
    let (bytes, expected) = (producer(tensor)?, tensor.bytes()?);
    if bytes.len() == expected {
        return Ok(bytes);
    }
    Err(wrong(format!("tensor `{}`: expected {expected} bytes, was given {}", tensor.name, bytes.len())))
}

fn text(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

/// A type's number, then the value.
fn write_value(out: &mut Vec<u8>, value: &Value) {
    let mut put = |of: u32, bytes: &[u8]| {
        out.extend(of.to_le_bytes());
        out.extend(bytes);
    };
    match value {
        Value::Unsigned(value) => match u32::try_from(*value) {
            Ok(value) => put(4, &value.to_le_bytes()),
            Err(_) => put(10, &value.to_le_bytes()),
        },
        Value::Signed(value) => match i32::try_from(*value) {
            Ok(value) => put(5, &value.to_le_bytes()),
            Err(_) => put(11, &value.to_le_bytes()),
        },
        Value::F32(value) => put(6, &value.to_le_bytes()),
        Value::F64(value) => put(12, &value.to_le_bytes()),
        Value::Bool(value) => put(7, &[u8::from(*value)]),
        Value::String(value) => {
            put(8, &[]);
            text(out, value);
        }
        Value::Array(array) => {
            put(9, &[]);
            write_array(out, array);
        }
    }
}

/// The elements' type, their number, then they.
fn write_array(out: &mut Vec<u8>, array: &Array) {
    fn numbers<T: Copy, const N: usize>(out: &mut Vec<u8>, values: &[T], bytes: impl Fn(T) -> [u8; N]) {
        out.extend(values.iter().flat_map(|value| bytes(*value)));
    }
    let of: u32 = match array {
        Array::U8(_) => 0,
        Array::I8(_) => 1,
        Array::U16(_) => 2,
        Array::I16(_) => 3,
        Array::U32(_) => 4,
        Array::I32(_) => 5,
        Array::F32(_) => 6,
        Array::Bool(_) => 7,
        Array::String(_) => 8,
        Array::Array(_) => 9,
        Array::U64(_) => 10,
        Array::I64(_) => 11,
        Array::F64(_) => 12,
    };
    out.extend(of.to_le_bytes());
    out.extend((array.len() as u64).to_le_bytes());
    match array {
        Array::U8(values) => out.extend(values),
        Array::I8(values) => numbers(out, values, i8::to_le_bytes),
        Array::U16(values) => numbers(out, values, u16::to_le_bytes),
        Array::I16(values) => numbers(out, values, i16::to_le_bytes),
        Array::U32(values) => numbers(out, values, u32::to_le_bytes),
        Array::I32(values) => numbers(out, values, i32::to_le_bytes),
        Array::U64(values) => numbers(out, values, u64::to_le_bytes),
        Array::I64(values) => numbers(out, values, i64::to_le_bytes),
        Array::F32(values) => numbers(out, values, f32::to_le_bytes),
        Array::F64(values) => numbers(out, values, f64::to_le_bytes),
        Array::Bool(values) => numbers(out, values, |value| [u8::from(value)]),
        Array::String(values) => values.iter().for_each(|value| text(out, value)),
        Array::Array(values) => values.iter().for_each(|value| write_array(out, value)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Error, Kind};
    use crate::weights::gguf::Gguf;
    use std::fs;

    fn values() -> Vec<(String, Value)> {
        let arrays = [
            Array::U8(vec![1, 255]),
            Array::I8(vec![-1]),
            Array::U16(vec![65535]),
            Array::I16(vec![-300]),
            Array::U32(vec![1 << 31]),
            Array::I32(vec![-5, 5]),
            Array::F32(vec![0.5]),
            Array::Bool(vec![true, false]),
            Array::String(vec![String::new(), "é▁".into()]),
            Array::Array(vec![Array::U8(vec![]), Array::String(vec!["x".into()])]),
            Array::U64(vec![1 << 40]),
            Array::I64(vec![-(1 << 40)]),
            Array::F64(vec![1e300]),
        ];
        let single = [
            Value::Unsigned(7),
            Value::Unsigned(1 << 40),
            Value::Signed(-7),
            Value::Signed(-(1 << 40)),
            Value::F32(1.5),
            Value::F64(1e-300),
            Value::Bool(true),
            Value::String("text".into()),
        ];
        let all = single.into_iter().chain(arrays.map(Value::Array));
        all.enumerate().map(|(i, value)| (format!("test.{i}"), value)).collect()
    }

    fn tensors() -> Vec<GgufTensor> {
        let odd = QuantType::ALL.iter().enumerate().map(|(i, of)| GgufTensor {
            name: format!("tensor.{i}"),
            of: *of,
            shape: vec![3, of.block_size() * (1 + i % 3)],
        });
        let shapes = [vec![], vec![5], vec![2, 1, 3, 7], vec![0, 4]];
        let floats = shapes.into_iter().enumerate().map(|(i, shape)| GgufTensor {
            name: format!("float.{i}"),
            of: QuantType::F32,
            shape,
        });
        odd.chain(floats).collect()
    }

    fn bytes_of(tensor: &GgufTensor) -> Vec<u8> {
        let seed = tensor.name.len() as u8 + *tensor.name.as_bytes().last().unwrap();
        (0..tensor.bytes().unwrap()).map(|i| seed.wrapping_add(i as u8)).collect()
    }

    #[test]
    fn what_is_written_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("all.gguf");
        let length = write_gguf(&path, &values(), &tensors(), |tensor| Ok(bytes_of(tensor))).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().len(), length);
        assert_eq!(gguf_length(&values(), &tensors()).unwrap(), length);
        let gguf = Gguf::open(&path).unwrap();
        assert_eq!(gguf.metadata(), &values().into_iter().collect());
        assert_eq!(gguf.header().version, 3);
        assert_eq!(gguf.header().tensors.len(), tensors().len());
        for (tensor, entry) in tensors().iter().zip(&gguf.header().tensors) {
            assert_eq!((&entry.name, &entry.shape, entry.ggml_type), (&tensor.name, &tensor.shape, tensor.of.ggml()));
            assert_eq!(entry.bytes.start % 32, 0);
            assert_eq!(gguf.bytes(entry), bytes_of(tensor), "{}", tensor.name);
        }
    }

    #[test]
    fn a_failure_leaves_what_was_there() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("m.gguf");
        fs::write(&path, "old").unwrap();
        let tensor = |name: &str, of, shape: &[usize]| GgufTensor { name: name.into(), of, shape: shape.to_vec() };
        let message = |tensors: &[GgufTensor], metadata: &[(String, Value)]| {
            let error = write_gguf(&path, metadata, tensors, |tensor| match tensor.name.as_str() {
                "short" => Ok(vec![0; 3]),
                "fails" => Err(Error::new(Kind::NoSpace, "full")),
                _ => Ok(bytes_of(tensor)),
            });
            assert_eq!(fs::read(&path).unwrap(), b"old");
            assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
            error.unwrap_err().what().to_owned()
        };
        let good = tensor("a", QuantType::F32, &[4]);
        assert_eq!(message(&[good.clone(), tensor("fails", QuantType::F32, &[4])], &[]), "full");
        let short = tensor("short", QuantType::F32, &[1]);
        assert_eq!(message(&[good.clone(), short], &[]), "tensor `short`: expected 4 bytes, was given 3");
        assert_eq!(message(&[good.clone(), good.clone()], &[]), "tensor `a` would be written twice");
        let key = ("k".to_owned(), Value::Bool(true));
        assert_eq!(message(&[], &[key.clone(), key]), "metadata `k` would be written twice");
        assert_eq!(
            message(&[tensor("a", QuantType::Q4K, &[2, 128])], &[]),
            "tensor `a`: rows of 128 are not whole blocks of 256 (Q4_K)"
        );
        assert_eq!(
            message(&[tensor("a", QuantType::F32, &[1; 5])], &[]),
            "tensor `a` has 5 axes; at most 4 are possible"
        );
        assert!(message(&[tensor(&"x".repeat(64), QuantType::F32, &[1])], &[]).contains("64 bytes"));
        assert!(message(&[tensor("a", QuantType::F32, &[usize::MAX, 2])], &[]).contains("too large"));
    }

    #[cfg(unix)]
    #[test]
    fn a_pipe_is_written_into() {
        let dir = tempfile::tempdir().unwrap();
        let (pipe, file) = (dir.path().join("pipe"), dir.path().join("file"));
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let reader = std::thread::spawn({
            let pipe = pipe.clone();
            move || fs::read(pipe).unwrap()
        });
        for path in [&pipe, &file] {
            write_gguf(path, &values(), &tensors(), |tensor| Ok(bytes_of(tensor))).unwrap();
        }
        assert_eq!(reader.join().unwrap(), fs::read(&file).unwrap());
    }
}
