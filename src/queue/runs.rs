//! Runs, from their being asked for to their end.

use super::database::{Cell, Database, Row, values};
use super::events::{Level, say};
use super::process::holder;
use super::{Order, Page, Paged, Queue, Turn, new_id};
use crate::atomic;
use crate::clock::now;
use crate::error::{Error, Kind, Result};
use crate::process::Process;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fs;
use std::path::Path;

/// How a run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// It waits for its turn.
    Queued,
    /// It runs, or did when the program ended, and goes on when that runs again.
    Running,
    /// Somebody stopped it, and may let it go on.
    Paused,
    /// Its model is there.
    Succeeded,
    /// It ended early.
    Failed,
    /// Somebody ended it.
    Cancelled,
}

impl Status {
    const ALL: [Status; 6] =
        [Status::Queued, Status::Running, Status::Paused, Status::Succeeded, Status::Failed, Status::Cancelled];

    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Status::Queued => "queued",
            Status::Running => "running",
            Status::Paused => "paused",
            Status::Succeeded => "succeeded",
            Status::Failed => "failed",
            Status::Cancelled => "cancelled",
        }
    }

    fn of(name: &str) -> Self {
        Status::ALL.into_iter().find(|status| status.name() == name).unwrap_or(Status::Failed)
    }

    /// Whether nothing comes after it.
    pub fn is_over(self) -> bool {
        matches!(self, Status::Succeeded | Status::Failed | Status::Cancelled)
    }
}

/// Why a run failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// A word for programs.
    pub code: String,
    /// What the run said.
    pub message: String,
    /// Where, as a file of the run's folder, where it said so.
    pub place: Option<String>,
}

/// A run that somebody wants, or wanted.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    /// Its name here.
    pub id: String,
    /// Whose it is.
    pub owner: String,
    /// How it stands.
    pub status: Status,
    /// What its model is called.
    pub model: String,
    /// Whether that model was deleted.
    pub is_dropped: bool,
    /// When it was asked for, in seconds since 1970.
    pub created: u64,
    /// When it began.
    pub started: Option<u64>,
    /// When it ended.
    pub finished: Option<u64>,
    /// Tokens that it was trained on, when it is over.
    pub tokens: Option<u64>,
    /// The file of its steps, when it is over.
    pub results: Option<String>,
    /// Why it failed.
    pub error: Option<Failure>,
    /// What whoever asked for it wants to find again.
    pub details: Value,
    /// Its `output.dir`, where that is not [`RUN`](super::RUN) in its folder.
    pub output: Option<String>,
    /// The device that it is trained on, where that is not the one of all.
    pub device: Option<String>,
    /// The process that trains it, or did before it was stopped.
    pub process: Option<Process>,
}

const COLUMNS: &str = "id, owner, status, model, is_dropped, created, started, finished, tokens, results, error, details, \
                       output, device, process, born";

fn run(row: &Row) -> Result<Run> {
    let (status, error, details): (String, Option<String>, String) = (row.get(2)?, row.get(10)?, row.get(11)?);
    let (pid, born): (Option<u32>, Option<u64>) = (row.get(14)?, row.get(15)?);
    Ok(Run {
        id: row.get(0)?,
        owner: row.get(1)?,
        status: Status::of(&status),
        model: row.get(3)?,
        is_dropped: row.get(4)?,
        created: row.get(5)?,
        started: row.get(6)?,
        finished: row.get(7)?,
        tokens: row.get(8)?,
        results: row.get(9)?,
        error: error.and_then(|text| serde_json::from_str(&text).ok()),
        details: serde_json::from_str(&details).unwrap_or_default(),
        output: row.get(12)?,
        device: row.get(13)?,
        process: pid.map(|pid| Process { pid, born }),
    })
}

fn find(database: &mut Database, condition: &str, values: &[Cell]) -> Result<Option<Run>> {
    database.first(&format!("SELECT {COLUMNS} FROM runs WHERE {condition}"), values, run)
}

