//! What looks at pictures, as the GGUF file that llama.cpp loads beside one of the language model.

use super::described;
use super::gguf::Opened;
use crate::atomic::check_target;
use crate::error::{Error, Kind, Place, Result};
use crate::export::gguf::Exported;
use crate::export::gguf::towers::{KINDS, TowersExport, kind};
use crate::progress::Progress;
use crate::weights::gguf::{Array, Value};
use std::path::Path;

/// The kinds of such files, by their names.
pub fn kinds() -> impl Iterator<Item = &'static str> {
    KINDS.iter().map(|(of, _)| of.name())
}

/// Writes tower and projector of a model, with an adapter's part on them folded in if one is named, to `output`.
///
/// # Errors
/// When either cannot be read, they do not fit, the model has no tower that can be written so, or the file cannot be
/// written.
pub fn export(
    model: &str,
    adapter: Option<&Path>,
    quant: &str,
    output: &Path,
    progress: &dyn Progress,
) -> Result<Exported> {
    let of = kind(quant).ok_or_else(|| {
        Error::new(Kind::Recipe, format!("no GGUF file of towers is of the kind `{quant}`"))
            .at(Place::Named("--quant".into()))
            .hint(format!("one of {}", kinds().collect::<Vec<_>>().join(", ")))
    })?;
    let inputs: Vec<&Path> = std::iter::once(Path::new(model)).chain(adapter).collect();
    let _claim = check_target("--output", output, &inputs)?;
    let opened = Opened::open(model, adapter, progress, &|config| config.to_mmproj().map(|_| ()))?;
    let base = &opened.base;
    base.config.check_towers(&base.source)?;
    let adapter = opened.adapter(|id| !id.is_of_text());
    if let (Some(folder), Some(adapter)) = (&opened.folder, &adapter)
        && adapter.changed().next().is_none()
    {
        let folder = folder.display();
        progress.note(&format!("Note: the adapter in {folder} changes nothing of what looks at pictures"));
    }
    let mut metadata = base.config.to_mmproj()?;
    let normalize = base.processors.image.as_ref().and_then(|processor| processor.normalize.as_ref());
    let (mean, std) = normalize.map_or(([0.0; 3], [1.0; 3]), |normalize| (normalize.mean, normalize.std));
    for (key, of_channels) in [("mean", mean), ("std", std)] {
        metadata.push((format!("clip.vision.image_{key}"), Value::Array(Array::F32(of_channels.to_vec()))));
    }
    let general = described::general(base, opened.folder.as_deref(), output).keys();
    metadata.extend(general.into_iter().map(|(key, value)| match key.as_str() {
        "general.type" => (key, Value::String("mmproj".into())),
        _ => (key, value),
    }));
    TowersExport { source: &base.source, adapter: adapter.as_ref(), of, metadata: &metadata }.write(output, progress)
}
