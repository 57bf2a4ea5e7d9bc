//! `summary.json`: what a run did, in one object.

use crate::error::Result;
use crate::train::event::{EvalEvent, Event, Sink};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

/// The version of burn that computes; a test compares it with `Cargo.toml`.
const BURN_VERSION: &str = "0.22.1";

/// An evaluation's result.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Evaluated {
    /// Optimiser steps done when it ran.
    pub step: u64,
    /// Its mean loss; none where answers of the model itself were judged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eval_loss: Option<f64>,
    /// What else was measured.
    #[serde(flatten)]
    pub metrics: BTreeMap<String, f64>,
}

impl Evaluated {
    /// What was measured under this name.
    pub fn get(&self, name: &str) -> Option<f64> {
        if name == "eval_loss" { self.eval_loss } else { self.metrics.get(name).copied() }
    }
}

impl From<&EvalEvent> for Evaluated {
    fn from(event: &EvalEvent) -> Self {
        let metrics = event.metrics.iter().filter(|(_, value)| value.is_finite());
        let metrics = metrics.map(|(name, value)| (name.clone(), *value)).collect();
        Evaluated { step: event.step, eval_loss: event.eval_loss.and_then(finite), metrics }
    }
}

/// What a run's events add up to, over all its sessions.
///
/// A checkpoint stores [`Totals::snapshot`], and a resumed run continues from it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Totals {
    /// Optimiser steps done.
    pub steps: u64,
    /// Passes over the data done, as a fraction.
    pub epochs: f64,
    /// Tokens run through the model in training steps.
    pub tokens: u64,
    /// Those of them with a loss.
    pub supervised_tokens: u64,
    /// Updates left out because a number was not finite.
    pub skipped_steps: u64,
    /// Wall-clock time of the training loop, evaluations and checkpoints included.
    pub seconds: f64,
    /// Wall-clock time of the steps alone.
    pub step_seconds: f64,
    /// The first step's loss: that of the base model, unless an adapter was continued.
    pub first_loss: Option<f64>,
    /// The last step's loss.
    pub last_loss: Option<f64>,
    /// What the answers of the first step got, where the run answers itself (`grpo`, `rloo`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_reward: Option<f64>,
    /// The same of the last step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_reward: Option<f64>,
    /// The best evaluation, by what `evaluation.metric_for_best_model` says.
    pub best_eval: Option<Evaluated>,
    /// The last evaluation.
    pub last_eval: Option<Evaluated>,
    /// Since when this session's time is not yet in `seconds`.
    #[serde(skip)]
    running: Option<Instant>,
}

impl Totals {
    /// The totals until now.
    pub fn snapshot(&self) -> Self {
        let mut now = self.clone();
        now.seconds += now.running.take().map_or(0.0, |since| since.elapsed().as_secs_f64());
        now
    }
}

impl Sink for Totals {
    fn event(&mut self, event: &Event) -> Result<()> {
        match event {
            Event::Started { .. } => self.running = Some(Instant::now()),
            Event::Step(e) => {
                self.steps = e.step;
                self.epochs = e.epoch;
                self.tokens += e.tokens;
                self.supervised_tokens += e.supervised_tokens;
                self.skipped_steps = e.skipped;
                self.step_seconds += finite(e.tokens as f64 / e.tokens_per_second).unwrap_or(0.0);
                self.last_loss = finite(e.loss);
                self.first_loss = self.first_loss.or(self.last_loss);
                self.last_reward = e.metrics.get("reward").copied().and_then(finite);
                self.first_reward = self.first_reward.or(self.last_reward);
            }
            Event::Eval(e) => {
                self.last_eval = e.eval_loss.is_none_or(f64::is_finite).then(|| e.into());
                if e.is_best {
                    self.best_eval = Some(e.into());
                }
            }
            Event::Finished { .. } => *self = self.snapshot(),
            Event::Row(_)
            | Event::Underway(_)
            | Event::Part(_)
            | Event::MicroBatch(_)
            | Event::SkippedStep { .. }
            | Event::Sample(_)
            | Event::Saved { .. }
            | Event::NotSaved { .. } => {}
        }
        Ok(())
    }
}

/// Why a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StopReason {
    /// All passes over the data are done (`num_train_epochs`).
    Epochs,
    /// So many steps were asked for (`max_steps`).
    MaxSteps,
    /// Evaluations no longer improved (`early_stopping_patience`).
    EarlyStopping,
}

