//! `metrics.jsonl`: one JSON object per line and optimiser step.
//!
//! Lines with `loss` are steps, with `eval_tokens` evaluations, with `skipped_why` updates that were left out. A number
//! that is not finite is `null`, as JSON knows no other.

use crate::error::{Error, Result};
use crate::train::event::{Event, Sink};
use serde::Serialize;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// Appends events to a file, and knows how far it is.
///
/// A checkpoint stores [`JsonLines::position`] after a flush; a resumed run cuts the file there, so that a line written
/// after the checkpoint, or half of one, neither stays nor is doubled.
#[derive(Debug)]
pub struct JsonLines {
    file: File,
    path: PathBuf,
    position: u64,
    warning: Option<String>,
}

impl JsonLines {
    /// Starts the file anew.
    ///
    /// # Errors
    /// If it cannot be created.
    pub fn create(path: &Path) -> Result<Self> {
        Self::resume(path, 0)
    }

    /// Continues the file at `position`, dropping what comes after.
    ///
    /// If the file is shorter, or does not end a line there, it continues after its last whole line before `position`
    /// and [`JsonLines::warning`] says so: lost metrics are no reason to refuse a run.
    ///
    /// # Errors
    /// If the file cannot be opened or cut.
    pub fn resume(path: &Path, position: u64) -> Result<Self> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(|e| Error::io("creating the folder", folder, e))?;
        }
        let open = || {
            let mut file = File::options().read(true).write(true).create(true).truncate(false).open(path)?;
            let cut = last_line_end(&mut file, position)?;
            file.set_len(cut)?;
            file.seek(SeekFrom::Start(cut))?;
            io::Result::Ok((file, cut))
        };
        let (file, cut) = open().map_err(|e| Error::io("opening", path, e))?;
        let warning = (cut != position).then(|| {
            format!(
                "`{}` has lost lines since the checkpoint was written: some steps are missing in it",
                path.display()
            )
        });
        Ok(Self { file, path: path.to_path_buf(), position: cut, warning })
    }

    /// Bytes written, all of them whole lines.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// What the user should know about how the file was continued.
    pub fn warning(&self) -> Option<&str> {
        self.warning.as_deref()
    }

    fn line(&mut self, value: &impl Serialize) -> Result<()> {
        let mut append = || {
            let mut line = serde_json::to_vec(value)?;
            line.push(b'\n');
            // One write per line, unbuffered: whoever follows the file sees each step at once, and whole.
            self.file.write_all(&line)?;
            io::Result::Ok(line.len() as u64)
        };
        let bytes = append().map_err(|e| Error::io("writing", &self.path, e))?;
        self.position += bytes;
        Ok(())
    }
}

/// What a file of metrics says of one metric.
#[derive(Debug, Default, PartialEq)]
pub struct Curve {
    /// Of steps.
    pub steps: Vec<(u64, f64)>,
    /// Of evaluations, each after so many steps.
    pub evaluations: Vec<(u64, f64)>,
}

/// Reads one metric from a file of metrics; of evaluations it is called `eval_..`. Lines without it are passed over.
///
/// # Errors
/// If the file cannot be read.
pub fn curve(path: &Path, metric: &str) -> Result<Curve> {
    let file = crate::input::open(path).map_err(|e| Error::io("reading", path, e))?;
    let (mut curve, of_evaluations) = (Curve::default(), format!("eval_{metric}"));
    for line in io::BufRead::lines(io::BufReader::new(file)) {
        let line = line.map_err(|e| Error::io("reading", path, e))?;
        let Ok(line) = serde_json::from_str::<serde_json::Value>(&line) else { continue };
        let number = |key: &str| line.get(key).and_then(serde_json::Value::as_f64);
        let Some(step) = line.get("step").and_then(serde_json::Value::as_u64) else { continue };
        curve.steps.extend(number(metric).map(|value| (step, value)));
        curve.evaluations.extend(number(&of_evaluations).map(|value| (step, value)));
    }
    Ok(curve)
}

