//! How much each input of a matrix counts when its numbers are rounded: the mean square of what comes in there.
//!
//! The file is llama.cpp's importance matrix in its GGUF form: for each matrix `NAME.in_sum2`, the sum of squares of each
//! input, and `NAME.counts`, the tokens that it is a sum over.

use crate::error::{Error, Kind, Result};
use crate::quant::QuantType;
use crate::weights::gguf::{Array, Gguf, GgufTensor, Value, write_gguf};
use crate::weights::names::TensorId;
use std::collections::BTreeMap;
use std::path::Path;

/// What ends the names of the two tensors of a matrix.
const SUMS: &str = ".in_sum2";
const COUNTS: &str = ".counts";

/// What came into one matrix.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Squares {
    /// The sum of squares of each input, `[in]`.
    pub sums: Vec<f32>,
    /// Tokens.
    pub tokens: u64,
}

/// What came into the matrices of a model.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Importance {
    /// Of each matrix that was asked.
    pub of: BTreeMap<TensorId, Squares>,
    /// The texts, for people.
    pub dataset: String,
    /// Stretches of text that were read, and the most tokens of each.
    pub chunks: [u64; 2],
}

impl Importance {
    /// The mean square of each input of a matrix `[out, in]`; `None` where nothing is known, or nothing ever came in.
    pub fn of_inputs(&self, id: &TensorId, inputs: usize) -> Option<Vec<f32>> {
        let Squares { sums, tokens } = self.of.get(id).filter(|squares| squares.sums.len() == inputs)?;
        (*tokens > 0 && sums.iter().any(|sum| *sum > 0.0))
            .then(|| sums.iter().map(|sum| sum / *tokens as f32).collect())
    }

    /// Makes sure that it can be of the model with these matrices; those that it says nothing of.
    ///
    /// # Errors
    /// A matrix of another width, and where nothing is known of any.
    pub fn check(&self, matrices: &[(TensorId, [usize; 2])]) -> Result<Vec<TensorId>> {
        let another = |what: String| Error::new(Kind::Weights, what).hint("it was made for another model");
        for (id, [_, columns]) in matrices {
            if let Some(Squares { sums, .. }) = self.of.get(id).filter(|squares| squares.sums.len() != *columns) {
                let name = id.gguf();
                return Err(another(format!("`{name}{SUMS}` has {} inputs, the model's {columns}", sums.len())));
            }
        }
        let unknown = matrices.iter().filter(|(id, [_, columns])| self.of_inputs(id, *columns).is_none());
        let unknown: Vec<TensorId> = unknown.map(|(id, _)| *id).collect();
        match unknown.len() == matrices.len() && !matrices.is_empty() {
            true => Err(another("the file says nothing of any matrix of the model".to_owned())),
            false => Ok(unknown),
        }
    }

    /// Reads llama.cpp's file.
    ///
    /// # Errors
    /// When it is no such file, or its numbers are no sums of squares.
    pub fn read(path: &Path) -> Result<Self> {
        let gguf = Gguf::open(path)?;
        let metadata = gguf.metadata();
        if metadata.str("general.type") != Some("imatrix") {
            return Err(Error::new(Kind::Weights, "the file is no importance matrix: `general.type` is not `imatrix`")
                .at_path(path)
                .hint("`llama-imatrix` writes one; rows of text make one, too: `--imatrix rows.jsonl`"));
        }
        let wrong = |what: String| Error::new(Kind::Weights, what).at_path(path);
        let mut importance = Importance {
            dataset: metadata.strings("imatrix.datasets").unwrap_or_default().join(", "),
            chunks: ["chunk_count", "chunk_size"].map(|key| metadata.u64(&format!("imatrix.{key}")).unwrap_or(0)),
            ..Importance::default()
        };
        for entry in &gguf.header().tensors {
            let Some(name) = entry.name.strip_suffix(SUMS) else { continue };
            let numbers = |name: &str| {
                let entry = gguf.entry(name).filter(|entry| entry.ggml_type == QuantType::F32.ggml());
                let entry = entry.ok_or_else(|| wrong(format!("there is no `{name}` of F32")))?;
                let bytes = gguf.bytes(entry).as_chunks::<4>().0;
                Ok(bytes.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect::<Vec<f32>>())
            };
            let (sums, counts) = (numbers(&entry.name)?, numbers(&format!("{name}{COUNTS}"))?);
            if sums.iter().chain(&counts).any(|number| !number.is_finite() || *number < 0.0) {
                return Err(wrong(format!("`{}` holds what is no sum of squares", entry.name)));
            }
            // Matrices of experts have several counts; a Gemma 3 has none.
            let (Some(id), &[count]) = (TensorId::parse_gguf(name), &counts[..]) else { continue };
            importance.of.insert(id, Squares { sums, tokens: count as u64 });
        }
        if importance.of.is_empty() {
            return Err(wrong("the file has no matrix of a Gemma 3".into()).hint("it was made for another model"));
        }
        Ok(importance)
    }

