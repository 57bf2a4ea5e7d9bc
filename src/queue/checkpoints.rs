//! What a run has saved.

use super::database::values;
use super::{Page, Paged, Queue, Run};
use crate::clock::since_1970;
use crate::error::Result;
use serde_json::Value;
use std::path::Path;

/// A checkpoint of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct Checkpoint {
    /// Steps done.
    pub step: u64,
    /// When it was saved, in seconds since 1970.
    pub at: u64,
    /// What was said of that step.
    pub metrics: Vec<Value>,
}

impl Queue {
    /// The checkpoints that a run has kept, the newest first; whose run it is, is the asker's business.
    ///
    /// # Errors
    /// Those of the database.
    pub fn checkpoints(&self, run: &Run, after: Option<u64>, page: Page<'_>) -> Result<Paged<Checkpoint>> {
        let mut saved = saved(&self.output(run).join("checkpoints"));
        saved.sort_unstable_by(|a, b| b.cmp(a));
        saved.retain(|(step, _)| after.is_none_or(|after| *step < after));
        saved.truncate(page.most.saturating_add(1));
        let mut database = self.database()?;
        let mut line = |name: String| {
            let sql = "SELECT data FROM events WHERE run = ?1 AND metric = ?2";
            let text: Option<String> = database.first(sql, values![&run.id, name], |row| row.get(0))?;
            Result::Ok(text.and_then(|text| serde_json::from_str(&text).ok()))
        };
        let items = saved.into_iter().map(|(step, at)| {
            let metrics = [line(format!("step {step}"))?, line(format!("eval {step}"))?];
            Ok(Checkpoint { step, at, metrics: metrics.into_iter().flatten().collect() })
        });
        Ok(Paged::of(items.collect::<Result<_>>()?, page.most))
    }
}

/// The steps of folders that are whole, and when they came.
fn saved(folder: &Path) -> Vec<(u64, u64)> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let step = |entry: std::io::Result<std::fs::DirEntry>| {
        let entry = entry.ok()?;
        let step = entry.file_name().to_str()?.strip_prefix("step-")?.parse().ok()?;
        // Written last.
        let manifest = entry.path().join("manifest.json").metadata().ok()?;
        let at = since_1970(manifest.modified().ok()?).as_secs();
        Some((step, at))
    };
    entries.filter_map(step).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checkpoints_are_those_that_are_whole() {
        let dir = tempfile::tempdir().unwrap();
        assert!(saved(&dir.path().join("none")).is_empty());
        for name in
            ["step-2/manifest.json", "step-10/manifest.json", "step-11/meta.json", ".tmp-step-12-x/manifest.json"]
        {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "{}").unwrap();
        }
        let mut steps: Vec<u64> = saved(dir.path()).into_iter().map(|(step, _)| step).collect();
        steps.sort_unstable();
        assert_eq!(steps, [2, 10]);
    }
}
