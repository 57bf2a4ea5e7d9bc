//! A model as a GGUF file.

use super::described;
use crate::adapter::peft::{self, AdapterTensors, PeftAdapter};
use crate::atomic::check_target;
use crate::error::{Place, Result};
use crate::export::gguf::mixture::{FileType, Traits};
use crate::export::gguf::{Exported, GgufExport};
use crate::jobs::base::{Base, adapter_folder, provenance};
use crate::model::ModelConfig;
use crate::progress::{Progress, counted};
use crate::weights::names::TensorId;
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
    Opened::language_model(model, adapter, progress)?.write(file_type, output, output, progress)
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
    /// Opens both for a file of the language model.
    ///
    /// # Errors
    /// When either cannot be read, they do not fit, or the model cannot be said in a GGUF file.
    pub fn language_model(model: &str, adapter: Option<&Path>, progress: &dyn Progress) -> Result<Self> {
        Opened::open(model, adapter, progress, &|config| config.to_gguf().map(|_| ()))
    }

    /// Opens both; `accept` has a say before gigabytes are downloaded.
    ///
    /// # Errors
    /// When either cannot be read, or they do not fit, and those of `accept`.
    pub fn open(
        model: &str,
        adapter: Option<&Path>,
        progress: &dyn Progress,
        accept: &dyn Fn(&ModelConfig) -> Result<()>,
    ) -> Result<Self> {
        let folder = adapter.map(|adapter| adapter_folder::find(adapter, progress)).transpose()?;
        let named = Place::Named(format!("--model {model}"));
        let name_bases = |error| provenance::name_bases(error, model);
        let base = Base::open(model, named, progress, &|config| {
            accept(config)?;
            folder.as_deref().map_or(Ok(()), |folder| peft::check(folder, config).map_err(name_bases))
        })?;
        let adapter = folder.as_deref().map(|folder| {
            let adapter = PeftAdapter::read(folder, &base.config.places()).map_err(name_bases)?;
            provenance::warn_of_another_base(folder, &base, progress);
            provenance::warn_of_no_effect(folder, adapter.tensors.is_zero(), progress);
            Result::Ok(adapter)
        });
        let adapter = adapter.transpose()?;
        // A file or folder on this machine was not asked before.
        accept(&base.config)?;
        Ok(Opened { base, folder, adapter })
    }

    /// The part of the adapter on the weights that `keep` says.
    pub fn adapter(&self, keep: impl Fn(&TensorId) -> bool) -> Option<AdapterTensors> {
        self.adapter.as_ref().map(|adapter| adapter.tensors.only(keep))
    }

    /// Writes the file to `path`; it is called as `output` is.
    ///
    /// # Errors
    /// As [`export`].
    pub fn write(&self, file_type: FileType, path: &Path, output: &Path, progress: &dyn Progress) -> Result<Exported> {
        let Opened { base, folder, .. } = self;
        let has_file_of_towers = base.config.to_mmproj().is_ok();
        if base.config.multimodal() {
            let said = "The GGUF file holds the language model; what looks at pictures or listens is not in it";
            let more = if has_file_of_towers { ": `export gguf-mmproj` writes that" } else { "" };
            progress.note(&format!("{said}{more}."));
        }
        // What no other file holds either is refused.
        let adapter = self.adapter(|id| id.is_of_text() || !has_file_of_towers);
        let all = self.adapter(|_| true);
        if adapter != all {
            progress.note(
                "Warning: a part of the adapter is on what looks at pictures, and not in this file: \
                 `export gguf-mmproj --adapter` writes that part.",
            );
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
        let adapter = adapter.as_ref();
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