    /// Writes llama.cpp's file.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, path: &Path) -> Result<u64> {
        let [chunks, size] = self.chunks;
        let metadata = [
            ("general.type".to_owned(), Value::String("imatrix".into())),
            ("imatrix.datasets".to_owned(), Value::Array(Array::String(vec![self.dataset.clone()]))),
            ("imatrix.chunk_count".to_owned(), Value::Unsigned(chunks)),
            ("imatrix.chunk_size".to_owned(), Value::Unsigned(size)),
        ];
        let mut values: BTreeMap<String, Vec<f32>> = BTreeMap::new();
        for (id, Squares { sums, tokens }) in &self.of {
            values.insert(format!("{}{SUMS}", id.gguf()), sums.clone());
            values.insert(format!("{}{COUNTS}", id.gguf()), vec![*tokens as f32]);
        }
        let tensor = |(name, values): (&String, &Vec<f32>)| GgufTensor {
            name: name.clone(),
            of: QuantType::F32,
            shape: vec![1, values.len()],
        };
        let tensors: Vec<GgufTensor> = values.iter().map(tensor).collect();
        write_gguf(path, &metadata, &tensors, |tensor| {
            let values = values.get(&tensor.name).map(Vec::as_slice).unwrap_or_default();
            Ok(values.iter().flat_map(|value| value.to_le_bytes()).collect())
        })
    }

    /// What a file says whose numbers were rounded by it, as llama.cpp says it.
    pub fn keys(&self, name: &str) -> Vec<(String, Value)> {
        let key = |key: &str| format!("quantize.imatrix.{key}");
        vec![
            (key("file"), Value::String(name.to_owned())),
            (key("dataset"), Value::String(self.dataset.clone())),
            (key("entries_count"), Value::Unsigned(self.of.len() as u64)),
            (key("chunks_count"), Value::Unsigned(self.chunks[0])),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weights::names::Projection;

    #[test]
    fn what_is_written_is_read_and_other_files_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("i.gguf");
        let [q, down] = [Projection::Q, Projection::Down].map(|projection| TensorId::Projection(3, projection));
        let of =
            [(q, Squares { sums: vec![4.0, 0.0, 2.0], tokens: 2 }), (down, Squares { sums: vec![1.0], tokens: 0 })];
        let importance = Importance { of: of.into(), dataset: "rows.jsonl".into(), chunks: [7, 512] };
        importance.write(&path).unwrap();
        assert_eq!(Importance::read(&path).unwrap(), importance);
        assert_eq!(importance.of_inputs(&q, 3), Some(vec![2.0, 0.0, 1.0]));
        assert_eq!(importance.of_inputs(&q, 4), None, "another model's");
        assert_eq!(importance.of_inputs(&down, 1), None, "no token");
        assert_eq!(importance.check(&[(q, [8, 3]), (down, [8, 1])]).unwrap(), [down]);
        let wide = importance.check(&[(q, [8, 4]), (down, [8, 1])]).unwrap_err();
        assert!(wide.what().contains("has 3 inputs, the model's 4") && wide.exit_code() == 2, "{wide}");
        let none = importance.check(&[(down, [8, 1])]).unwrap_err();
        assert_eq!(none.what(), "the file says nothing of any matrix of the model");
        let zeros = Importance { of: [(q, Squares { sums: vec![0.0; 3], tokens: 2 })].into(), ..Importance::default() };
        assert!(zeros.of_inputs(&q, 3).is_none() && zeros.check(&[(q, [8, 3])]).is_err(), "nothing ever came in");
        assert!(zeros.check(&[]).is_ok());

        write_gguf(&path, &[("general.type".into(), Value::String("model".into()))], &[], |_| Ok(Vec::new())).unwrap();
        assert!(Importance::read(&path).unwrap_err().what().contains("no importance matrix"));
        let negative = Importance { of: [(q, Squares { sums: vec![-1.0], tokens: 1 })].into(), ..importance };
        negative.write(&path).unwrap();
        assert!(Importance::read(&path).unwrap_err().what().contains("no sum of squares"));
    }
}
