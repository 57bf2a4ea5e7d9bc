//! A smaller Gemma 3n out of a larger one.

use crate::error::{Error, Kind, Place, Result};
use crate::export::{companions, folder, slice};
use crate::hub::ModelFiles;
use crate::jobs::base::Base;
use crate::progress::Progress;
use serde::Serialize;
use std::ops::RangeInclusive;
use std::path::Path;

/// What was written.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Sliced {
    /// The layers that stayed, by their numbers in the larger model.
    pub layers: Vec<usize>,
    /// The width of each one's feed-forward block.
    pub intermediate_size: Vec<usize>,
    /// Tensors written.
    pub tensors: usize,
    /// Their bytes.
    pub bytes: u64,
}

/// Writes `model` without some layers and with feed-forward blocks of these widths to the folder `output`.
///
/// # Errors
/// When the model cannot be read or cut so, or the folder cannot be written.
pub fn export(
    model: &str,
    without: &[RangeInclusive<usize>],
    widths: &[usize],
    output: &Path,
    progress: &dyn Progress,
) -> Result<Sliced> {
    folder::may_write(output, folder::Existing::Refuse)?;
    let named = Place::Named(format!("--model {model}"));
    let without: Vec<usize> = without.iter().cloned().flatten().collect();
    let base = Base::open(model, named, progress, &|config| config.slice(&without, widths).map(drop))?;
    let slice = base.config.slice(&without, widths)?;
    let ModelFiles::Folder { dir, .. } = &base.files else {
        return Err(Error::new(Kind::Recipe, "a model is cut out of a Hugging Face folder, not out of a GGUF file")
            .hint("cut the original, then `gemma-tune export gguf`"));
    };
    let path = dir.join("config.json");
    let config = crate::input::read_to_string(&path).map_err(|e| Error::io("reading", &path, e))?;
    let small_files = |into: &Path| companions::copy_companions(dir, into).map(drop);
    let (tensors, bytes) = slice::write(&base.source, &slice, &config, output, small_files, progress)?;
    Ok(Sliced { layers: slice.layers, intermediate_size: slice.widths, tensors, bytes })
}