/// The end of the last whole line in the first `position` bytes of `file`.
fn last_line_end(file: &mut File, position: u64) -> io::Result<u64> {
    let mut end = position.min(file.metadata()?.len());
    let mut block = Vec::new();
    while end > 0 {
        let start = end.saturating_sub(1 << 16);
        file.seek(SeekFrom::Start(start))?;
        block.clear();
        Read::take(&mut *file, end - start).read_to_end(&mut block)?;
        if let Some(newline) = block.iter().rposition(|&byte| byte == b'\n') {
            return Ok(start + newline as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}

impl Sink for JsonLines {
    fn event(&mut self, event: &Event) -> Result<()> {
        match event {
            Event::Step(step) => self.line(step),
            Event::Eval(eval) => self.line(eval),
            Event::SkippedStep { step, why, rows } => {
                self.line(&serde_json::json!({"step": step, "skipped_why": why, "rows": rows}))
            }
            Event::Started { .. }
            | Event::Row(_)
            | Event::Underway(_)
            | Event::Part(_)
            | Event::MicroBatch(_)
            | Event::Sample(_)
            | Event::Saved { .. }
            | Event::NotSaved { .. }
            | Event::Finished { .. } => Ok(()),
        }
    }

    fn flush(&mut self) -> Result<()> {
        self.file.sync_data().map_err(|e| Error::io("writing", &self.path, e))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::testing::step;
    use crate::train::event::EvalEvent;

    #[test]
    fn steps_evaluations_and_skipped_steps_are_lines() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out/metrics.jsonl");
        let mut sink = JsonLines::create(&path).unwrap();
        sink.event(&Event::Started { step: 0, total_steps: 2 }).unwrap();
        sink.event(&step(1, f64::NAN)).unwrap();
        sink.event(&Event::SkippedStep { step: 2, why: "loss is NaN".into(), rows: vec!["a.jsonl, row 3".into()] })
            .unwrap();
        sink.event(&Event::Eval(EvalEvent {
            step: 2,
            epoch: 0.5,
            eval_loss: Some(f64::INFINITY),
            eval_tokens: 7,
            ..EvalEvent::default()
        }))
        .unwrap();
        let metrics = [("eval_reward".to_owned(), 0.5)].into();
        let judged = EvalEvent { step: 2, epoch: 1.0, eval_tokens: 9, metrics, is_best: true, ..EvalEvent::default() };
        sink.event(&Event::Eval(judged)).unwrap();
        sink.flush().unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(
            text,
            "{\"step\":1,\"epoch\":0.25,\"loss\":null,\"grad_norm\":0.5,\"learning_rate\":0.0002,\"tokens\":512,\
             \"supervised_tokens\":100,\"tokens_per_second\":812.5,\"skipped\":0}\n\
             {\"step\":2,\"skipped_why\":\"loss is NaN\",\"rows\":[\"a.jsonl, row 3\"]}\n\
             {\"step\":2,\"epoch\":0.5,\"eval_loss\":null,\"eval_tokens\":7}\n\
             {\"step\":2,\"epoch\":1.0,\"eval_tokens\":9,\"eval_reward\":0.5}\n"
        );
        assert_eq!(sink.position(), text.len() as u64);
    }

    #[test]
    fn a_killed_and_resumed_file_equals_an_uninterrupted_one() {
        let dir = tempfile::tempdir().unwrap();
        let (whole, killed) = (dir.path().join("whole.jsonl"), dir.path().join("killed.jsonl"));
        let mut sink = JsonLines::create(&whole).unwrap();
        (1..=4).for_each(|n| sink.event(&step(n, 1.0)).unwrap());

        let mut sink = JsonLines::create(&killed).unwrap();
        (1..=2).for_each(|n| sink.event(&step(n, 1.0)).unwrap());
        sink.flush().unwrap();
        let position = sink.position(); // stored in the checkpoint of step 2
        sink.event(&step(3, 1.0)).unwrap();
        sink.file.write_all(b"{\"step\":4,\"epo").unwrap();
        drop(sink); // kill -9

        let mut sink = JsonLines::resume(&killed, position).unwrap();
        assert_eq!(sink.warning(), None);
        (3..=4).for_each(|n| sink.event(&step(n, 1.0)).unwrap());
        assert_eq!(fs::read(&killed).unwrap(), fs::read(&whole).unwrap());
    }

    #[test]
    fn a_file_that_lost_lines_is_continued_after_its_last_whole_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("metrics.jsonl");
        let long = format!("{{\"a\":1}}\n{{\"torn\":\"{}", "x".repeat(200_000));
        for (content, position, left) in [
            ("{\"a\":1}\n{\"b\":", 100, "{\"a\":1}\n"),
            ("{\"a\":1}\n{\"b\":2}\n", 10, "{\"a\":1}\n"),
            (&long, 300_000, "{\"a\":1}\n"),
            ("no line", 100, ""),
            ("", 100, ""),
        ] {
            fs::write(&path, content).unwrap();
            let sink = JsonLines::resume(&path, position).unwrap();
            assert_eq!(sink.position(), left.len() as u64);
            assert!(sink.warning().unwrap().contains("has lost lines"));
            assert_eq!(fs::read_to_string(&path).unwrap(), left);
        }
    }
}
