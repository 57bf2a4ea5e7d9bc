//! The results of a run in the forms that others load.

use crate::adapter::peft::AdapterConfig;
use crate::adapter::{Adapter, peft};
use crate::error::{Kind, Result};
use crate::export::adapter_folder::AdapterFolder;
use crate::export::card::Card;
use crate::export::check;
use crate::hub::ModelFiles;
use crate::jobs::base::{Base, provenance};
use crate::jobs::run::adapter_plan::AdapterPlan;
use crate::progress::Progress;
use crate::recipe::{EmbeddingQuantization, Quantization, Recipe};
use crate::report::{Summary, text};
use std::path::Path;
use std::time::Duration;

/// Writes `adapter/`: PEFT's files, the tokenizer, and a model card.
///
/// # Errors
/// When a number in the adapter is not finite, or the folder cannot be written; an older folder stays then.
pub fn adapter(
    recipe: &Recipe,
    base: &Base,
    plan: &AdapterPlan,
    adapter: &Adapter,
    summary: &Summary,
    folder: &Path,
    progress: &dyn Progress,
) -> Result<()> {
    let (tensors, mut config) = peft::from_adapter(adapter, &plan.config);
    config.base_model_name_or_path = Some(base_name(base));
    config.revision = match &base.files {
        ModelFiles::Folder { revision, .. } => revision.clone(),
        ModelFiles::Gguf { .. } => None,
    };
    let card = card(recipe, base, summary, &config);
    let written =
        AdapterFolder { config: &config, tensors: &tensors, multimodal: base.config.multimodal(), card: &card };
    written.write(folder, |into| {
        // What was trained is written in any case; what is read from the base again may be gone or changed.
        unless_full(base.write_tokenizer(into), "the tokenizer is not beside the adapter", progress)?;
        unless_full(provenance::record(base, into, progress), "the base is not recorded with the adapter", progress)
    })?;
    for path in base.source.changed() {
        let path = path.display();
        progress
            .note(&format!("Warning: `{path}` changed after it was loaded: the adapter is for the former weights."));
    }
    Ok(())
}

/// Turns a failure into a warning that says what is missing; but a disk that is full fails what is written at all.
fn unless_full(result: Result<()>, missing: &str, progress: &dyn Progress) -> Result<()> {
    match result {
        Err(error) if error.kind() != Kind::NoSpace => {
            progress.note(&format!("Warning: {missing}: {}", error.what()));
            Ok(())
        }
        result => result,
    }
}

/// The base as `adapter_config.json` names it: the hub id, or the path without its revision.
fn base_name(base: &Base) -> String {
    match &base.files {
        ModelFiles::Folder { name, .. } => name.clone(),
        ModelFiles::Gguf { path } => path.display().to_string(),
    }
}

/// The form of the base's weights in training, in the recipe's words.
fn held_as(recipe: &Recipe) -> String {
    let word = |value: serde_json::Result<serde_json::Value>| {
        value.ok().and_then(|word| word.as_str().map(str::to_owned)).unwrap_or_default()
    };
    let projections = match recipe.model.quantization {
        Quantization::None => word(serde_json::to_value(recipe.model.dtype)),
        quantization => word(serde_json::to_value(quantization)),
    };
    match recipe.model.embedding_quantization {
        EmbeddingQuantization::None => projections,
        embedding => format!("{projections}, embedding {}", word(serde_json::to_value(embedding))),
    }
}

fn card(recipe: &Recipe, base: &Base, summary: &Summary, config: &AdapterConfig) -> Card {
    let keys = &recipe.training;
    let setting = |name: &str, value: String| (name.to_owned(), value);
    let totals = &summary.totals;
    let loss = |name: &str, value: Option<f64>| value.map(|loss| (name.to_owned(), format!("{loss:.4}")));
    let evaluated = totals.best_eval.map(|best| best.eval_loss);
    let name = recipe.output.dir.file_name().map_or("adapter".into(), |name| name.to_string_lossy().into_owned());
    let is_hub_id = matches!(&base.files, ModelFiles::Folder { dir, name, .. } if Path::new(name) != dir);
    Card {
        name,
        base_model: base_name(base),
        folder: recipe.output.dir.join("adapter").display().to_string(),
        base_is_hub_id: is_hub_id,
        base_revision: config.revision.clone(),
        data: recipe.data.train.iter().map(|source| source.path.clone()).collect(),
        settings: vec![
            setting("learning_rate", keys.learning_rate.to_string()),
            setting("batch", format!("{} x {}", keys.per_device_train_batch_size, keys.gradient_accumulation_steps)),
            setting("max_length", recipe.data.max_length.to_string()),
            setting("base weights held as", held_as(recipe)),
            setting("base fingerprint (BLAKE3 of a sample)", summary.base_fingerprint.clone()),
            setting("seed", keys.seed.to_string()),
            setting("steps", totals.steps.to_string()),
            setting("tokens", text::count(totals.tokens)),
            setting("time", text::duration(Duration::from_secs_f64(totals.seconds.max(0.0)))),
        ],
        results: [
            loss("loss of the base model on the first training rows", summary.base_loss),
            loss("loss of the first step", totals.first_loss),
            loss("loss of the last step", totals.last_loss),
            loss("best evaluation loss", evaluated),
        ]
        .into_iter()
        .flatten()
        .collect(),
        notes: check::notes(config).into_iter().map(|n| format!("{}: {}; {}.", n.tool, n.what, n.advice)).collect(),
    }
}
