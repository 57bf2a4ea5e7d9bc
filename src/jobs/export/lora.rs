//! An adapter as a GGUF file for llama.cpp.

use crate::adapter::peft::{AdapterConfig, PeftAdapter, own_places};
use crate::atomic::check_target;
use crate::error::{Error, Kind, Place, Result};
use crate::export::gguf::lora::{ExportedLora, write_lora};
use crate::hub::{self, HubSettings, ModelFiles};
use crate::jobs::base::headers::Headers;
use crate::jobs::base::{adapter_folder, provenance};
use crate::model::ModelConfig;
use crate::progress::Progress;
use crate::weights::Source;
use crate::weights::gguf::Value;
use crate::weights::names::TensorId;
use std::path::Path;

/// What an adapter is held against.
struct Against {
    config: ModelConfig,
    source: Option<Source>,
}

/// Writes an adapter to `output` as a GGUF file. It is held against the model that is named, or else against the one it
/// was trained on where that is on this machine.
///
/// # Errors
/// When the adapter cannot be read, is none that llama.cpp applies, or does not fit the model; when the file cannot be
/// written.
pub fn export(model: Option<&str>, adapter: &Path, output: &Path, progress: &dyn Progress) -> Result<ExportedLora> {
    let inputs: Vec<&Path> = model.map(Path::new).into_iter().chain([adapter]).collect();
    let _claim = check_target("--output", output, &inputs)?;
    let folder = &adapter_folder::find(adapter, progress)?;
    let (config, _) = AdapterConfig::read(folder)?;
    let recorded = provenance::base_of(folder).or(config.base_model_name_or_path);
    let against = match (model, &recorded) {
        (Some(model), _) => Some(named(model, progress)?),
        (None, Some(base)) => local(base, progress),
        (None, None) => None,
    };
    let places = match &against {
        Some(against) => against.config.places(),
        None => own_places(folder)?,
    };
    let given = model.or(recorded.as_deref()).unwrap_or("its base");
    let tensors = PeftAdapter::read(folder, &places).map_err(|error| provenance::name_bases(error, given))?.tensors;
    provenance::warn_of_no_effect(folder, tensors.is_zero(), progress);
    let architecture = match &against {
        Some(against) => architecture(&against.config)?,
        None => {
            progress.note(
                "The base is not on this machine: the file is written for Gemma 3, unchecked. `--model` names a base to check.",
            );
            "gemma3".to_owned()
        }
    };
    let source = against.as_ref().and_then(|against| against.source.as_ref());
    let holds = |id: &TensorId| id.is_of_text() && source.is_none_or(|source| source.contains(id));
    let name = output.file_stem().unwrap_or_default().to_string_lossy();
    write_lora(output, &architecture, &name, &tensors, holds)
}

/// The model that the user named.
fn named(model: &str, progress: &dyn Progress) -> Result<Against> {
    let place = Place::Named(format!("--model {model}"));
    let files = hub::find_small_files(model, &HubSettings::from_env()?, progress).map_err(|e| e.or_at(place))?;
    match &files {
        ModelFiles::Folder { dir, revision: Some(_), .. } => {
            Ok(Against { config: ModelConfig::from_folder(dir)?.0, source: None })
        }
        files => opened(files, progress),
    }
}

/// A model by the name that an adapter has for it; `None` where it is not here, or no longer what it was.
fn local(base: &str, progress: &dyn Progress) -> Option<Against> {
    let settings = HubSettings { offline: true, ..HubSettings::from_env().ok()? };
    let files = hub::find_model(base, &settings, progress, &|_| Ok(())).ok();
    let opened = files.and_then(|files| opened(&files, progress).ok());
    let published = || Some(Against { config: ModelConfig::published(base).ok()??, source: None });
    opened.or_else(published)
}

fn opened(files: &ModelFiles, progress: &dyn Progress) -> Result<Against> {
    let Headers { config, source, warnings, .. } = Headers::open(files)?;
    warnings.iter().for_each(|warning| progress.note(warning));
    Ok(Against { config, source: Some(source) })
}

/// The architecture's name in GGUF files.
fn architecture(config: &ModelConfig) -> Result<String> {
    let keys = config.to_gguf()?;
    let found = keys.into_iter().find_map(|(key, value)| match value {
        Value::String(name) if key == "general.architecture" => Some(name),
        _ => None,
    });
    found.ok_or_else(|| Error::new(Kind::Config, "this architecture has no name in GGUF files"))
}
