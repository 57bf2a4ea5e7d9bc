//! Reading golden files: safetensors made by the scripts in `scripts/`.

use safetensors::{Dtype, SafeTensors};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A folder under `tests/goldens`.
pub fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens").join(name)
}

/// The tensors of a golden file, numbers widened to f64 (i64 ids below 2^53 stay exact).
pub struct Golden(BTreeMap<String, (Vec<usize>, Vec<f64>)>);

impl Golden {
    /// Reads a safetensors file of f32, bf16, f64, i64 and truth tensors.
    ///
    /// # Panics
    /// If the file is missing or has other dtypes: the test cannot go on.
    pub fn read(path: &Path) -> Self {
        let bytes = std::fs::read(path).unwrap_or_else(|e| panic!("golden {}: {e}", path.display()));
        let file = SafeTensors::deserialize(&bytes).unwrap_or_else(|e| panic!("golden {}: {e}", path.display()));
        let tensors = file.tensors().into_iter().map(|(name, view)| {
            let values = match view.dtype() {
                Dtype::F32 => view
                    .data()
                    .chunks_exact(4)
                    .map(|b| f64::from(f32::from_le_bytes([b[0], b[1], b[2], b[3]])))
                    .collect(),
                Dtype::BF16 => view
                    .data()
                    .chunks_exact(2)
                    .map(|b| f64::from(f32::from_bits(u32::from(u16::from_le_bytes([b[0], b[1]])) << 16)))
                    .collect(),
                Dtype::BOOL => view.data().iter().map(|&b| f64::from(b)).collect(),
                Dtype::F64 => view.data().as_chunks().0.iter().map(|bytes| f64::from_le_bytes(*bytes)).collect(),
                Dtype::I64 => view
                    .data()
                    .chunks_exact(8)
                    .map(|b| i64::from_le_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]]) as f64)
                    .collect(),
                other => panic!("golden {}: {name} is {other:?}", path.display()),
            };
            (name, (view.shape().to_vec(), values))
        });
        Golden(tensors.collect())
    }

    /// The values of a tensor.
    ///
    /// # Panics
    /// If there is no such tensor.
    pub fn values(&self, name: &str) -> &[f64] {
        &self.0.get(name).unwrap_or_else(|| panic!("golden has no {name}")).1
    }

    /// The shape of a tensor.
    ///
    /// # Panics
    /// If there is no such tensor.
    pub fn shape(&self, name: &str) -> &[usize] {
        &self.0.get(name).unwrap_or_else(|| panic!("golden has no {name}")).0
    }

    /// All names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}

/// Largest difference relative to the largest expected magnitude.
pub fn max_relative(got: &[f32], expected: &[f64]) -> f64 {
    assert_eq!(got.len(), expected.len());
    let scale = expected.iter().fold(0.0f64, |m, x| m.max(x.abs()));
    let gap = got.iter().zip(expected).fold(0.0f64, |m, (g, e)| m.max((f64::from(*g) - e).abs()));
    assert!(gap.is_finite(), "a value is not finite");
    gap / scale.max(f64::MIN_POSITIVE)
}

/// L2 norm of the difference relative to the expected L2 norm.
pub fn l2_relative(got: &[f32], expected: &[f64]) -> f64 {
    assert_eq!(got.len(), expected.len());
    let gap: f64 = got.iter().zip(expected).map(|(g, e)| (f64::from(*g) - e).powi(2)).sum();
    assert!(gap.is_finite(), "a value is not finite");
    (gap / expected.iter().map(|e| e * e).sum::<f64>().max(f64::MIN_POSITIVE)).sqrt()
}
