//! Whether an adapter does something, and whether what was made of it says the same.

mod limits;
mod rows;
pub mod served;

use self::rows::{Compared, Rows};
use crate::adapter::gguf::{self, GgufAdapter};
use crate::adapter::peft;
use crate::error::{Error, Kind, Place, Result};
use crate::eval::divergence::{Divergence, NextWord};
use crate::export::gguf::mixture::FileType;
use crate::hub::{self, HubSettings};
use crate::infer::score as infer;
use crate::jobs::base::headers::Headers;
use crate::jobs::base::peft_model::PeftModel;
use crate::jobs::media::{self, Features};
use crate::jobs::score::Input;
use crate::model::ModelConfig;
use crate::nn::{BaseOnly, SidePath};
use crate::progress::{Progress, Silent};
use crate::report::ProgressBar;
use crate::weights::Source;
use crate::weights::names::{Projection, TensorId};
use serde::Serialize;
use std::path::{Path, PathBuf};

/// Positions whose logits are made at once: 16 of Gemma's are 17 MB.
const TILE: usize = 16;

/// What is compared with what.
#[derive(Debug, Clone)]
pub struct Exports {
    /// The base, as the user named it.
    pub model: String,
    /// The adapter's folder.
    pub adapter: PathBuf,
    /// Merged folders.
    pub merged: Vec<PathBuf>,
    /// Whole models as GGUF files.
    pub gguf: Vec<PathBuf>,
    /// Adapters as GGUF files.
    pub gguf_lora: Vec<PathBuf>,
    /// Rows, and the file that they are from.
    pub input: Option<(PathBuf, Vec<Input>)>,
    /// Tokens that are compared at most.
    pub tokens: usize,
    /// Where models compute.
    pub device: String,
}

/// A model beside base and adapter.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Line {
    /// What it is: `base`, `merged`, `gguf`, `gguf-lora`.
    pub what: &'static str,
    /// Where it is; the base is where the user named it.
    pub path: String,
    /// How its weights are stored: `BF16`, `Q4_K_M`.
    pub stored: Option<String>,
    /// The mean divergence from base and adapter, `KL(base + adapter || this)`, in nats per token.
    pub mean_kl: f64,
    /// The largest of a token.
    pub max_kl: f64,
    /// The share of tokens with the same most likely next word.
    pub top_1: f64,
    /// How much of the adapter's effect is in it: 1 all, 0 none.
    pub effect: Option<f64>,
    /// What `mean_kl` may be; of the base nothing is expected.
    pub limit: Option<f64>,
    /// Whether its tokenizer makes the same tokens of the rows, where it was asked.
    pub same_tokens: Option<bool>,
}

/// What a comparison found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// Where the rows are from.
    pub rows_from: String,
    /// Rows that were read.
    pub rows: usize,
    /// Positions at which next words were compared.
    pub tokens: usize,
    /// The base first, which shows what the adapter does, then each export.
    pub compared: Vec<Line>,
    /// What is wrong; nothing where every export is what was trained.
    pub problems: Vec<String>,
}

