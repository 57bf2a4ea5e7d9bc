//! Models and adapters side by side: losses, answers and choices on the same rows.

mod answers;
mod metrics;
mod questions;
mod report;
mod targets;
mod thresholds;
mod trained;

pub use self::answers::{Answer, Asking, Latency};
pub use self::metrics::MetricReport;
pub use self::questions::Questions;
pub use self::report::{Evaluation, Report, Worst, row_lines};
use self::targets::Target;
pub use self::thresholds::Thresholds;

use crate::adapter::peft::{self, AdapterTensors, PeftAdapter};
use crate::atomic;
use crate::data::Dataset;
use crate::device::{self, Compute};
use crate::error::{Error, Kind, Place, Result};
use crate::eval::metric::Metric;
use crate::hub::{self, HubSettings};
use crate::jobs::base::peft_model::alone;
use crate::jobs::base::{Base, adapter_folder, provenance};
use crate::jobs::forecast::frozen::Frozen;
use crate::jobs::run::data::Data;
use crate::jobs::run::evaluation::{RowLosses, pair_rewards, row_losses, row_rewards};
use crate::jobs::run::rewards::Rewards;
use crate::jobs::run::rollouts::{Exam, Line, Policies};
use crate::jobs::run::settings::RunSettings;
use crate::model::SCORE;
use crate::nn::{BaseOnly, SidePath};
use crate::progress::Progress;
use crate::recipe::{Given, Reading, Recipe, Task};
use crate::report::ProgressBar;
use crate::train::backprop;
use crate::weights::{Compression, Holding};
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What is asked.
#[derive(Debug)]
pub struct Asked {
    /// Models by themselves. All others are compared with the first.
    pub models: Vec<String>,
    /// Adapters beside the first model.
    pub adapters: Vec<PathBuf>,
    /// The rows.
    pub rows: Option<Rows>,
    /// Questions with choices.
    pub questions: Option<Questions>,
    /// Metrics of answers; without any nothing is generated.
    pub metrics: Vec<&'static Metric>,
    /// How prompts are answered.
    pub asking: Asking,
    /// Where models compute.
    pub device: String,
}

/// Rows to measure on, by the recipe that says how they are read.
#[derive(Debug)]
pub struct Rows {
    recipe: Recipe,
    is_own: bool,
}

impl Rows {
    /// The evaluation rows of a recipe.
    pub fn of_recipe(recipe: Recipe) -> Self {
        Rows { recipe, is_own: true }
    }

    /// All rows of a file, read as a recipe without further keys reads them.
    ///
    /// # Errors
    /// Every problem of what was given.
    pub fn of_file(input: &str, model: &str, set: &[String]) -> Result<Self> {
        let given = |option, key, value: &str, is_list| Given { option, key, values: vec![value.to_owned()], is_list };
        let given = [
            given("--model", "model.base", model, false),
            given("--input", "data.train", input, true),
            given("--output", "output.dir", "out", false), // which every recipe has, and nothing here writes to
        ];
        // All of them are measured on.
        let set: Vec<String> = set.iter().cloned().chain(["data.eval_fraction=0".to_owned()]).collect();
        Ok(Rows { recipe: Reading::made(&given, &set).finish()?, is_own: false })
    }

    /// What losses of them are of, where that is not all that is learnt.
    fn of(&self) -> &'static str {
        match self.recipe.task {
            Task::Sft => "",
            Task::Dpo | Task::Orpo | Task::Reward => " of the preferred answers",
            Task::Kto => " of the good answers",
            Task::Grpo | Task::Rloo => " of nothing", // its rows have no answers: the model's own are judged
        }
    }

    /// The base that the recipe names.
    pub fn base(&self) -> &str {
        &self.recipe.model.base
    }

    /// Refuses a recipe that names none, and one whose answers nobody can judge.
    fn check(&self, progress: &dyn Progress) -> Result<()> {
        let data = &self.recipe.data;
        let has_some = !self.is_own || !data.eval.is_empty() || data.eval_fraction.holds_back();
        if !has_some {
            return Err(no_rows());
        }
        Error::many(Rewards::missing(&self.recipe.rewards, progress)).map_or(Ok(()), Err)
    }

    /// The rows that are measured on.
    fn dataset<'d>(&self, data: &'d Data) -> Result<&'d Dataset> {
        let rows = if self.is_own { data.eval.as_ref() } else { Some(&data.train) };
        rows.ok_or_else(no_rows)
    }
}

