//! What a run writes under `output.dir`.

use crate::error::{Error, Kind, Place, Result};
use crate::recipe::{self, Recipe};
use crate::report::{EveryNth, JsonLines, ProgressBar, Sinks, Summary, TensorBoard, Totals, text};
use crate::train::checkpoint::{self, Fingerprint, Loaded, RunLock};
use crate::train::event::{Event, Sink};
use crate::train::resume;
use crate::train::run::{self, State};
use serde::{Deserialize, Serialize};
use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

/// Files that show that a folder holds a run.
const TRACES: [&str; 4] = ["recipe.yaml", "metrics.jsonl", "checkpoints", "adapter"];

/// The folder of a run, locked while the run goes on.
pub struct RunFolder {
    dir: PathBuf,
    _lock: Option<RunLock>,
}

impl RunFolder {
    /// Takes possession of `dir`; a dry run only looks.
    ///
    /// # Errors
    /// When `dir` holds a run that is not to be resumed, or another process works in it.
    pub fn open(dir: &Path, resume: bool, dry_run: bool) -> Result<Self> {
        let used = TRACES.iter().any(|name| dir.join(name).exists());
        if used && !resume && !dry_run {
            return Err(Error::new(Kind::Recipe, format!("`{}` already holds a run", dir.display()))
                .at(Place::Path(dir.into()))
                .hint("`--resume` continues it; `--set output.dir=..` writes elsewhere; nothing was changed"));
        }
        let lock = if dry_run { None } else { Some(RunLock::acquire(dir)?) };
        Ok(RunFolder { dir: dir.into(), _lock: lock })
    }

    /// A path in the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Whether the run in the folder came to its end.
    pub fn is_finished(&self) -> bool {
        self.path("summary.json").exists()
    }

    /// The newest good checkpoint of this run; clears away what killed saves left.
    ///
    /// # Errors
    /// When it belongs to another run.
    pub fn latest(&self, run: &Fingerprint, screen: &ProgressBar) -> Result<Option<Loaded>> {
        let checkpoints = self.path("checkpoints");
        checkpoint::clean_up(&checkpoints)?;
        let latest = checkpoint::latest_good(&checkpoints)?;
        latest.warnings.iter().for_each(|warning| screen.note(&format!("warning: {warning}")));
        if let Some(checkpoint) = &latest.checkpoint {
            checkpoint.check_run(run)?;
            screen.note(&format!("Resuming after step {}", checkpoint.step));
        }
        Ok(latest.checkpoint)
    }

    /// Opens the outputs of a run, new or resumed.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn begin(
        &self,
        recipe: &Recipe,
        step: u64,
        kept: Kept,
        run: Fingerprint,
        screen: &ProgressBar,
    ) -> Result<Outputs> {
        crate::atomic::write(&self.path("recipe.yaml"), recipe.to_yaml().as_bytes())?;
        let totals = Rc::new(RefCell::new(kept.totals));
        let mut sinks = Sinks::new().with(totals.clone());
        let mut metrics = None;
        for sink in &recipe.output.report_to {
            match sink {
                recipe::Sink::Jsonl => {
                    let file = JsonLines::resume(&self.path("metrics.jsonl"), kept.metrics_bytes)?;
                    file.warning().into_iter().for_each(|warning| screen.note(&format!("warning: {warning}")));
                    let file = Rc::new(RefCell::new(file));
                    sinks = sinks.with(file.clone());
                    metrics = Some(file);
                }
                recipe::Sink::Tensorboard => sinks = sinks.with(TensorBoard::open(&self.path("tensorboard"), step)?),
            }
        }
        let sinks = sinks.with(EveryNth::new(screen.clone(), recipe.output.logging_steps));
        let checkpoints = self.path("checkpoints");
        Ok(Outputs { sinks, totals, metrics, checkpoints, save_total_limit: recipe.output.save_total_limit, run })
    }
}

/// What a checkpoint keeps of the outputs.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Kept {
    /// How much of `metrics.jsonl` belongs to the checkpoint.
    pub metrics_bytes: u64,
    /// Sums for `summary.json`.
    pub totals: Totals,
}

impl Kept {
    /// Reads what a checkpoint kept.
    ///
    /// # Errors
    /// When it is something else.
    pub fn read(value: serde_json::Value) -> Result<Self> {
        serde_json::from_value(value)
            .map_err(|e| Error::new(Kind::Checkpoint, format!("the checkpoint's totals cannot be read: {e}")).caused_by(e))
    }
}

/// The open outputs of a run.
pub struct Outputs {
    sinks: Sinks,
    totals: Rc<RefCell<Totals>>,
    metrics: Option<Rc<RefCell<JsonLines>>>,
    checkpoints: PathBuf,
    save_total_limit: usize,
    run: Fingerprint,
}

impl Outputs {
    /// What the run's events add up to so far.
    pub fn totals(&self) -> Totals {
        self.totals.borrow().snapshot()
    }
}

impl Sink for Outputs {
    fn event(&mut self, event: &Event) -> Result<()> {
        self.sinks.event(event)
    }

    fn flush(&mut self) -> Result<()> {
        self.sinks.flush()
    }
}

impl run::Outputs for Outputs {
    fn save(&mut self, state: &State) -> Result<PathBuf> {
        self.sinks.flush()?;
        let metrics_bytes = self.metrics.as_ref().map_or(0, |file| file.borrow().position());
        let kept = serde_json::to_value(Kept { metrics_bytes, totals: self.totals() })
            .map_err(|e| Error::new(Kind::Run, format!("the totals cannot be written: {e}")).caused_by(e))?;
        let path = resume::save(&self.checkpoints, state, kept, &self.run)?;
        checkpoint::prune(&self.checkpoints, self.save_total_limit, &[])?;
        Ok(path)
    }
}

/// Where prepared data is cached: `GEMMA_TUNE_CACHE`, else the user's cache folder, else the temporary folder.
pub fn cache_dir() -> PathBuf {
    let from = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    from("GEMMA_TUNE_CACHE")
        .or_else(|| from("XDG_CACHE_HOME").map(|dir| dir.join("gemma-tune")))
        .or_else(|| from("HOME").map(|dir| dir.join(".cache/gemma-tune")))
        .unwrap_or_else(|| std::env::temp_dir().join("gemma-tune"))
        .join("data")
}

/// The end of a run in a few lines.
pub fn describe_result(summary: &Summary, folder: &RunFolder) -> String {
    let totals = &summary.totals;
    let loss = |value: Option<f64>| value.map_or("-".into(), |loss| format!("{loss:.4}"));
    let memory = match (summary.peak_rss_bytes, summary.estimated_bytes) {
        (Some(peak), Some(estimated)) => format!("{} (estimated {})", text::bytes(peak), text::bytes(estimated)),
        _ => "unknown".into(),
    };
    format!(
        "Trained {} steps, {} tokens in {}; loss {} -> {}; peak memory {memory}\nAdapter: {}",
        totals.steps,
        text::count(totals.tokens),
        text::duration(Duration::from_secs_f64(totals.seconds.max(0.0))),
        loss(totals.first_loss),
        loss(totals.last_loss),
        folder.path("adapter").display(),
    )
}
