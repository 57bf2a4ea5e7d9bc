//! Metadata values of a GGUF file.

use super::cursor::Cursor;
use crate::error::Result;
use std::fmt;

/// How deep arrays may be nested; files in the wild do not nest at all.
const MAX_DEPTH: usize = 4;

/// A metadata value.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// An unsigned integer of 8, 16, 32 or 64 bits.
    Unsigned(u64),
    /// A signed integer of 8, 16, 32 or 64 bits.
    Signed(i64),
    /// A 32-bit float.
    F32(f32),
    /// A 64-bit float.
    F64(f64),
    /// A truth value.
    Bool(bool),
    /// A text.
    String(String),
    /// Values of one type.
    Array(Array),
}

/// An array of values of one type, as compact as in the file.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)] // each variant is what its name says
pub enum Array {
    U8(Vec<u8>),
    I8(Vec<i8>),
    U16(Vec<u16>),
    I16(Vec<i16>),
    U32(Vec<u32>),
    I32(Vec<i32>),
    U64(Vec<u64>),
    I64(Vec<i64>),
    F32(Vec<f32>),
    F64(Vec<f64>),
    Bool(Vec<bool>),
    String(Vec<String>),
    Array(Vec<Array>),
}

/// As a person would write it; of an array its length.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Unsigned(value) => write!(f, "{value}"),
            Value::Signed(value) => write!(f, "{value}"),
            Value::F32(value) => write!(f, "{value:?}"),
            Value::F64(value) => write!(f, "{value:?}"),
            Value::Bool(value) => write!(f, "{value}"),
            Value::String(value) => write!(f, "{value:?}"),
            Value::Array(values) => write!(f, "an array of {}", values.len()),
        }
    }
}

impl Value {
    /// The value as an unsigned integer, from any integer type.
    pub fn as_u64(&self) -> Option<u64> {
        match *self {
            Value::Unsigned(value) => Some(value),
            Value::Signed(value) => value.try_into().ok(),
            _ => None,
        }
    }

    /// The value as a float, from any number type.
    pub fn as_f64(&self) -> Option<f64> {
        match *self {
            Value::Unsigned(value) => Some(value as f64),
            Value::Signed(value) => Some(value as f64),
            Value::F32(value) => Some(value.into()),
            Value::F64(value) => Some(value),
            _ => None,
        }
    }

    /// The value as a truth value.
    pub fn as_bool(&self) -> Option<bool> {
        match *self {
            Value::Bool(value) => Some(value),
            _ => None,
        }
    }

    /// The value as a text.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Value::String(value) => Some(value),
            _ => None,
        }
    }

    /// The value as an array.
    pub fn as_array(&self) -> Option<&Array> {
        match self {
            Value::Array(value) => Some(value),
            _ => None,
        }
    }

    /// Reads a value of the type with this number.
    pub(super) fn read(cursor: &mut Cursor<'_>, of: u32, key: &str) -> Result<Self> {
        Ok(match of {
            0 => Value::Unsigned(u8::from_le_bytes(cursor.array(key)?).into()),
            1 => Value::Signed(i8::from_le_bytes(cursor.array(key)?).into()),
            2 => Value::Unsigned(u16::from_le_bytes(cursor.array(key)?).into()),
            3 => Value::Signed(i16::from_le_bytes(cursor.array(key)?).into()),
            4 => Value::Unsigned(u32::from_le_bytes(cursor.array(key)?).into()),
            5 => Value::Signed(i32::from_le_bytes(cursor.array(key)?).into()),
            6 => Value::F32(f32::from_le_bytes(cursor.array(key)?)),
            7 => {
                let [byte] = cursor.array(key)?;
                Value::Bool(truth(cursor, byte, key)?)
            }
            8 => Value::String(cursor.string(key)?.to_owned()),
            9 => Value::Array(Array::read(cursor, key, 0)?),
            10 => Value::Unsigned(u64::from_le_bytes(cursor.array(key)?)),
            11 => Value::Signed(i64::from_le_bytes(cursor.array(key)?)),
            12 => Value::F64(f64::from_le_bytes(cursor.array(key)?)),
            _ => return Err(cursor.wrong(format!("metadata `{key}` has the unknown type {of}"))),
        })
    }
}