fn no_rows() -> Error {
    let hint = "name rows that the adapter was not trained on, as in `--set data.eval=other.jsonl`; `data.eval_fraction` holds \
                back what the adapter's run held back only where it is the same there";
    Error::new(Kind::Recipe, "the recipe has no evaluation data").hint(hint)
}

/// A model, or a model with an adapter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Contestant {
    /// The model, as the user named it.
    pub model: String,
    /// The adapter's folder.
    pub adapter: Option<PathBuf>,
}

impl Contestant {
    /// What tells it from the others.
    pub fn name(&self) -> String {
        self.adapter.as_ref().map_or(self.model.clone(), |adapter| adapter.display().to_string())
    }
}

/// What was measured of one.
#[derive(Debug)]
struct Measured {
    contestant: Contestant,
    losses: Option<RowLosses>,
    /// What a reward model gives the two answers of each pair.
    rewards: Option<Vec<[f64; 2]>>,
    /// What it gives each row that is judged by itself, and whether that is a good one.
    judged_rows: Option<Vec<(f64, bool)>>,
    /// Its answers to each prompt, as the recipe's rewards judge them.
    judged: Option<Vec<Vec<Line>>>,
    /// What the losses are of, row by row.
    targets: Option<Arc<[Target]>>,
    answers: Option<(Vec<Answer>, Latency)>,
    loglikelihoods: Option<Vec<Vec<f64>>>,
}

/// Where rows come from, and what they say, for people.
#[derive(Debug, Default)]
struct Origins {
    places: Vec<String>,
    texts: Vec<String>,
    /// Of which adapters they are known.
    known: Vec<String>,
    /// Whether they are prompts by themselves, which somebody has judged.
    are_prompts: bool,
}

/// Measures all of them on the same rows and questions, one model in memory at a time.
///
/// # Errors
/// When something cannot be read, the rows of two models are not the same, or a number is not finite.
pub fn evaluate(asked: &Asked, screen: &ProgressBar) -> Result<Report> {
    // Models are opened one after the other: that the last one's files are to be written is known before the first.
    let settings = HubSettings::from_env()?;
    asked.models.iter().filter_map(|m| hub::on_this_machine(m, &settings)).try_for_each(|m| atomic::will_read(&m))?;
    let located = |rows: &Rows| rows.check(screen).map_err(|error| rows.recipe.places.locate(error));
    asked.rows.iter().try_for_each(located)?;
    if !asked.metrics.is_empty() && asked.rows.as_ref().is_some_and(|rows| rows.recipe.task.answers()) {
        return Err(Error::new(Kind::Recipe, "the rows have no answers to compare others with: rewards judge them")
            .at(Place::Named("--generate".into()))
            .hint("leave `--generate` and `--metrics` out: the model's own answers are given and judged anyway"));
    }
    let placed = |model: &str, error: Error| {
        let error = provenance::name_bases(error, model);
        match &asked.rows {
            Some(rows) => rows.recipe.places.locate(error),
            None => error,
        }
    };
    // What is wrong with the last of them is known before the first is measured.
    let open = |(number, model): (usize, &String)| {
        let adapters = if number == 0 { asked.adapters.as_slice() } else { &[] };
        Opened::open(asked, model, adapters, screen).map_err(|error| placed(model, error))
    };
    let opened: Vec<Opened> = asked.models.iter().enumerate().map(open).collect::<Result<_>>()?;
    let mut all = Vec::new();
    let mut origins = Origins::default();
    for opened in opened {
        let model = opened.model.clone();
        all.extend(opened.measure(asked, &mut origins, screen).map_err(|error| placed(&model, error))?);
    }
    let report = report::report(asked, &all, &origins)?;
    report.warnings.iter().for_each(|warning| screen.note(&format!("Warning: {warning}")));
    Ok(report)
}

