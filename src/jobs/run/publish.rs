//! The results of a run in the forms that others load.

use crate::adapter::peft::AdapterConfig;
use crate::adapter::{Adapter, peft};
use crate::atomic;
use crate::error::{Kind, Result};
use crate::export::adapter_folder::AdapterFolder;
use crate::export::card::{Card, shared};
use crate::export::check;
use crate::export::plot::{self, Measure};
use crate::hub::ModelFiles;
use crate::jobs::base::{Base, provenance};
use crate::jobs::run::adapter_plan::AdapterPlan;
use crate::progress::Progress;
use crate::recipe::{EmbeddingQuantization, Quantization, Recipe, Remarks, Sink};
use crate::report::{Summary, jsonl, text};
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
    let picture = picture(recipe, folder);
    let plot = picture.as_ref().map(|(measure, _)| *measure);
    let card = Card { plot, ..card(recipe, base, summary, &config) };
    let readme = card.render(&config);
    let written =
        AdapterFolder { config: &config, tensors: &tensors, multimodal: base.config.multimodal(), card: &readme };
    written.write(folder, |into| {
        if let Some((measure, picture)) = &picture {
            atomic::write(&into.join(measure.file()), picture.as_bytes())?;
        }
        // What was trained is written in any case; what is read from the base again may be gone or changed.
        unless_full(base.write_tokenizer(into), "the tokenizer is not beside the adapter", progress)?;
        let recorded = provenance::record(base, &card, &readme, into, progress);
        unless_full(recorded, "the base is not recorded with the adapter", progress)
    })?;
    for path in base.source.changed() {
        let path = path.display();
        progress
            .note(&format!("Warning: `{path}` changed after it was loaded: the adapter is for the former weights."));
    }
    Ok(())
}

/// The losses of the run as a picture, or the rewards of one that learnt from them, where it wrote them down.
fn picture(recipe: &Recipe, folder: &Path) -> Option<(Measure, String)> {
    recipe.output.report_to.contains(&Sink::Jsonl).then_some(())?;
    let measure = if recipe.task.answers() { Measure::Reward } else { Measure::Loss };
    let curve = jsonl::curve(&folder.with_file_name("metrics.jsonl"), measure.metric()).ok()?;
    Some((measure, plot::draw(measure, &curve.steps, &curve.evaluations)?))
}

/// The ids of the data sets of the Hub among the sources of rows.
fn datasets(recipe: &Recipe) -> Vec<String> {
    let mut ids: Vec<String> = Vec::new();
    for source in &recipe.data.train {
        let parts = source.path.strip_prefix("hf://datasets/").map(|rest| rest.splitn(3, '/').collect::<Vec<_>>());
        let Some([owner, name, ..]) = parts.as_deref() else { continue };
        let id = format!("{owner}/{}", name.split('@').next().unwrap_or(name));
        if !ids.contains(&id) {
            ids.push(id);
        }
    }
    ids
}

/// The recipe for others: without what it has by default, and without paths that tell whose machine it was.
fn told(recipe: &Recipe) -> String {
    let mut recipe = recipe.clone();
    recipe.model.base = shared(&recipe.model.base);
    for source in recipe.data.train.iter_mut().chain(&mut recipe.data.eval) {
        source.path = shared(&source.path);
    }
    for path in recipe.adapter.init_from.iter_mut().chain([&mut recipe.output.dir]) {
        *path = shared(&path.to_string_lossy()).into();
    }
    recipe.remarks = Remarks::default();
    recipe.to_brief_yaml(&[])
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
    let loss = |name: &str, value: Option<f64>| value.map(|loss| (name.to_owned(), text::metric(loss)));
    let (metric, _) = recipe.best_by();
    let evaluated = totals.best_eval.as_ref().and_then(|best| best.get(&metric));
    let best = if metric == "eval_loss" { "best evaluation loss".into() } else { format!("best `{metric}`") };
    let name = recipe.output.dir.file_name().map_or("adapter".into(), |name| name.to_string_lossy().into_owned());
    let is_hub_id = matches!(&base.files, ModelFiles::Folder { dir, name, .. } if Path::new(name) != dir);
    Card {
        name,
        base_model: base_name(base),
        folder: recipe.output.dir.join("adapter").display().to_string(),
        base_is_hub_id: is_hub_id,
        base_revision: config.revision.clone(),
        repository: None,
        data: recipe.data.train.iter().map(|source| shared(&source.path)).collect(),
        datasets: datasets(recipe),
        recipe: Some(told(recipe)),
        plot: None,
        versions: summary.versions.clone().into_iter().collect(),
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
            loss("mean reward of the first step", totals.first_reward),
            loss("mean reward of the last step", totals.last_reward),
            loss(&best, evaluated),
        ]
        .into_iter()
        .flatten()
        .collect(),
        notes: check::notes(config).into_iter().map(|n| format!("{}: {}; {}.", n.tool, n.what, n.advice)).collect(),
    }
}
