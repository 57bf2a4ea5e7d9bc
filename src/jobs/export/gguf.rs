//! A model as a GGUF file.

use super::described;
use crate::adapter::peft::{self, PeftAdapter};
use crate::atomic::check_target;
use crate::error::{Place, Result};
use crate::export::gguf::mixture::{FileType, Traits};
use crate::export::gguf::{Exported, GgufExport};
use crate::jobs::base::{Base, adapter_folder, provenance};
use crate::progress::{Progress, counted};
use std::path::{Path, PathBuf};

/// Writes a model, with an adapter folded in if one is named, to `output` as a GGUF file of the kind `quant`.
///
/// # Errors
/// When either cannot be read, they do not fit, the model cannot be said in a GGUF file, or the file cannot be written.
pub fn export(
    model: &str,
    adapter: Option<&Path>,
    quant: &str,
    output: &Path,
    progress: &dyn Progress,
) -> Result<Exported> {
    let file_type = described::file_type(quant)?;
    let inputs: Vec<&Path> = std::iter::once(Path::new(model)).chain(adapter).collect();
    check_target("--output", output, &inputs)?;
    Opened::open(model, adapter, progress)?.write(file_type, output, output, progress)
}

/// A model that is to be exported, and the adapter that is to be folded in.
pub struct Opened {
    /// The model.
    pub base: Base,
    /// The adapter's folder.
    pub folder: Option<PathBuf>,
    adapter: Option<PeftAdapter>,
}

impl Opened {
    /// Opens both.
    ///
    /// # Errors
    /// When either cannot be read, they do not fit, or the model cannot be said in a GGUF file.
    pub fn open(model: &str, adapter: Option<&Path>, progress: &dyn Progress) -> Result<Self> {
        let folder = adapter.map(|adapter| adapter_folder::find(adapter, progress)).transpose()?;
        let named = Place::Named(format!("--model {model}"));
        let name_bases = |error| provenance::name_bases(error, model);
        let base = Base::open(model, named, progress, &|config| {
            config.to_gguf()?; // before gigabytes are downloaded
            folder.as_deref().map_or(Ok(()), |folder| peft::check(folder, config).map_err(name_bases))
        })?;
        let adapter = folder.as_deref().map(|folder| {
            let adapter = PeftAdapter::read(folder, &base.config.places()).map_err(name_bases)?;
            provenance::warn_of_another_base(folder, &base, progress);
            provenance::warn_of_no_effect(folder, adapter.tensors.is_zero(), progress);
            Result::Ok(adapter)
        });
        let adapter = adapter.transpose()?;
        Ok(Opened { base, folder, adapter })
    }

    /// Writes the file to `path`; it is called as `output` is.
    ///
    /// # Errors
    /// As [`export`].
    pub fn write(&self, file_type: FileType, path: &Path, output: &Path, progress: &dyn Progress) -> Result<Exported> {
        let Opened { base, folder, adapter } = self;
        if base.config.multimodal() {
            progress.note("The GGUF file holds the language model; what looks at pictures or listens is not in it.");
        }
        let traits = Traits {
            layers: base.config.num_hidden_layers(),
            heads_per_group: base.config.num_attention_heads() / base.config.num_key_value_heads().max(1),
            tied: base.config.tie_word_embeddings(),
            has_importance: false,
        };
        let demands = base.config.gguf_demands();
        demands.warnings.iter().for_each(|warning| progress.note(warning));
        let metadata = described::metadata(base, folder.as_deref(), output, progress)?;
        let adapter = adapter.as_ref().map(|adapter| &adapter.tensors);
        let export =
            GgufExport { source: &base.source, adapter, traits, file_type, demands: &demands, metadata: &metadata };
        let exported = export.write(path, progress)?;
        for ((wanted, of), count) in &exported.instead {
            let tensors = counted(*count, "tensor");
            progress.note(&format!("{tensors} of {of} instead of {wanted}, whose blocks their rows do not fill"));
        }
        if exported.constants > 0 {
            let tensors = counted(exported.constants, "tensor");
            progress.note(&format!(
                "{tensors} that the model computes without and llama.cpp asks for: zeros for the keys and values of layers that \
                 read others', ones for scales"
            ));
        }
        Ok(exported)
    }
}