/// One model, and the adapters beside it, whose small files are read.
struct Opened {
    /// The model, as the user named it.
    model: String,
    base: Base,
    /// The adapters' folders.
    folders: Vec<PathBuf>,
    /// Their tensors.
    tensors: Vec<AdapterTensors>,
    holding: Holding,
    compute: Compute,
}

impl Opened {
    /// Opens them; weights are not loaded yet.
    fn open(asked: &Asked, model: &str, adapters: &[PathBuf], screen: &ProgressBar) -> Result<Self> {
        let rows = asked.rows.as_ref();
        // The recipe says how its own base is held.
        let own = rows.filter(|rows| rows.is_own && rows.base() == model);
        let settings = own.map(|rows| RunSettings::of(&rows.recipe));
        let compute = match &settings {
            Some(settings) => settings.open_device(&asked.device)?,
            None => device::open(&asked.device)?,
        };
        let folders: Vec<PathBuf> =
            adapters.iter().map(|named| adapter_folder::find(named, screen)).collect::<Result<_>>()?;
        let named =
            if own.is_some() { Place::Key("model.base".into()) } else { Place::Named(format!("--model {model}")) };
        let base = Base::open_any(model, named, screen, &|config| {
            let check = |folder: &PathBuf| alone(config).and_then(|()| peft::check(folder, &config.places_of_judge()));
            folders.iter().try_for_each(check)
        })?;
        if !folders.is_empty() {
            alone(&base.config)?;
        }
        if asked.questions.is_some() || !asked.metrics.is_empty() {
            base.tokenizer()?;
        }
        let places = base.config.places_of_judge();
        let read: Vec<PeftAdapter> =
            folders.iter().map(|folder| PeftAdapter::read(folder, &places)).collect::<Result<_>>()?;
        check_judges(asked, &read, base.config.judges())?;
        let tensors = read.into_iter().map(|read| read.tensors).collect();
        let holding = match &settings {
            Some(settings) => {
                Frozen::of(&base).check(&settings.holding)?;
                settings.holding
            }
            None if base.source.gguf().is_some() => {
                Holding { projections: Compression::AsStored, ..Holding::default() }
            }
            None => Holding::default(),
        };
        folders.iter().for_each(|folder| provenance::warn_of_another_base(folder, &base, screen));
        Ok(Opened { model: model.to_owned(), base, folders, tensors, holding, compute })
    }

