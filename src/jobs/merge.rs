//! Base and adapter as one Hugging Face folder.

use crate::adapter::peft::{self, PeftAdapter};
use crate::error::{Error, Kind, Place, Result};
use crate::export::merged::{Merge, Merged};
use crate::export::{companions, folder};
use crate::hub::ModelFiles;
use crate::jobs::base::{Base, adapter_folder, provenance};
use crate::progress::Progress;
use crate::weights::HostDtype;
use serde_json::{Value, json};
use std::path::Path;

/// Merges an adapter into a model and writes the result to `output`.
///
/// # Errors
/// When either cannot be read, they do not fit, or the folder cannot be written.
pub fn merge(model: &str, adapter: &Path, output: &Path, dtype: HostDtype, progress: &dyn Progress) -> Result<Merged> {
    folder::may_write(output, folder::Existing::Refuse)?;
    let adapter = &adapter_folder::find(adapter, progress)?;
    let named = Place::Named(format!("--model {model}"));
    let name_bases = |error| provenance::name_bases(error, model);
    let base = Base::open(model, named, progress, &|config| {
        peft::check(adapter, &config.places_of_judge()).map_err(name_bases)
    })?;
    let folder = adapter;
    let adapter = PeftAdapter::read(folder, &base.config.places_of_judge()).map_err(name_bases)?;
    provenance::warn_of_another_base(folder, &base, progress);
    provenance::warn_of_no_effect(folder, adapter.tensors.is_zero(), progress);
    let config_json = match &base.files {
        ModelFiles::Folder { dir, .. } => {
            let path = dir.join("config.json");
            let text = crate::input::read_to_string(&path).map_err(|e| Error::io("reading", &path, e))?;
            if base.config.tie_word_embeddings() { text } else { untied(&text, &path)? }
        }
        ModelFiles::Gguf { .. } => {
            let name = if dtype == HostDtype::F32 { "float32" } else { "bfloat16" };
            format!("{:#}\n", base.config.to_hf_json(name))
        }
    };
    let config_json = match adapter.config.judges() {
        true => of_judge(&config_json, base.config.multimodal(), &base.path())?,
        false => config_json,
    };
    let small_files = |into: &Path| {
        match &base.files {
            ModelFiles::Folder { dir, .. } => drop(companions::copy_companions(dir, into)?),
            ModelFiles::Gguf { .. } => {
                base.write_tokenizer(into)?;
                let config = &base.config;
                let text =
                    companions::generation_config(config.bos_token_id(), config.eos_token_ids(), config.pad_token_id());
                crate::atomic::write(&into.join("generation_config.json"), text.as_bytes())?;
            }
        }
        provenance::carry(folder, into)
    };
    Merge::new(&base.source, &adapter.tensors, &config_json, dtype).write(output, small_files, progress)
}

/// The text of a `config.json` with which transformers reads a model whose head gives one number for a text.
fn of_judge(text: &str, multimodal: bool, path: &Path) -> Result<String> {
    let wrong = |e| Error::new(Kind::Config, format!("not valid JSON: {e}")).at_path(path);
    let mut config: Value = serde_json::from_str(text).map_err(wrong)?;
    let class = if multimodal { "Gemma3ForSequenceClassification" } else { "Gemma3TextForSequenceClassification" };
    if let Some(top) = config.as_object_mut() {
        top.insert("architectures".into(), json!([class]));
        // Which is how transformers says `num_labels: 1`.
        top.insert("id2label".into(), json!({"0": "LABEL_0"}));
        top.insert("label2id".into(), json!({"LABEL_0": 0}));
    }
    Ok(format!("{config:#}\n"))
}

/// The text of a `config.json` whose head is its own, as the weights have it: readers that believe the key alone would
/// ignore the head.
fn untied(text: &str, path: &Path) -> Result<String> {
    let wrong = |e| Error::new(Kind::Config, format!("not valid JSON: {e}")).at_path(path);
    let mut config: Value = serde_json::from_str(text).map_err(wrong)?;
    let key = "tie_word_embeddings";
    if let Some(inner) = config.get_mut("text_config").filter(|inner| inner.get(key).is_some()) {
        inner[key] = false.into();
    }
    if let Some(top) = config.as_object_mut() {
        top.insert(key.into(), false.into());
    }
    Ok(format!("{config:#}\n"))
}
