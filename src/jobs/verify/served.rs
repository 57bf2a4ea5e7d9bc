//! What vLLM makes of an adapter.

use crate::adapter::peft::{PeftAdapter, TENSORS_FILE};
use crate::error::{Place, Result};
use crate::export::check::{self, Served, ServedBase};
use crate::hub::ModelFiles;
use crate::jobs::base::{Base, adapter_folder, provenance};
use crate::progress::Progress;
use crate::weights::names::{Spelling, parse_peft_key};
use crate::weights::safetensors_file::SafetensorsFile;
use std::path::Path;

/// What vLLM refuses or ignores of an adapter on a base, and the options it needs. Nothing is computed.
///
/// # Errors
/// When either cannot be read, or they do not fit.
pub fn vllm(model: &str, adapter: &Path, progress: &dyn Progress) -> Result<Served> {
    let folder = adapter_folder::find(adapter, progress)?;
    let base = Base::open(model, Place::Named(format!("--model {model}")), progress, &|_| Ok(()))?;
    let read = PeftAdapter::read(&folder, &base.config.places()).map_err(|e| provenance::name_bases(e, model))?;
    let file = SafetensorsFile::open(&folder.join(TENSORS_FILE))?;
    let names = file.header().tensors.iter().filter_map(|entry| parse_peft_key(&entry.name));
    let spelling = names.into_iter().find(|(_, id, _)| id.is_of_text()).map(|(spelling, ..)| spelling);
    let multimodal = base.config.multimodal();
    Ok(check::vllm(
        &read.config,
        ServedBase {
            architecture: base.config.architecture(),
            multimodal,
            is_gguf: matches!(base.files, ModelFiles::Gguf { .. }),
            named_multimodal: spelling.map_or(multimodal, |spelling| spelling != Spelling::Text),
            on_towers: read.tensors.are_on_towers(),
        },
    ))
}