    /// Measures the model alone, and with each adapter.
    fn measure(self, asked: &Asked, origins: &mut Origins, screen: &ProgressBar) -> Result<Vec<Measured>> {
        let Opened { model, base, folders, tensors, holding, compute } = self;
        let rows = asked.rows.as_ref();
        let on_towers = tensors.iter().any(|tensors| tensors.are_on_towers());
        let data = rows.map(|rows| prepare(rows, &base, on_towers, &holding, &compute, screen)).transpose()?;
        let data = match (rows, &data) {
            (Some(rows), Some(data)) => Some((data, rows.dataset(data)?)),
            _ => None,
        };
        if let Some((_, dataset)) = data {
            origins.agree(&base, dataset, &model)?;
            origins.known.extend(folders.iter().filter_map(|folder| trained::warning(folder, dataset, &base, screen)));
        }
        let answers = rows.filter(|rows| rows.recipe.task.answers());
        let targets = data.filter(|_| answers.is_none());
        let targets = targets.map(|(_, dataset)| targets::of(dataset, base.encoder.tokenizer())).transpose()?;
        let loaded = base.load_for_media(on_towers, &holding, &compute.device, screen)?;
        let sides: Vec<_> = tensors.iter().map(|tensors| peft::to_device(tensors, loaded.as_ref())).collect();
        for (folder, side) in folders.iter().zip(&sides) {
            provenance::warn_of_no_effect(folder, side.is_zero(), screen);
        }
        let judging = answers.map(|rows| {
            let rewards = Rewards::open(&rows.recipe.rewards, &compute.name, screen)?;
            data.map_or(Ok(()), |(_, dataset)| rewards.check(dataset))?;
            Ok::<_, Error>((rows, rewards))
        });
        let judging = judging.transpose()?;
        let head = base.head(loaded.as_ref())?;
        let own = head.as_ref().map_or(&BaseOnly as &dyn SidePath, |head| head);
        let judges = head.is_some() || sides.iter().any(|side| SidePath::whole(side, SCORE).is_some());
        // A base by itself has no head to judge by, but where it is a whole reward model.
        let alone = (!judges || head.is_some()).then_some((None, own)).into_iter();
        let beside = folders.iter().zip(&sides).map(|(folder, side)| (Some(folder.clone()), side as &dyn SidePath));
        let mut all = Vec::new();
        for (adapter, side) in alone.chain(beside) {
            let contestant = Contestant { model: model.clone(), adapter };
            let name = contestant.name();
            let model = loaded.as_ref();
            let losses = data.filter(|_| !judges && judging.is_none()).map(|(data, dataset)| {
                screen.start(&format!("Losses of {name}"), Some(dataset.len() as u64), "rows");
                let losses = row_losses(model, side, dataset, data, screen)?;
                screen.finish();
                finite(losses.loss, &name).map(|()| losses)
            });
            let losses = losses.transpose()?;
            let of_pairs = data.filter(|(_, dataset)| judges && dataset.has_pairs());
            let rewards = of_pairs.map(|(data, dataset)| {
                screen.start(&format!("Rewards of {name}"), Some(dataset.len() as u64), "rows");
                let rewards = pair_rewards(model, side, dataset, data, screen)?;
                screen.finish();
                finite(rewards.iter().flatten().sum(), &name).map(|()| rewards)
            });
            let rewards = rewards.transpose()?;
            let of_each = data.filter(|(_, dataset)| judges && !dataset.has_pairs());
            let judged_rows = of_each.map(|(data, dataset)| {
                screen.start(&format!("Rewards of {name}"), Some(dataset.len() as u64), "rows");
                let rewards = row_rewards(model, side, dataset, data, screen)?;
                screen.finish();
                finite(rewards.iter().map(|(reward, _)| reward).sum(), &name).map(|()| rewards)
            });
            let judged_rows = judged_rows.transpose()?;
            let answers = data.filter(|_| !asked.metrics.is_empty());
            let answers =
                answers.map(|data| answers::answer(&base, model, side, data, asked.asking, screen)).transpose()?;
            let questions = asked.questions.as_ref();
            let asking = |questions| questions::loglikelihoods(&base, model, side, questions, screen);
            let loglikelihoods = questions.map(asking).transpose()?;
            let judged = judging.as_ref().zip(data);
            let judged = judged.map(|((rows, rewards), (data, dataset))| {
                let policies = Policies {
                    model,
                    start: &BaseOnly,
                    encoder: Arc::new(base.encoder.clone()),
                    stop_ids: base.stop_ids(),
                };
                let exam = Exam::on(&rows.recipe, (data, dataset), &policies, rewards);
                let answers = exam.as_ref().map(|exam| exam.answers_in_all() as u64);
                screen.start(&format!("Answers of {name}"), answers, "answers");
                let told = |answers| screen.advance(answers as u64);
                let judged = exam.map(|exam| exam.answers(side, &told, &backprop::NEVER)).transpose()?;
                screen.finish();
                Ok::<_, Error>(judged.flatten().unwrap_or_default())
            });
            let judged = judged.transpose()?;
            let targets = targets.clone();
            all.push(Measured { contestant, losses, rewards, judged_rows, judged, targets, answers, loglikelihoods });
        }
        Ok(all)
    }
}