impl Array {
    /// The number of elements.
    pub fn len(&self) -> usize {
        match self {
            Array::U8(values) => values.len(),
            Array::I8(values) => values.len(),
            Array::U16(values) => values.len(),
            Array::I16(values) => values.len(),
            Array::U32(values) => values.len(),
            Array::I32(values) => values.len(),
            Array::U64(values) => values.len(),
            Array::I64(values) => values.len(),
            Array::F32(values) => values.len(),
            Array::F64(values) => values.len(),
            Array::Bool(values) => values.len(),
            Array::String(values) => values.len(),
            Array::Array(values) => values.len(),
        }
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The elements as texts.
    pub fn as_strings(&self) -> Option<&[String]> {
        match self {
            Array::String(values) => Some(values),
            _ => None,
        }
    }

    /// The elements as 32-bit floats.
    pub fn as_f32s(&self) -> Option<&[f32]> {
        match self {
            Array::F32(values) => Some(values),
            _ => None,
        }
    }

    /// The elements as truth values, also from integers, of which 0 alone is false.
    pub fn to_bools(&self) -> Option<Vec<bool>> {
        match self {
            Array::Bool(values) => Some(values.clone()),
            integers => integers.to_i64s().map(|values| values.into_iter().map(|value| value != 0).collect()),
        }
    }

    /// The elements as signed integers, from any integer type that fits.
    pub fn to_i64s(&self) -> Option<Vec<i64>> {
        match self {
            Array::U8(values) => Some(values.iter().map(|&v| v.into()).collect()),
            Array::I8(values) => Some(values.iter().map(|&v| v.into()).collect()),
            Array::U16(values) => Some(values.iter().map(|&v| v.into()).collect()),
            Array::I16(values) => Some(values.iter().map(|&v| v.into()).collect()),
            Array::U32(values) => Some(values.iter().map(|&v| v.into()).collect()),
            Array::I32(values) => Some(values.iter().map(|&v| v.into()).collect()),
            Array::U64(values) => values.iter().map(|&v| v.try_into().ok()).collect(),
            Array::I64(values) => Some(values.clone()),
            _ => None,
        }
    }

    /// Reads the element type, the count and the elements.
    fn read(cursor: &mut Cursor<'_>, key: &str, depth: usize) -> Result<Self> {
        if depth >= MAX_DEPTH {
            return Err(cursor.wrong(format!("metadata `{key}` nests arrays deeper than {MAX_DEPTH}")));
        }
        Ok(match cursor.u32(key)? {
            0 => Array::U8(scalars(cursor, key, u8::from_le_bytes)?),
            1 => Array::I8(scalars(cursor, key, i8::from_le_bytes)?),
            2 => Array::U16(scalars(cursor, key, u16::from_le_bytes)?),
            3 => Array::I16(scalars(cursor, key, i16::from_le_bytes)?),
            4 => Array::U32(scalars(cursor, key, u32::from_le_bytes)?),
            5 => Array::I32(scalars(cursor, key, i32::from_le_bytes)?),
            6 => Array::F32(scalars(cursor, key, f32::from_le_bytes)?),
            7 => {
                let bytes: Vec<u8> = scalars(cursor, key, u8::from_le_bytes)?;
                Array::Bool(bytes.into_iter().map(|byte| truth(cursor, byte, key)).collect::<Result<_>>()?)
            }
            // Texts and arrays are not reserved ahead: they take more memory than their least bytes in the file.
            8 => {
                let mut values = Vec::new();
                for _ in 0..cursor.count(8, key)? {
                    values.push(cursor.string(key)?.to_owned());
                }
                Array::String(values)
            }
            9 => {
                let mut values = Vec::new();
                for _ in 0..cursor.count(12, key)? {
                    values.push(Array::read(cursor, key, depth + 1)?);
                }
                Array::Array(values)
            }
            10 => Array::U64(scalars(cursor, key, u64::from_le_bytes)?),
            11 => Array::I64(scalars(cursor, key, i64::from_le_bytes)?),
            12 => Array::F64(scalars(cursor, key, f64::from_le_bytes)?),
            of => return Err(cursor.wrong(format!("metadata `{key}` is an array of the unknown type {of}"))),
        })
    }
}

/// Reads a count and that many numbers of `N` bytes.
fn scalars<const N: usize, T>(cursor: &mut Cursor<'_>, key: &str, load: impl Fn([u8; N]) -> T) -> Result<Vec<T>> {
    let count = cursor.count(N, key)?;
    let (bytes, _) = cursor.take(count * N, key)?.as_chunks::<N>();
    Ok(bytes.iter().map(|bytes| load(*bytes)).collect())
}

fn truth(cursor: &Cursor<'_>, byte: u8, key: &str) -> Result<bool> {
    match byte {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(cursor.wrong(format!("metadata `{key}` should be true or false, but its byte is {byte}"))),
    }
}