impl Queue {
    /// Takes a run, to be trained when those before it are done.
    ///
    /// # Errors
    /// One too many, a recipe that is wrong, and what cannot be written.
    pub fn order(&self, order: &Order<'_>) -> Result<Run> {
        let id = new_id();
        let folder = self.folder(&id);
        let entered = self.fill(&folder, order.files, order.recipe).and_then(|()| self.enter(&id, order));
        let taken = match entered {
            Ok(taken) => taken,
            // Who breaks off when something is to be kept may have kept it.
            Err(error) => match self.run(order.owner, &id) {
                Ok(Some(taken)) => taken,
                Ok(None) => {
                    let _ = fs::remove_dir_all(&folder); // else at the next start
                    return Err(error);
                }
                Err(_) => return Err(error), // the next start knows
            },
        };
        self.call();
        Ok(taken)
    }

    /// Writes what a run reads.
    fn fill(
        &self,
        folder: &Path,
        files: &[(&str, &super::Stored)],
        recipe: &dyn Fn(&Path) -> Result<String>,
    ) -> Result<()> {
        fs::create_dir_all(folder).map_err(|e| Error::io("creating the folder", folder, e))?;
        for (name, file) in files {
            let (from, to) = (self.rows_of(&file.id), folder.join(name));
            // A name of its own for the same bytes, which stay when the other goes.
            if fs::hard_link(&from, &to).is_err() {
                fs::copy(&from, &to).map_err(|e| Error::io("writing", &to, e))?;
            }
        }
        atomic::write(&folder.join("recipe.yaml"), recipe(folder)?.as_bytes())
    }

    fn enter(&self, id: &str, order: &Order<'_>) -> Result<Run> {
        let Order { owner, model, output, device, details, .. } = order;
        let mut database = self.database()?;
        let sql = "SELECT count(*) FROM runs WHERE owner = ?1 AND status IN ('queued', 'running', 'paused')";
        let waiting: u64 = database.first(sql, values![*owner], |row| row.get(0))?.unwrap_or_default();
        if waiting >= self.limits.waiting {
            let what = format!("{waiting} runs wait already, and no more are taken");
            return Err(Error::new(Kind::Recipe, what).hint("wait until one is done, or cancel one"));
        }
        let sql = "INSERT INTO runs (id, owner, status, model, created, details, output, device)
                   VALUES (?1, ?2, 'queued', ?3, ?4, ?5, ?6, ?7)";
        database.together(|database| {
            database.change(sql, values![id, *owner, model(id), now(), details.to_string(), *output, *device])?;
            say(database, id, Level::Info, "Taken; it waits for its turn.")
        })?;
        let entered = find(&mut database, "id = ?1", values![id])?;
        entered.ok_or_else(|| Error::new(Kind::Bug, "a run that was entered is not there"))
    }