/// The rows as a model reads them.
fn prepare(
    rows: &Rows,
    base: &Base,
    on_towers: bool,
    holding: &Holding,
    compute: &Compute,
    screen: &ProgressBar,
) -> Result<Data> {
    let mut data = Data::prepare(&rows.recipe, base, screen)?;
    match on_towers {
        true => data.leave_media(compute),
        false => data.encode_media(base, holding, compute, screen)?,
    }
    rows.dataset(&data)?;
    data.say_left_out(screen);
    Ok(data)
}

impl Origins {
    /// Keeps where rows are from; of a second model's, makes sure that they are the same.
    fn agree(&mut self, base: &Base, dataset: &Dataset, model: &str) -> Result<()> {
        /// Tokens from the end of a row that are kept to be shown.
        const SHOWN: usize = 64;
        let places = |row| dataset.origin(row).map(|origin| origin.to_string());
        let places: Vec<String> = (0..dataset.len()).map(places).collect::<Result<_>>()?;
        if !self.places.is_empty() {
            if self.places == places {
                return Ok(());
            }
            let what =
                format!("`{model}` can use other rows than the models before it, so that they cannot be compared");
            return Err(Error::new(Kind::Data, what).hint("`data stats` says which rows a model leaves out, and why"));
        }
        self.are_prompts = !dataset.is_empty();
        for row in 0..dataset.len() {
            let row = dataset.get(row)?;
            self.are_prompts &= row.is_judged_prompt();
            // Of a pair the answer that is preferred.
            let ids = &row.input_ids[..row.first_tokens()];
            self.texts.push(base.encoder.decode(&ids[ids.len().saturating_sub(SHOWN)..]));
        }
        self.places = places;
        Ok(())
    }
}

/// Refuses reward models beside others, and what they do not do: a number for a text, and no loss or answer.
fn check_judges(asked: &Asked, adapters: &[PeftAdapter], is_whole: bool) -> Result<()> {
    let judges = adapters.iter().filter(|adapter| adapter.config.judges()).count();
    if judges == 0 && !is_whole {
        return Ok(());
    }
    let option = if is_whole { "--model" } else { "--adapter" };
    let wrong =
        |what: &str, hint: &str| Err(Error::new(Kind::Adapter, what).at(Place::Named(option.into())).hint(hint));
    if judges < adapters.len() || asked.models.len() > 1 {
        return wrong("a reward model is compared with other reward models on its base", "name such adapters alone");
    }
    if asked.questions.is_some() || !asked.metrics.is_empty() {
        return wrong(
            "a reward model answers nothing: it judges",
            "leave `--choices`, `--generate` and `--metrics` out",
        );
    }
    match &asked.rows {
        Some(rows) if rows.recipe.has_pairs() || rows.recipe.task == Task::Reward => Ok(()),
        _ => wrong(
            "a reward model is measured on rows that somebody has judged: pairs of answers, or each by itself",
            "name its recipe, or add `--set task=reward`, and `--set data.format=unpaired` of rows that have a label each; \
             `gemma-tune score` gives rewards of other rows",
        ),
    }
}

/// Refuses a loss that is not finite, of the model or adapter of this name.
fn finite(loss: f64, of: &str) -> Result<()> {
    if loss.is_finite() {
        return Ok(());
    }
    Err(Error::new(Kind::NonFinite, "the loss on the evaluation data is not finite")
        .at(Place::Named(of.into()))
        .hint("it is damaged, or had diverged in training"))
}

/// A path as the user would write it.
fn shown(path: &Path) -> String {
    path.display().to_string()
}