/// Compares the base, and each export, with base and adapter: one model is in memory at a time, and of base and adapter, and of
/// the base, the logits at the positions that are compared.
///
/// # Errors
/// When something cannot be read, or does not belong to the others. What is wrong with an export is no error: the report says
/// it.
pub fn verify(exports: Exports, screen: &ProgressBar) -> Result<Report> {
    let Exports { model, adapter, merged, gguf: whole, gguf_lora, input, tokens, device } = exports;
    must_exist("--merged", &merged, Path::is_dir)?;
    must_exist("--gguf", &whole, Path::is_file)?;
    must_exist("--gguf-lora", &gguf_lora, Path::is_file)?;
    let input = input.as_ref().map(|(path, rows)| (path.as_path(), rows.clone()));
    if let Some((_, rows)) = input.as_ref().filter(|_| !whole.is_empty()) {
        rows::without_media(rows)?;
    }
    // What is wrong with an export is known before anything is loaded.
    let shapes = Shapes::of(merged.iter().chain(&whole))?;
    let tuned = PeftModel::open_exact("--model", &model, Some(&adapter), &device, screen)?;
    shapes.check(&tuned.base.config)?;
    let places = tuned.base.config.places();
    let loras: Vec<GgufAdapter> =
        gguf_lora.iter().map(|path| gguf::read(path, &places.sites)).collect::<Result<_>>()?;
    let folder = tuned.adapter.as_ref().map_or(adapter.as_path(), |(folder, _)| folder);
    let mut rows = Rows::find(input, folder, &tuned.base, screen)?;

    let tuned = tuned.load(screen)?;
    let (compared, features) = rows.compared(&tuned, tokens.max(1), !whole.is_empty(), screen)?;
    let read = |model: &PeftModel, side: &dyn SidePath, features: Option<&Features>, what: &str| {
        let mut all = Vec::new();
        next_words(&Asked { model, side, features, rows: &compared, what }, screen, &mut |tile| all.extend(tile))?;
        Result::Ok(all)
    };
    let reference = read(&tuned, tuned.side(), features.as_ref(), "base and adapter")?;
    let base = read(&tuned, &BaseOnly, features.as_ref(), "the base")?;
    // What others say is compared tile by tile, and not kept.
    let compare = |model: &PeftModel, side: &dyn SidePath, features: Option<&Features>, what: &str| {
        let (mut divergence, mut at) = (Divergence::default(), 0);
        next_words(&Asked { model, side, features, rows: &compared, what }, screen, &mut |tile| {
            let rows = at..at + tile.len();
            divergence.add(&reference[rows.clone()], &base[rows.clone()], &tile);
            at = rows.end;
        })?;
        Result::Ok(divergence)
    };

    let mut of_base = Divergence::default();
    of_base.add(&reference, &base, &base);
    let mut lines = vec![Line { effect: None, ..line("base", model.clone(), None, None, &of_base) }];
    for (path, GgufAdapter { tensors, stored }) in gguf_lora.iter().zip(loras) {
        let name = path.display().to_string();
        let side = peft::to_device(&tensors, tuned.model.as_ref());
        let divergence = compare(&tuned, &side, features.as_ref(), &name)?;
        lines.push(line("gguf-lora", name, Some(stored), None, &divergence));
    }
    drop((tuned, features));

    let merged = merged.iter().map(|path| ("merged", "--merged", path));
    let whole = whole.iter().map(|path| ("gguf", "--gguf", path));
    for (what, option, path) in merged.chain(whole) {
        let name = path.display().to_string();
        let other = PeftModel::open_exact(option, &name, None, &device, screen)?.load(screen)?;
        let stored = stored(&other.base.source);
        let (features, same_tokens) = rows.under(&other, &compared, screen)?;
        let divergence = compare(&other, &BaseOnly, features.as_ref(), &name)?;
        lines.push(line(what, name, Some(stored), same_tokens, &divergence));
    }
    let problems = problems(&lines);
    Ok(Report { rows_from: rows.from, rows: compared.len(), tokens: reference.len(), compared: lines, problems })
}

/// The shapes of exports, by their headers.
struct Shapes(Vec<(PathBuf, ModelConfig)>);

impl Shapes {
    /// Reads the headers of models on this machine.
    fn of<'p>(paths: impl Iterator<Item = &'p PathBuf>) -> Result<Self> {
        let settings = HubSettings { offline: true, ..HubSettings::from_env()? };
        let shape = |path: &PathBuf| {
            let files = hub::find_model(&path.display().to_string(), &settings, &Silent, &|_| Ok(()));
            let files = files.map_err(|error| error.or_at(Place::Path(path.clone())))?;
            Result::Ok((path.clone(), Headers::open(&files)?.config))
        };
        Ok(Shapes(paths.map(shape).collect::<Result<_>>()?))
    }

    /// Refuses what cannot have been made of a model of this shape.
    fn check(&self, base: &ModelConfig) -> Result<()> {
        let wrong = self.0.iter().filter_map(|(path, config)| {
            let sizes =
                |config: &ModelConfig| [("words", config.vocab_size()), ("numbers a word", config.hidden_size())];
            let pairs = sizes(config).into_iter().zip(sizes(base));
            let ((what, found), (_, wanted)) = pairs.into_iter().find(|((_, found), (_, wanted))| found != wanted)?;
            let what = format!("this model has {found} {what}, and base and adapter have {wanted}");
            Some(Error::new(Kind::Weights, what).at_path(path).hint("it was made of another model"))
        });
        Error::many(wrong.collect()).map_or(Ok(()), Err)
    }
}

