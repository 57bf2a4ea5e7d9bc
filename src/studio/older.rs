//! Runs of studios before the queue, which kept them in `jobs/N/`: words and recipe move into the queue, and what the runs left stays
//! where it is.

use super::folder::{NAME_CHARS, OWNER};
use crate::error::{Error, Kind, Result};
use crate::queue::{Queue, Run, Status};
use crate::{input, paths};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Takes over all runs of a folder of jobs, and says which have another name now.
///
/// # Errors
/// What cannot be read or moved.
pub fn take_over(jobs: &Path, queue: &Queue) -> Result<Vec<String>> {
    let folders = paths::entries(jobs).into_iter().map(|name| jobs.join(name));
    let read = |folder: PathBuf| -> Result<_> { Ok(Older::read(&folder)?.map(|older| (older, folder))) };
    let mut found = folders.filter_map(|folder| read(folder).transpose()).collect::<Result<Vec<_>>>()?;
    found.sort_by_key(|(older, _)| older.id);
    // Whose the folder of a name is: the last one's of that name that began.
    let mut holders = BTreeMap::<String, (bool, u64)>::new();
    for (older, _) in &found {
        let holder = holders.entry(older.run.clone()).or_default();
        *holder = (*holder).max((older.started.is_some(), older.id));
    }
    let mut said = Vec::new();
    for (older, folder) in found {
        let is_holder = holders.get(&older.run).is_some_and(|(_, id)| *id == older.id);
        let (name, known) = name_for(&older, is_holder, &holders, queue)?;
        if name != older.run {
            said.push(format!(
                "warning: this studio had two runs `{}`: the one of job {} is called `{name}` now, and is trained in a folder of its own",
                older.run, older.id
            ));
        }
        let run = match known {
            Some(run) => run,
            None => queue.take_over(older.taken(name))?,
        };
        let to = queue.folder(&run.id);
        fs::rename(&folder, &to).map_err(|e| Error::io("moving a run of an older studio to", &to, e))?;
    }
    Ok(said)
}

/// The name of a run, its own or that with the first number that nothing has; and the run that it is already where taking it over was
/// interrupted.
fn name_for(
    older: &Older,
    is_holder: bool,
    holders: &BTreeMap<String, (bool, u64)>,
    queue: &Queue,
) -> Result<(String, Option<Run>)> {
    let mut number = if is_holder { 1 } else { 2 };
    loop {
        let name = match number {
            1 => older.run.clone(),
            number => numbered(&older.run, number),
        };
        number += 1;
        if name != older.run && holders.contains_key(&name) {
            continue;
        }
        match queue.run_of_model(OWNER, &name)? {
            None => return Ok((name, None)),
            Some(run) if run.created == older.created && !queue.folder(&run.id).exists() => {
                return Ok((name, Some(run)));
            }
            Some(_) => {}
        }
    }
}

/// A name with a number behind it, which is none too long.
fn numbered(name: &str, number: u64) -> String {
    let ending = format!("-{number}");
    let stem: String = name.chars().take(NAME_CHARS.saturating_sub(ending.len())).collect();
    stem + &ending
}

/// A run as those studios kept it, in a file of its own.
#[derive(Deserialize)]
struct Older {
    id: u64,
    run: String,
    model: String,
    #[serde(default)]
    steps: Vec<Vec<String>>,
    output: String,
    state: String,
    created: u64,
    started: Option<u64>,
    ended: Option<u64>,
    #[serde(default)]
    estimated_bytes: Option<u64>,
    #[serde(default)]
    then_talk: bool,
}

impl Older {
    /// The one in a folder; `None` where there is none, or it was no run.
    fn read(folder: &Path) -> Result<Option<Self>> {
        let path = folder.join("job.json");
        if !path.is_file() {
            return Ok(None);
        }
        let damaged = |e: serde_json::Error| {
            Error::new(Kind::Data, format!("the job is damaged: {e}")).at_path(&path).hint("remove its folder")
        };
        let text = input::read_to_string(&path).map_err(|e| Error::io("reading", &path, e))?;
        let job: Value = serde_json::from_str(&text).map_err(damaged)?;
        if job["task"] != "train" {
            return Ok(None);
        }
        serde_json::from_value(job).map(Some).map_err(damaged)
    }

    fn taken(self, name: String) -> Run {
        let device = self.steps.iter().flatten().find_map(|word| word.strip_prefix("--device="));
        let status = match self.state.as_str() {
            "waiting" => Status::Queued,
            "running" => Status::Running,
            "done" => Status::Succeeded,
            "failed" => Status::Failed,
            _ => Status::Paused,
        };
        Run {
            id: String::new(),
            owner: OWNER.to_owned(),
            status,
            model: name,
            is_dropped: false,
            created: self.created,
            started: self.started,
            finished: self.ended.filter(|_| status.is_over()),
            tokens: None,
            results: None,
            error: None,
            device: device.map(str::to_owned),
            details: json!({"model": self.model, "estimated_bytes": self.estimated_bytes, "then_talk": self.then_talk}),
            output: Some(self.output),
            process: None,
        }
    }
}
