//! What a run writes down of itself, as it does.

use serde_json::Value;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// Reads a file of metrics as it grows.
pub struct Metrics {
    path: PathBuf,
    read: u64,
}

impl Metrics {
    /// Those of a run's `output.dir`, from their beginning.
    pub fn of(run: &Path) -> Self {
        Metrics { path: run.join("metrics.jsonl"), read: 0 }
    }

    /// The whole lines that have come since the last time, each with a name that it has whenever it is written.
    pub fn new_lines(&mut self) -> Vec<(String, String)> {
        let mut text = String::new();
        let mut read = || -> std::io::Result<()> {
            let mut file = File::open(&self.path)?;
            if file.metadata()?.len() < self.read {
                self.read = 0; // a run that was resumed has taken lines back
            }
            file.seek(SeekFrom::Start(self.read))?;
            file.read_to_string(&mut text).map(drop)
        };
        if read().is_err() {
            return Vec::new(); // there is none yet, or it is being cut
        }
        let whole = text.rfind('\n').map_or(0, |at| at + 1);
        self.read += whole as u64;
        text[..whole].lines().filter_map(|line| Some((name(line)?, line.to_owned()))).collect()
    }
}

/// `step 3`, `eval 3`.
fn name(line: &str) -> Option<String> {
    let line: Value = serde_json::from_str(line).ok()?;
    let step = line.get("step")?.as_u64()?;
    let kinds = [("loss", "step"), ("eval_loss", "eval"), ("skipped_why", "skipped")];
    let (_, kind) = kinds.into_iter().find(|(key, _)| line.get(key).is_some())?;
    Some(format!("{kind} {step}"))
}

/// The steps of a run as a table: how likely rows were, trained and held out.
pub fn table(lines: impl Iterator<Item = Value>) -> String {
    let mut rows = std::collections::BTreeMap::<u64, [String; 3]>::new();
    for line in lines {
        let Some(step) = line.get("step").and_then(Value::as_u64) else { continue };
        let row = rows.entry(step).or_default();
        for (at, key) in ["loss", "eval_loss", "learning_rate"].into_iter().enumerate() {
            if let Some(number) = line.get(key).and_then(Value::as_f64) {
                row[at] = number.to_string();
            }
        }
    }
    let lines = rows.iter().map(|(step, [train, valid, rate])| format!("{step},{train},{valid},{rate}\n"));
    format!("step,train_loss,valid_loss,learning_rate\n{}", lines.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::fs;

    #[test]
    fn lines_are_read_once_and_again_where_they_were_taken_back() {
        let dir = tempfile::tempdir().unwrap();
        let mut metrics = Metrics::of(dir.path());
        let mut names = || metrics.new_lines().into_iter().map(|(name, _)| name).collect::<Vec<_>>();
        assert!(names().is_empty());
        let path = dir.path().join("metrics.jsonl");
        let first = "{\"step\":1,\"loss\":2.5}\n{\"step\":1,\"eval_loss\":null}\nno line\n";
        fs::write(&path, format!("{first}{{\"step\":2,\"lo")).unwrap();
        assert_eq!(names(), ["step 1", "eval 1"]);
        assert!(names().is_empty());
        fs::write(&path, format!("{first}{{\"step\":2,\"loss\":null}}\n{{\"step\":3,\"skipped_why\":\"NaN\"}}\n"))
            .unwrap();
        assert_eq!(names(), ["step 2", "skipped 3"]);
        fs::write(&path, first).unwrap();
        assert_eq!(names(), ["step 1", "eval 1"]);
    }

    #[test]
    fn steps_are_a_table() {
        let lines = [
            json!({"step": 0, "eval_loss": 3.0}),
            json!({"step": 1, "loss": 2.5, "learning_rate": 1e-4}),
            json!({"step": 1, "eval_loss": null}),
        ];
        assert_eq!(table(lines.into_iter()), "step,train_loss,valid_loss,learning_rate\n0,,3,\n1,2.5,,0.0001\n");
    }
}