/// Refuses names of nothing: they would be looked for on the Hub.
fn must_exist(option: &str, paths: &[PathBuf], is_right: fn(&Path) -> bool) -> Result<()> {
    let wrong = paths.iter().filter(|path| !is_right(path)).map(|path| {
        let what = match path.exists() {
            true => format!("`{option}` names {}", if path.is_dir() { "a folder" } else { "a file" }),
            false => "there is no such file or folder".to_owned(),
        };
        Error::new(Kind::Recipe, what).at(Place::Named(format!("{option} {}", path.display())))
    });
    Error::many(wrong.collect()).map_or(Ok(()), Err)
}

/// A model in the report.
fn line(
    what: &'static str,
    path: String,
    stored: Option<String>,
    same_tokens: Option<bool>,
    divergence: &Divergence,
) -> Line {
    Line {
        what,
        path,
        limit: stored.as_deref().map(limits::of),
        stored,
        mean_kl: divergence.mean(),
        max_kl: divergence.max(),
        top_1: divergence.top_1(),
        effect: divergence.effect(),
        same_tokens,
    }
}

/// A model, what runs beside it, and the rows that it reads.
struct Asked<'a> {
    model: &'a PeftModel,
    side: &'a dyn SidePath,
    features: Option<&'a Features>,
    rows: &'a [Compared],
    what: &'a str,
}

/// Hands `each` what a model thinks of the next word at each position that is compared, some positions at a time.
fn next_words(asked: &Asked, progress: &dyn Progress, each: &mut dyn FnMut(Vec<NextWord>)) -> Result<()> {
    let Asked { model, side, features, rows, what } = *asked;
    let words = model.base.config.vocab_size();
    progress.start(&format!("Reading the rows with {what}"), Some(rows.len() as u64), "rows");
    for row in rows {
        let wanted: Vec<usize> = row.positions().collect();
        let mut inputs = media::inputs(row.tokens.input_ids.clone(), &row.tokens.media, features)?;
        let read = inputs.truncate(row.read);
        let hidden = infer::hidden(model.model.as_ref(), side, &inputs);
        for start in (0..read).step_by(TILE) {
            let len = TILE.min(read - start);
            let logits = infer::logits(model.model.as_ref(), &hidden, start, len);
            let tile = NextWord::rows(&logits, words);
            if let Some(at) = tile.iter().position(|next| !next.is_finite()) {
                let wrong = format!("the logits after token {} are not finite", start + at + 1);
                let hint = "the model or its adapter is damaged, or had diverged in training";
                let place = Place::Named(format!("{what}, {}", row.place));
                return Err(Error::new(Kind::NonFinite, wrong).at(place).hint(hint));
            }
            let kept = (start..).zip(tile).filter(|(at, _)| wanted.binary_search(at).is_ok());
            each(kept.map(|(_, next)| next).collect());
        }
        progress.advance(1);
    }
    progress.finish();
    Ok(())
}

/// The kind of a model's file, or the type of the first of its projections.
fn stored(source: &Source) -> String {
    let kind = source.gguf().and_then(|gguf| gguf.metadata().u64("general.file_type")).and_then(FileType::numbered);
    let of_tensor = || source.stored_dtype(&TensorId::Projection(0, Projection::Q));
    kind.map(|kind| kind.name().to_owned()).or_else(of_tensor).unwrap_or_else(|| "unknown".to_owned())
}

/// What the numbers say is wrong.
fn problems(lines: &[Line]) -> Vec<String> {
    let mut problems = Vec::new();
    let nothing = lines.iter().any(|line| line.what == "base" && line.max_kl < limits::NOTHING);
    if nothing {
        problems.push("the adapter changes nothing: with it the base says what it says without".to_owned());
    }
    for Line { what, path, stored, mean_kl, effect, limit, same_tokens, .. } in lines {
        let stored = stored.as_deref().unwrap_or_default();
        if let Some(limit) = limit.filter(|limit| *mean_kl > *limit) {
            problems.push(format!(
                "the {what} `{path}` is not what was trained: it is {mean_kl:.2e} nats off, and {limit:.0e} is the limit of \
                 {stored}"
            ));
        }
        if let Some(effect) = effect.filter(|effect| !nothing && *effect < limits::LEAST_EFFECT) {
            let percent = 100.0 * effect;
            problems.push(format!(
                "the {what} `{path}` has {percent:.0} % of the adapter's effect: the adapter is not in it, or at another scale"
            ));
        }
        if *same_tokens == Some(false) {
            problems.push(format!("the tokenizer of the {what} `{path}` makes other tokens of the rows"));
        }
    }
    problems
}
