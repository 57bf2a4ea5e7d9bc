//! TensorBoard event files: scalars of every step, samples as text.
//!
//! An event file is a sequence of records (`record`), each an `Event` message (`proto`). Neither wants more than the
//! `prost` and `crc32c` crates: the crates made for TensorBoard are unmaintained or bring TensorFlow's whole schema.

mod proto;
mod record;

use crate::error::{Error, Result};
use crate::report::style::printable;
use crate::train::event::{Event, SampleEvent, Sink};
use proto::{Summary, Value, What};
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// What every event file's name begins with; TensorBoard reads nothing else.
const PREFIX: &str = "events.out.tfevents.";

/// Writes one event file in a folder that TensorBoard shows as one run.
#[derive(Debug)]
pub struct TensorBoard {
    file: File,
    path: PathBuf,
    /// The step of the newest samples and how many it has: TensorBoard keeps one text per tag and step.
    samples: (u64, usize),
}

impl TensorBoard {
    /// Begins a new event file in `dir` for a run that has done `steps` optimiser steps (0: a new run).
    ///
    /// What older files in `dir` say about later steps is hidden from then on, so that no step shows twice after a
    /// resume. All events of a step have to come before its checkpoint is written.
    ///
    /// # Errors
    /// If the folder or the file cannot be written.
    pub fn open(dir: &Path, steps: u64) -> Result<Self> {
        fs::create_dir_all(dir).map_err(|e| Error::io("creating the folder", dir, e))?;
        let newest = newest_secs(dir).map_err(|e| Error::io("listing the event files", dir, e))?;
        // Readers go through the files by name: this one has to come last, even within the same second.
        let secs = (wall_time() as u64).max(newest.map_or(0, |newest| newest.saturating_add(1)));
        let path = dir.join(format!("{PREFIX}{secs:010}.{}.{}.0", host_name(), std::process::id()));
        let file = File::create_new(&path).map_err(|e| Error::io("creating", &path, e))?;
        let mut sink = Self { file, path, samples: (0, 0) };
        sink.write(&proto::Event::version(wall_time()))?;
        // The first such mark of a folder opens it; each later one hides the steps from its own step on.
        let first_step = if steps == 0 { 0 } else { steps.saturating_add(1) };
        sink.write(&proto::Event::session_start(wall_time(), first_step))?;
        sink.flush()?;
        Ok(sink)
    }

    fn write(&mut self, event: &proto::Event) -> Result<()> {
        // One write per record, unbuffered: a running TensorBoard sees each step at once.
        self.file.write_all(&record::encode(event)).map_err(|e| Error::io("writing", &self.path, e))
    }

    fn values(&mut self, step: u64, value: Vec<Value>) -> Result<()> {
        self.write(&proto::Event::new(wall_time(), step, What::Summary(Summary { value })))
    }

    fn sample(&mut self, sample: &SampleEvent) -> Result<()> {
        let nth = if self.samples.0 == sample.step { self.samples.1 + 1 } else { 1 };
        self.samples = (sample.step, nth);
        self.values(sample.step, vec![Value::text(&format!("samples/{nth}"), &markdown(sample))])
    }
}

impl Sink for TensorBoard {
    fn event(&mut self, event: &Event) -> Result<()> {
        match event {
            Event::Step(e) => {
                let scalars = [
                    ("train/loss", e.loss),
                    ("train/grad_norm", e.grad_norm),
                    ("train/learning_rate", e.learning_rate),
                    ("train/tokens_per_second", e.tokens_per_second),
                ];
                self.values(e.step, scalars.map(|(tag, value)| Value::scalar(tag, value)).into())
            }
            Event::Eval(e) => self.values(e.step, vec![Value::scalar("eval/loss", e.eval_loss)]),
            Event::Sample(sample) => self.sample(sample),
            Event::Started { .. } | Event::SkippedStep { .. } | Event::Saved { .. } | Event::Finished { .. } => Ok(()),
        }
    }

    fn flush(&mut self) -> Result<()> {
        self.file.sync_data().map_err(|e| Error::io("writing", &self.path, e))
    }
}

/// The sample as Markdown that shows both texts literally.
fn markdown(sample: &SampleEvent) -> String {
    let block = |text: &str| printable(text).lines().map(|line| format!("    {line}\n")).collect::<String>();
    format!("**prompt**\n\n{}\n**completion**\n\n{}", block(&sample.prompt), block(&sample.completion))
}

/// The seconds in the name of the newest event file of `dir`.
fn newest_secs(dir: &Path) -> std::io::Result<Option<u64>> {
    let mut newest = None;
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name();
        let secs = name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.split('.').next()?.parse().ok());
        newest = newest.max(secs);
    }
    Ok(newest)
}

/// Seconds since 1970.
fn wall_time() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

/// This machine's name, as a part of a file name.
fn host_name() -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname")
        .ok()
        .or_else(|| std::env::var("HOSTNAME").ok())
        .or_else(|| std::env::var("COMPUTERNAME").ok())
        .unwrap_or_default();
    let plain = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    match name.trim().chars().filter(plain).collect::<String>() {
        name if name.is_empty() => "localhost".to_owned(),
        name => name,
    }
}

#[cfg(test)]
mod tests;
