//! Base and adapter as one Hugging Face folder.

use crate::adapter::peft::{self, PeftAdapter};
use crate::error::{Error, Place, Result};
use crate::export::merged::{Merge, Merged};
use crate::export::{companions, folder};
use crate::hub::ModelFiles;
use crate::jobs::base::{Base, provenance};
use crate::progress::Progress;
use crate::weights::HostDtype;
use std::path::Path;

/// Merges an adapter into a model and writes the result to `output`.
///
/// # Errors
/// When either cannot be read, they do not fit, or the folder cannot be written.
pub fn merge(model: &str, adapter: &Path, output: &Path, dtype: HostDtype, progress: &dyn Progress) -> Result<Merged> {
    folder::may_write(output, folder::Existing::Refuse)?;
    let base =
        Base::open(model, Place::Named(format!("--model {model}")), progress, &|config| peft::check(adapter, config))?;
    provenance::warn_of_another_base(adapter, &base, progress);
    let adapter = PeftAdapter::read(adapter, &base.config.sites())?;
    let config_json = match &base.files {
        ModelFiles::Folder { dir, .. } => {
            let path = dir.join("config.json");
            crate::input::read_to_string(&path).map_err(|e| Error::io("reading", &path, e))?
        }
        ModelFiles::Gguf { .. } => {
            let name = if dtype == HostDtype::F32 { "float32" } else { "bfloat16" };
            format!("{:#}\n", base.config.to_hf_json(name))
        }
    };
    let small_files = |into: &Path| match &base.files {
        ModelFiles::Folder { dir, .. } => companions::copy_companions(dir, into).map(|_| ()),
        ModelFiles::Gguf { .. } => {
            base.write_tokenizer(into)?;
            let config = &base.config;
            let text = companions::generation_config(config.bos_token_id, &config.eos_token_ids, config.pad_token_id);
            crate::atomic::write(&into.join("generation_config.json"), text.as_bytes())
        }
    };
    Merge::new(&base.source, &adapter.tensors, &config_json, dtype).write(output, small_files, progress)
}