    /// Takes over a run that something else has kept, as it stood there, and gives it a name here; its folder is yet to be filled.
    ///
    /// # Errors
    /// Those of the database, one of whose models is called the same.
    pub fn take_over(&self, run: Run) -> Result<Run> {
        let run = Run { id: new_id(), ..run };
        let Run { id, owner, status, model, created, started, finished, details, output, device, .. } = &run;
        let sql = "INSERT INTO runs (id, owner, status, model, created, started, finished, details, output, device)
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)";
        let (details, output, device) = (details.to_string(), output.as_ref(), device.as_ref());
        let values = values![id, owner, status.name(), model, *created, *started, *finished, details, output, device];
        self.database()?.together(|database| {
            database.change(sql, values)?;
            say(database, id, Level::Info, "Taken over.")
        })?;
        Ok(run)
    }

    /// Takes down what of a run is its keeper's: where its `output.dir` is, its details, and the process that trains it.
    ///
    /// # Errors
    /// Those of the database.
    pub fn change(&self, run: &Run) -> Result<()> {
        let Run { id, output, details, process, .. } = run;
        let (pid, born) = (process.map(|process| process.pid), process.and_then(|process| process.born));
        let sql = "UPDATE runs SET output = ?2, details = ?3, process = ?4, born = ?5 WHERE id = ?1";
        let values = values![id, output.as_ref(), details.to_string(), pid, born];
        self.database()?.change(sql, values).map(drop)
    }

    /// A run of somebody.
    ///
    /// # Errors
    /// Those of the database.
    pub fn run(&self, owner: &str, id: &str) -> Result<Option<Run>> {
        find(&mut *self.database()?, "owner = ?1 AND id = ?2", values![owner, id])
    }

    /// The run of somebody whose model is called so.
    ///
    /// # Errors
    /// Those of the database.
    pub fn run_of_model(&self, owner: &str, model: &str) -> Result<Option<Run>> {
        find(&mut *self.database()?, "owner = ?1 AND model = ?2", values![owner, model])
    }

    /// Runs of somebody; `None` where the page begins behind one that is not there.
    ///
    /// # Errors
    /// Those of the database.
    pub fn runs(&self, owner: &str, page: Page<'_>) -> Result<Option<Paged<Run>>> {
        let mut database = self.database()?;
        let Some(behind) = page.behind(&mut database, "runs", owner)? else { return Ok(None) };
        let chosen = format!("SELECT {COLUMNS} FROM runs WHERE owner = ?1");
        page.of(&mut database, &chosen, owner, behind, run).map(Some)
    }

    /// The runs of everybody whose models are there, the oldest first.
    ///
    /// # Errors
    /// Those of the database.
    pub fn succeeded(&self) -> Result<Vec<Run>> {
        self.of_everybody("status = 'succeeded' AND is_dropped = 0")
    }

    /// Runs that somebody stopped, whose processes may not have heard of it.
    pub(super) fn stopped(&self) -> Result<Vec<Run>> {
        self.of_everybody("status IN ('paused', 'cancelled') AND process IS NOT NULL")
    }

    pub(super) fn of_everybody(&self, condition: &str) -> Result<Vec<Run>> {
        let sql = format!("SELECT {COLUMNS} FROM runs WHERE {condition} ORDER BY number");
        self.database()?.all(&sql, values![], run)
    }

    /// Ends a run of somebody for good, one that runs as soon as its checkpoint is written. `None` where it is not there, and the run
    /// as it is, and not `true`, where it is over already.
    ///
    /// # Errors
    /// Those of the database.
    pub fn cancel(&self, owner: &str, id: &str) -> Result<Option<(Run, bool)>> {
        self.turn(owner, id, &["queued", "running", "paused"], Status::Cancelled, "Cancelled.")
    }

    /// Stops a run of somebody until it is [resumed](Queue::resume); as [`Queue::cancel`].
    ///
    /// # Errors
    /// Those of the database.
    pub fn pause(&self, owner: &str, id: &str) -> Result<Option<(Run, bool)>> {
        self.turn(owner, id, &["queued", "running"], Status::Paused, "Paused.")
    }

    /// Lets a run of somebody go on when it is its turn; as [`Queue::cancel`].
    ///
    /// # Errors
    /// Those of the database.
    pub fn resume(&self, owner: &str, id: &str) -> Result<Option<(Run, bool)>> {
        self.turn(owner, id, &["paused"], Status::Queued, "Resumed; it waits for its turn.")
    }

    /// As [`Queue::resume`], also of a run that failed: what made it fail may be mended.
    ///
    /// # Errors
    /// Those of the database.
    pub fn retry(&self, owner: &str, id: &str) -> Result<Option<(Run, bool)>> {
        self.turn(owner, id, &["paused", "failed"], Status::Queued, "Resumed; it waits for its turn.")
    }

    fn turn(&self, owner: &str, id: &str, from: &[&str], to: Status, says: &str) -> Result<Option<(Run, bool)>> {
        let from = from.iter().map(|status| format!("'{status}'")).collect::<Vec<_>>().join(", ");
        let sql = format!(
            "UPDATE runs SET status = ?3, finished = ?4, error = NULL WHERE owner = ?1 AND id = ?2 AND status IN ({from})"
        );
        let mut database = self.database()?;
        let turned = database.together(|database| {
            let turned = database.change(&sql, values![owner, id, to.name(), to.is_over().then(now)])? > 0;
            if turned {
                say(database, id, Level::Info, says)?;
            }
            Ok(turned)
        })?;
        let found = find(&mut database, "owner = ?1 AND id = ?2", values![owner, id])?;
        drop(database);
        self.call();
        Ok(found.map(|found| (found, turned)))
    }

    /// Forgets the model of a run of somebody, by its name, and all that the run has left but for what is said of it, and the details
    /// that `kept` makes of it while all is there; whether there was one.
    ///
    /// # Errors
    /// Those of the database.
    pub fn drop_model(&self, owner: &str, model: &str, kept: &dyn Fn(&Run) -> Value) -> Result<bool> {
        let condition = "owner = ?1 AND model = ?2 AND status = 'succeeded' AND is_dropped = 0";
        let dropped = self.database()?.together(|database| {
            let found = find(database, condition, values![owner, model])?;
            if let Some(found) = &found {
                let sql = "UPDATE runs SET is_dropped = 1, details = ?2 WHERE id = ?1";
                database.change(sql, values![&found.id, kept(found).to_string()])?;
            }
            Ok(found)
        })?;
        let Some(found) = dropped else { return Ok(false) };
        let _ = fs::remove_dir_all(self.folder(&found.id));
        Ok(true)
    }

    /// Forgets a run of somebody that does not go on, and all that it has left; whether there was one.
    ///
    /// # Errors
    /// Those of the database, and what cannot be removed: then it is there still.
    pub fn forget(&self, owner: &str, id: &str) -> Result<bool> {
        let mut database = self.database()?; // nobody lets it go on meanwhile
        let found = find(&mut database, "owner = ?1 AND id = ?2 AND status <> 'running'", values![owner, id])?;
        let is_free = |run: &Run| !self.is_busy(run) && holder(&self.output(run)).is_none();
        let Some(run) = found.filter(is_free) else { return Ok(false) };
        for folder in [self.output(&run), self.folder(id)].into_iter().filter(|folder| folder.exists()) {
            fs::remove_dir_all(&folder).map_err(|e| Error::io("removing", &folder, e))?;
        }
        database.together(|database| {
            database.change("DELETE FROM events WHERE run = ?1", values![id])?;
            database.change("DELETE FROM runs WHERE id = ?1", values![id])
        })?;
        drop(database);
        run.results.map_or(Ok(true), |results| self.delete_file(owner, &results).map(|_| true))
    }

    /// The run whose turn it is: one that ran when the program ended, else the one that has waited longest.
    pub(super) fn next(&self) -> Result<Option<Run>> {
        let condition = "status IN ('running', 'queued') ORDER BY status = 'queued', number LIMIT 1";
        let mut database = self.database()?; // nobody forgets it before its turn has begun
        let next = find(&mut database, condition, values![])?;
        *self.turn_now() = next.as_ref().map(|run| Turn { run: run.id.clone(), ..Turn::default() });
        Ok(next)
    }

    /// How a run stands.
    pub(super) fn status(&self, id: &str) -> Result<Status> {
        let sql = "SELECT status FROM runs WHERE id = ?1";
        let name: Option<String> = self.database()?.first(sql, values![id], |row| row.get(0))?;
        let name = name.ok_or_else(|| Error::new(Kind::Run, format!("the run `{id}` is no more in the database")))?;
        Ok(Status::of(&name))
    }

    /// Takes down that a run is being trained by a process; not where somebody has stopped it meanwhile.
    pub(super) fn begin(&self, id: &str, process: Option<Process>, says: &str) -> Result<bool> {
        let sql = "UPDATE runs SET status = 'running', process = ?2, born = ?3, started = coalesce(started, ?4)
                   WHERE id = ?1 AND status IN ('queued', 'running')";
        let (pid, born) = (process.map(|process| process.pid), process.and_then(|process| process.born));
        self.database()?.together(|database| {
            let begun = database.change(sql, values![id, pid, born, now()])? > 0;
            if begun {
                say(database, id, Level::Info, says)?;
            }
            Ok(begun)
        })
    }

    /// Takes down how a run ended; not where somebody has stopped it meanwhile.
    pub(super) fn end(&self, id: &str, end: &End, level: Level, says: &str) -> Result<bool> {
        let error = end.error.as_ref().and_then(|error| serde_json::to_string(error).ok());
        let finished = end.status.is_over().then(now);
        let sql = "UPDATE runs SET status = ?2, finished = ?3, tokens = ?4, results = ?5, error = ?6, process = NULL
                   WHERE id = ?1 AND status = 'running'";
        let values = values![id, end.status.name(), finished, end.tokens, end.results.as_ref(), error];
        self.database()?.together(|database| {
            let ended = database.change(sql, values)? > 0;
            if ended {
                say(database, id, level, says)?;
                return Ok(true);
            }
            // Said again, where nobody had heard whether it was taken down.
            let sql = "SELECT id FROM runs WHERE id = ?1 AND status = ?2";
            Ok(database.first(sql, values![id, end.status.name()], |row| row.get::<String>(0))?.is_some())
        })
    }
}

/// How a run ended.
#[derive(Debug)]
pub(super) struct End {
    pub status: Status,
    pub tokens: Option<u64>,
    pub results: Option<String>,
    pub error: Option<Failure>,
}