/// The content of `summary.json`, which a run writes when it is over: one that was interrupted has none.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Sums over the run's steps, flat in the same object.
    #[serde(flatten)]
    pub totals: Totals,
    /// Why the run ended.
    #[serde(default)]
    pub stop_reason: Option<StopReason>,
    /// The step whose adapter is in `adapter/`: the last, or the best where that was kept.
    #[serde(default)]
    pub adapter_step: Option<u64>,
    /// `tokens / step_seconds`.
    pub tokens_per_second: Option<f64>,
    /// The process's largest resident memory, where the system tells ([`crate::process::peak_bytes`]).
    pub peak_rss_bytes: Option<u64>,
    /// The memory that was taken of a GPU, of several of the one that gave the most; `None` on a CPU.
    pub peak_device_bytes: Option<u64>,
    /// Loss of the frozen model on the first training rows, measured before the first step: by token as of `task: sft`, whatever the
    /// run's own loss is; nothing where rows have no answers to be known (`grpo`, `rloo`), and of a head that judges (`reward`).
    pub base_loss: Option<f64>,
    /// The peak that the estimate before the run gave.
    pub estimated_bytes: Option<u64>,
    /// `peak_rss_bytes / estimated_bytes`, or on a GPU `peak_device_bytes / estimated_bytes`.
    pub peak_over_estimate: Option<f64>,
    /// Parameters that train.
    pub trainable_parameters: u64,
    /// All parameters, those of the adapter among them.
    pub total_parameters: u64,
    /// The seed of all randomness.
    pub seed: u64,
    /// What computed, as `--device` takes it: `"cpu"`, `"cuda:0"`, `"cuda:0,cuda:1"`.
    pub device: String,
    /// Each of the devices that shared out the steps; the CPU for each replica on it.
    #[serde(default)]
    pub devices: Vec<String>,
    /// What factors of products with frozen weights were rounded to: `"f32"` on a CPU.
    pub compute_dtype: String,
    /// Threads that computed, those of all replicas together.
    pub threads: usize,
    /// The vector instructions that the CPU computed with, each where it followed another: `["AVX2"]`.
    #[serde(default)]
    pub instruction_sets: Vec<String>,
    /// Rows that were not trained as they stand: what became of them, how many, their share, the first.
    #[serde(default)]
    pub left_out: Vec<serde_json::Value>,
    /// What was said to be wrong, and the run went on.
    #[serde(default)]
    pub warnings: Vec<String>,
    /// The data's content hashes by what they are for (`"train"`, `"eval"`).
    pub data_hashes: BTreeMap<String, String>,
    /// A fingerprint of the base model's weights.
    pub base_fingerprint: String,
    /// Program and library versions by name ([`versions`]).
    pub versions: BTreeMap<String, String>,
}

impl Summary {
    /// The summary of `totals`, with this process's peak memory and versions; the rest is for the caller to set.
    pub fn new(totals: &Totals) -> Self {
        let totals = totals.snapshot();
        Summary {
            tokens_per_second: finite(totals.tokens as f64 / totals.step_seconds),
            totals,
            stop_reason: None,
            adapter_step: None,
            peak_rss_bytes: crate::process::peak_bytes(),
            base_loss: None,
            estimated_bytes: None,
            peak_over_estimate: None,
            peak_device_bytes: None,
            trainable_parameters: 0,
            total_parameters: 0,
            seed: 0,
            device: String::new(),
            devices: Vec::new(),
            compute_dtype: String::new(),
            threads: 0,
            instruction_sets: Vec::new(),
            left_out: Vec::new(),
            warnings: Vec::new(),
            data_hashes: BTreeMap::new(),
            base_fingerprint: String::new(),
            versions: versions(),
        }
    }

    /// Sets the estimate that was made before the run, and how the measured peak compares with it.
    pub fn set_estimate(&mut self, bytes: u64) {
        self.estimated_bytes = Some(bytes);
        self.peak_over_estimate = self.peak_bytes().and_then(|peak| finite(peak as f64 / bytes as f64));
    }

    /// The peak of what was estimated: of a GPU's memory where one computed, else of the program's.
    pub fn peak_bytes(&self) -> Option<u64> {
        self.peak_device_bytes.or(self.peak_rss_bytes)
    }

    /// Writes the summary to `path`, whole or not at all.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        crate::atomic::write_with(path, |file| {
            serde_json::to_writer_pretty(&mut *file, self)?;
            std::io::Write::write_all(file, b"\n")
        })
    }
}

/// The versions that decide a run's numbers.
pub fn versions() -> BTreeMap<String, String> {
    [("gemma-tune", env!("CARGO_PKG_VERSION")), ("burn", BURN_VERSION)].map(|(k, v)| (k.into(), v.into())).into()
}

