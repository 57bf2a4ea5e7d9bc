//! Where a run leaves what it makes while it goes on.

use crate::device::Devices;
use crate::error::{Error, Kind, Result};
use crate::jobs::run::device_peak::DevicePeak;
use crate::jobs::run::folder::RunFolder;
use crate::ops::instruction_set;
use crate::recipe::{self, Recipe};
use crate::report::{EveryNth, JsonLines, ProgressBar, Sinks, TensorBoard, Totals};
use crate::train::checkpoint::{self, Fingerprint};
use crate::train::event::{Event, Sink};
use crate::train::resume;
use crate::train::run::{self, State};
use serde::{Deserialize, Serialize};
use std::cell::RefCell;
use std::path::PathBuf;
use std::rc::Rc;

/// What a checkpoint keeps of the outputs.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Kept {
    /// How much of `metrics.jsonl` belongs to the checkpoint.
    pub metrics_bytes: u64,
    /// Sums for `summary.json`.
    pub totals: Totals,
    /// The vector instructions that the CPU computed with until then, each where it followed another; none in checkpoints
    /// of a program that knew none wider than AVX2.
    #[serde(default)]
    pub instruction_sets: Vec<String>,
    /// The devices that computed last, as `--device` takes them; none in checkpoints of a program that knew one alone.
    #[serde(default)]
    pub devices: Option<String>,
}

impl Kept {
    /// Reads what a checkpoint kept.
    ///
    /// # Errors
    /// When it is something else.
    pub fn read(value: serde_json::Value) -> Result<Self> {
        serde_json::from_value(value).map_err(|e| {
            Error::new(Kind::Checkpoint, format!("the checkpoint's totals cannot be read: {e}")).caused_by(e)
        })
    }

    /// What to say where a run goes on with other vector instructions than it was computed with last: sums differ in
    /// their last bits between them, and so will the rest of the run from what it would have been.
    pub fn other_instructions(&self, now: &str) -> Option<String> {
        let before = match self.instruction_sets.last() {
            Some(before) if before != now => before,
            None if now == "AVX-512" => "narrower",
            _ => return None,
        };
        let then = format!("this run was computed with {before} instructions so far, and goes on with {now}");
        Some(format!("{then}: its last bits will differ from those of a run that was not interrupted"))
    }

    /// What to say where a run goes on with other devices than it was computed on last.
    pub fn other_devices(&self, now: &str) -> Option<String> {
        let before = self.devices.as_ref().filter(|before| *before != now)?;
        Some(format!("This run was computed on {before} so far, and goes on with {now}."))
    }
}

/// The open outputs of a run.
pub struct Outputs {
    sinks: Sinks,
    totals: Rc<RefCell<Totals>>,
    instruction_sets: Vec<String>,
    devices: String,
    device_peak: Rc<RefCell<DevicePeak>>,
    metrics: Option<Rc<RefCell<JsonLines>>>,
    checkpoints: PathBuf,
    save_total_limit: usize,
    run: Fingerprint,
    screen: ProgressBar,
    warnings: Vec<String>,
}

impl Outputs {
    /// Opens the outputs of a run, new or resumed after `step`.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn open(
        folder: &RunFolder,
        recipe: &Recipe,
        step: u64,
        kept: Kept,
        run: Fingerprint,
        devices: &Devices,
        screen: &ProgressBar,
    ) -> Result<Self> {
        folder.keep();
        crate::atomic::write(&folder.path("recipe.yaml"), recipe.to_yaml().as_bytes())?;
        let totals = Rc::new(RefCell::new(kept.totals));
        let device_peak = Rc::new(RefCell::new(DevicePeak::of(devices)));
        let mut sinks = Sinks::new().with(totals.clone()).with(device_peak.clone());
        let mut metrics = None;
        for sink in &recipe.output.report_to {
            match sink {
                recipe::Sink::Jsonl => {
                    let file = JsonLines::resume(&folder.path("metrics.jsonl"), kept.metrics_bytes)?;
                    file.warning().into_iter().for_each(|warning| screen.note(&format!("warning: {warning}")));
                    let file = Rc::new(RefCell::new(file));
                    sinks = sinks.with(file.clone());
                    metrics = Some(file);
                }
                recipe::Sink::Tensorboard => sinks = sinks.with(TensorBoard::open(&folder.path("tensorboard"), step)?),
            }
        }
        let sinks = sinks.with(EveryNth::new(screen.clone(), recipe.output.logging_steps));
        let mut instruction_sets = kept.instruction_sets;
        if instruction_sets.last().is_none_or(|last| last != instruction_set()) {
            instruction_sets.push(instruction_set().to_owned());
        }
        let checkpoints = folder.path("checkpoints");
        let save_total_limit = recipe.output.save_total_limit;
        let (screen, warnings) = (screen.clone(), Vec::new());
        let devices = devices.name();
        Ok(Outputs {
            sinks,
            totals,
            instruction_sets,
            devices,
            device_peak,
            metrics,
            checkpoints,
            save_total_limit,
            run,
            screen,
            warnings,
        })
    }

    /// The vector instructions that the CPU computed with, each where it followed another.
    pub fn instruction_sets(&self) -> &[String] {
        &self.instruction_sets
    }

    /// The most memory that the run has taken of a GPU so far; `None` on the CPU.
    pub fn peak_device_bytes(&self) -> Option<u64> {
        self.device_peak.borrow_mut().bytes()
    }

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
        let (instruction_sets, devices) = (self.instruction_sets.clone(), Some(self.devices.clone()));
        let kept = serde_json::to_value(Kept { metrics_bytes, totals: self.totals(), instruction_sets, devices })
            .map_err(|e| Error::new(Kind::Run, format!("the totals cannot be written: {e}")).caused_by(e))?;
        let path = resume::save(&self.checkpoints, state, kept, &self.run)?;
        // The run does not need them gone: what is wrong with one is said once.
        for warning in checkpoint::prune(&self.checkpoints, self.save_total_limit)?.warnings {
            if !self.warnings.contains(&warning) {
                self.screen.note(&format!("warning: {warning}"));
                self.warnings.push(warning);
            }
        }
        Ok(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_run_that_goes_on_with_other_instructions_is_told_so() {
        let kept = |sets: &[&str]| Kept {
            instruction_sets: sets.iter().map(|set| set.to_string()).collect(),
            ..Kept::default()
        };
        assert_eq!(kept(&["AVX2"]).other_instructions("AVX2"), None);
        let what = kept(&["AVX2", "AVX-512"]).other_instructions("AVX2").unwrap();
        assert!(
            what.starts_with("this run was computed with AVX-512 instructions so far, and goes on with AVX2"),
            "{what}"
        );
        // A checkpoint of a program that did not record them, and used AVX2 at most.
        let old = Kept::read(json!({"metrics_bytes": 0, "totals": Totals::default()})).unwrap();
        assert_eq!(old.other_instructions("AVX2"), None);
        assert!(old.other_instructions("AVX-512").unwrap().contains("narrower"));
        assert_eq!(old.other_devices("cpu,cpu"), None);
        let two = Kept { devices: Some("cpu,cpu".into()), ..Kept::default() };
        assert_eq!(two.other_devices("cpu,cpu"), None);
        let what = two.other_devices("cpu").unwrap();
        assert_eq!(what, "This run was computed on cpu,cpu so far, and goes on with cpu.");
    }
}
