//! TensorBoard event files: scalars of every step, samples as text.
//!
//! An event file is a sequence of records (`record`), each an `Event` message (`proto`). Neither wants more than the
//! `prost` and `crc32c` crates: the crates made for TensorBoard are unmaintained or bring TensorFlow's whole schema.

mod proto;
mod record;

use crate::clock::since_1970;
use crate::error::{Error, Result};
use crate::terminal::printable;
use crate::train::event::{Event, RowEvent, Sample, Sink};
use proto::{Summary, Value, What};
use std::fs::{self, File};
use std::io::Write;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// What every event file's name begins with; TensorBoard reads nothing else.
const PREFIX: &str = "events.out.tfevents.";

/// Writes one event file in a folder that TensorBoard shows as one run.
#[derive(Debug)]
pub struct TensorBoard {
    file: File,
    path: PathBuf,
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
        let mut sink = Self { file, path };
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

    /// TensorBoard keeps one text per tag and step, so each of several has a tag of its own.
    fn text(&mut self, step: u64, tag: &str, number: usize, markdown: &str) -> Result<()> {
        self.values(step, vec![Value::text(&format!("{tag}_{number}"), markdown)])
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
                let of_parts = e.grad_norms.iter();
                let of_parts = of_parts.map(|(part, norm)| (format!("train/grad_norm/{}", part.name()), *norm));
                let mut values: Vec<Value> = scalars.map(|(tag, value)| Value::scalar(tag, value)).into();
                values.extend(of_parts.map(|(tag, norm)| Value::scalar(&tag, norm)));
                values.extend(e.metrics.iter().map(|(name, mean)| Value::scalar(&format!("train/{name}"), *mean)));
                self.values(e.step, values)
            }
            Event::Eval(e) => {
                let tag = |name: &str| format!("eval/{}", name.trim_start_matches("eval_"));
                let others = e.metrics.iter().map(|(name, mean)| Value::scalar(&tag(name), *mean));
                let loss = e.eval_loss.map(|loss| Value::scalar("eval/loss", loss));
                self.values(e.step, loss.into_iter().chain(others).collect())
            }
            Event::Row(row) => self.text(0, "data/sample", row.number, &of_row(row)),
            Event::Sample(e) => self.text(e.step, "eval/sample", e.number, &of_sample(&e.sample)),
            Event::Started { .. }
            | Event::Underway(_)
            | Event::Part(_)
            | Event::MicroBatch(_)
            | Event::SkippedStep { .. }
            | Event::Saved { .. }
            | Event::NotSaved { .. }
            | Event::Finished { .. } => Ok(()),
        }
    }

    fn flush(&mut self) -> Result<()> {
        self.file.sync_data().map_err(|e| Error::io("writing", &self.path, e))
    }
}

/// The row as Markdown, with `⟦` and `⟧` around what is learnt.
fn of_row(row: &RowEvent) -> String {
    let mut text = row.text.clone();
    for Range { start, end } in row.supervised.iter().rev() {
        text.insert(*end, '⟧');
        text.insert(*start, '⟦');
    }
    format!("what stands in ⟦ ⟧ is learnt\n\n{}", literal(&text))
}

/// The sample as Markdown.
fn of_sample(Sample { prompt, completion, reference }: &Sample) -> String {
    let [prompt, completion, reference] = [prompt, completion, reference].map(|text| literal(text));
    format!("**prompt**\n\n{prompt}\n**completion**\n\n{completion}\n**reference**\n\n{reference}")
}

/// Markdown that shows `text` as it is.
fn literal(text: &str) -> String {
    printable(text).lines().map(|line| format!("    {line}\n")).collect()
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
    since_1970(SystemTime::now()).as_secs_f64()
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