fn finite(number: f64) -> Option<f64> {
    number.is_finite().then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::testing::step;

    fn eval(step: u64, eval_loss: f64, is_best: bool) -> Event {
        let metrics = [("eval_a/b".to_owned(), eval_loss + 1.0), ("eval_c".to_owned(), f64::NAN)].into();
        Event::Eval(EvalEvent { step, eval_loss: Some(eval_loss), metrics, is_best, ..EvalEvent::default() })
    }

    fn feed(totals: &mut Totals, events: &[Event]) {
        events.iter().for_each(|event| totals.event(event).unwrap());
    }

    #[test]
    fn totals_go_on_after_a_resume() {
        let evaluations = [eval(0, 3.0, true), eval(2, 1.5, true), eval(3, 1.75, false)];
        let [first, second, third] = evaluations;
        let events = [first, step(1, 2.5), step(2, f64::NAN), second, step(3, 1.25), third];
        let mut whole = Totals::default();
        feed(&mut whole, &events);
        assert_eq!((whole.steps, whole.tokens, whole.supervised_tokens), (3, 3 * 512, 300));
        assert_eq!((whole.first_loss, whole.last_loss), (Some(2.5), Some(1.25)));
        let evaluated = |step, eval_loss| {
            let metrics = [("eval_a/b".to_owned(), eval_loss + 1.0)].into();
            Some(Evaluated { step, eval_loss: Some(eval_loss), metrics })
        };
        assert_eq!(whole.best_eval, evaluated(2, 1.5));
        assert_eq!(whole.last_eval, evaluated(3, 1.75));
        assert!((whole.step_seconds - 3.0 * 512.0 / 812.5).abs() < 1e-12);

        for cut in 0..events.len() {
            let mut totals = Totals::default();
            feed(&mut totals, &events[..cut]);
            let stored = serde_json::to_value(totals.snapshot()).unwrap();
            let mut resumed: Totals = serde_json::from_value(stored).unwrap();
            feed(&mut resumed, &events[cut..]);
            assert_eq!(resumed, whole, "cut at {cut}");
        }
    }

    #[test]
    fn rewards_are_kept_of_runs_that_answer() {
        let answered = |number, reward| {
            let Event::Step(mut event) = step(number, 0.0) else { panic!("a step") };
            event.metrics.insert("reward".into(), reward);
            Event::Step(event)
        };
        let mut totals = Totals::default();
        feed(&mut totals, &[step(1, 2.5)]);
        assert_eq!(totals.first_reward, None);
        assert!(!serde_json::to_string(&totals).unwrap().contains("reward"));
        feed(&mut totals, &[answered(2, f64::NAN), answered(3, 0.25), answered(4, 0.75)]);
        assert_eq!((totals.first_reward, totals.last_reward), (Some(0.25), Some(0.75)));
    }

    #[test]
    fn time_runs_from_started_to_finished() {
        let mut totals = Totals { seconds: 10.0, ..Totals::default() };
        feed(&mut totals, &[Event::Started { step: 0, total_steps: 1 }]);
        std::thread::sleep(std::time::Duration::from_millis(5));
        assert!(totals.snapshot().seconds > 10.004);
        feed(&mut totals, &[Event::Finished { step: 1 }]);
        let finished = totals.seconds;
        assert!(finished > 10.004);
        assert_eq!(totals.snapshot().seconds, finished);
    }

    #[test]
    fn the_file_holds_everything_in_one_object() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("summary.json");
        let mut totals = Totals::default();
        feed(&mut totals, &[step(1, 2.5)]);
        let mut summary = Summary {
            stop_reason: Some(StopReason::MaxSteps),
            adapter_step: Some(1),
            peak_rss_bytes: Some(1_000),
            trainable_parameters: 3,
            total_parameters: 7,
            seed: 42,
            device: "cpu".into(),
            devices: vec!["cpu".into()],
            compute_dtype: "f32".into(),
            threads: 2,
            instruction_sets: vec!["AVX2".into()],
            data_hashes: [("train".into(), "abc".into())].into(),
            base_fingerprint: "def".into(),
            versions: [("gemma-tune".into(), "1.2.3".into())].into(),
            ..Summary::new(&totals)
        };
        summary.set_estimate(800);
        summary.write(&path).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        insta::assert_snapshot!(text, @r#"
        {
          "steps": 1,
          "epochs": 0.25,
          "tokens": 512,
          "supervised_tokens": 100,
          "skipped_steps": 0,
          "seconds": 0.0,
          "step_seconds": 0.6301538461538462,
          "first_loss": 2.5,
          "last_loss": 2.5,
          "best_eval": null,
          "last_eval": null,
          "stop_reason": "max_steps",
          "adapter_step": 1,
          "tokens_per_second": 812.5,
          "peak_rss_bytes": 1000,
          "peak_device_bytes": null,
          "base_loss": null,
          "estimated_bytes": 800,
          "peak_over_estimate": 1.25,
          "trainable_parameters": 3,
          "total_parameters": 7,
          "seed": 42,
          "device": "cpu",
          "devices": [
            "cpu"
          ],
          "compute_dtype": "f32",
          "threads": 2,
          "instruction_sets": [
            "AVX2"
          ],
          "left_out": [],
          "warnings": [],
          "data_hashes": {
            "train": "abc"
          },
          "base_fingerprint": "def",
          "versions": {
            "gemma-tune": "1.2.3"
          }
        }
        "#);
        assert_eq!(serde_json::from_str::<Summary>(&text).unwrap(), summary);
    }

    #[test]
    fn a_summary_without_steps_has_no_rate() {
        assert_eq!(Summary::new(&Totals::default()).tokens_per_second, None);
    }

    #[test]
    fn the_stated_version_of_burn_is_the_one_in_use() {
        let manifest = include_str!("../../Cargo.toml");
        assert!(manifest.contains(&format!("burn = {{ version = \"={BURN_VERSION}\"")));
    }
}
