//! Columns of Parquet and Arrow as JSON, one row a line.

use crate::data::object::not_text;
use crate::error::{Error, Kind, Result};
use crate::guard::guarded;
use arrow_array::cast::AsArray;
use arrow_array::{Array, RecordBatch};
use arrow_json::writer::{LineDelimited, NullableEncoder};
use arrow_json::{Encoder, EncoderFactory, EncoderOptions, WriterBuilder};
use arrow_schema::{ArrowError, DataType, FieldRef};
use serde_json::Value;
use std::sync::Arc;

/// The rows of `batch`, without what is null.
///
/// # Errors
/// When a column's type has no form in JSON.
pub(super) fn lines(batch: RecordBatch) -> Result<Vec<u8>> {
    guarded(|| {
        let builder = WriterBuilder::new().with_encoder_factory(Arc::new(Texts));
        let mut writer = builder.build::<_, LineDelimited>(Vec::new());
        writer.write(&batch).and_then(|()| writer.finish()).map(|()| writer.into_inner())
    })
    .map_err(|e| Error::new(Kind::Data, format!("the file's columns cannot be read: {e}")))
}

/// Writes bytes as the text that they are; many writers of Parquet do not say that a column is text.
#[derive(Debug)]
struct Texts;

impl EncoderFactory for Texts {
    fn make_default_encoder<'a>(
        &self,
        _: &'a FieldRef,
        array: &'a dyn Array,
        _: &'a EncoderOptions,
    ) -> std::result::Result<Option<NullableEncoder<'a>>, ArrowError> {
        let bytes: Box<dyn Fn(usize) -> &'a [u8] + 'a> = match array.data_type() {
            DataType::Binary => {
                let array = array.as_binary::<i32>();
                Box::new(|i| array.value(i))
            }
            DataType::LargeBinary => {
                let array = array.as_binary::<i64>();
                Box::new(|i| array.value(i))
            }
            DataType::BinaryView => {
                let array = array.as_binary_view();
                Box::new(|i| array.value(i))
            }
            DataType::FixedSizeBinary(_) => {
                let array = array.as_fixed_size_binary();
                Box::new(|i| array.value(i))
            }
            _ => return Ok(None),
        };
        Ok(Some(NullableEncoder::new(Box::new(BytesEncoder(bytes)), array.nulls().cloned())))
    }
}

struct BytesEncoder<'a>(Box<dyn Fn(usize) -> &'a [u8] + 'a>);

impl Encoder for BytesEncoder<'_> {
    fn encode(&mut self, index: usize, out: &mut Vec<u8>) {
        let bytes = (self.0)(index);
        let written = match std::str::from_utf8(bytes) {
            Ok(text) => serde_json::to_writer(out, text),
            Err(_) => serde_json::to_writer(out, &Value::Object(not_text(bytes))),
        };
        // Writing into memory does not fail.
        debug_assert!(written.is_ok());
    }
}
