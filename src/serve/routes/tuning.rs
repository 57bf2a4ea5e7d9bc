//! Fine-tuning: files, jobs, and what happens to them; each of whoever left or asked for it, and of nobody else.

use super::files;
use super::tuned::{Query, blocking, no_such, own, tuning};
use super::{Result, host, read};
use crate::clock::now;
use crate::queue::{Order, Page, Paged, Queue, Run, Status, Stored};
use crate::random::{Label, Rng};
use crate::serve::Shared;
use crate::serve::body::Body;
use crate::serve::refusal::Refusal;
use crate::serve::tuning::{Method, TRAIN, Tuning, VALIDATION};
use crate::serve::wire::object;
use crate::serve::wire::tuning::{Create, checkpoint, checkpoint_id, event, job, list};
use hyper::body::Incoming;
use hyper::http::request::Parts;
use hyper::{Response, StatusCode};
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// What a path below `/v1/files` or `/v1/fine_tuning` asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    Files,
    File,
    Content,
    Jobs,
    Job,
    Events,
    Checkpoints,
    Cancel,
    Pause,
    Resume,
}

impl Route {
    /// All of them.
    #[cfg(test)]
    pub const ALL: [Route; 10] = [
        Route::Files,
        Route::File,
        Route::Content,
        Route::Jobs,
        Route::Job,
        Route::Events,
        Route::Checkpoints,
        Route::Cancel,
        Route::Pause,
        Route::Resume,
    ];

    /// Of a path, with the name in it.
    pub fn of(path: &str) -> Option<(Self, &str)> {
        let parts: Vec<&str> = path.strip_prefix("/v1/")?.split('/').collect();
        let (route, id) = match parts[..] {
            ["files"] => (Route::Files, ""),
            ["files", id] => (Route::File, id),
            ["files", id, "content"] => (Route::Content, id),
            ["fine_tuning", "jobs"] => (Route::Jobs, ""),
            ["fine_tuning", "jobs", id] => (Route::Job, id),
            ["fine_tuning", "jobs", id, "events"] => (Route::Events, id),
            ["fine_tuning", "jobs", id, "checkpoints"] => (Route::Checkpoints, id),
            ["fine_tuning", "jobs", id, "cancel"] => (Route::Cancel, id),
            ["fine_tuning", "jobs", id, "pause"] => (Route::Pause, id),
            ["fine_tuning", "jobs", id, "resume"] => (Route::Resume, id),
            _ => return None,
        };
        let is_whole = matches!(route, Route::Files | Route::Jobs) || !id.is_empty();
        is_whole.then_some((route, id))
    }

    /// As it is counted.
    pub fn name(self) -> &'static str {
        match self {
            Route::Files => "/v1/files",
            Route::File => "/v1/files/{file}",
            Route::Content => "/v1/files/{file}/content",
            Route::Jobs => "/v1/fine_tuning/jobs",
            Route::Job => "/v1/fine_tuning/jobs/{job}",
            Route::Events => "/v1/fine_tuning/jobs/{job}/events",
            Route::Checkpoints => "/v1/fine_tuning/jobs/{job}/checkpoints",
            Route::Cancel => "/v1/fine_tuning/jobs/{job}/cancel",
            Route::Pause => "/v1/fine_tuning/jobs/{job}/pause",
            Route::Resume => "/v1/fine_tuning/jobs/{job}/resume",
        }
    }

    /// The methods that it takes.
    pub fn methods(self) -> &'static [&'static str] {
        match self {
            Route::Files | Route::Jobs => &["GET", "POST"],
            Route::File => &["GET", "DELETE"],
            Route::Content | Route::Job | Route::Events | Route::Checkpoints => &["GET"],
            Route::Cancel | Route::Pause | Route::Resume => &["POST"],
        }
    }
}

/// Answers whatever a path asks for.
///
/// # Errors
/// What is wrong, and what is not the asker's.
pub async fn answer(
    route: Route,
    id: &str,
    head: &Parts,
    body: &mut Incoming,
    owner: &str,
    shared: &Arc<Shared>,
) -> Result<Response<Body>> {
    tuning(shared)?;
    let (query, is_post) = (Query::of(head)?, head.method == "POST");
    let (owner, id) = (owner.to_owned(), id.to_owned());
    match route {
        Route::Files if is_post => return files::upload(head, body, owner, shared).await,
        Route::Jobs if is_post => {
            let asked = object(&read(head, body, shared).await?)?;
            return blocking(shared, move |shared| create(&asked, &owner, shared)).await;
        }
        _ => {}
    }
    let deletes = head.method == "DELETE";
    blocking(shared, move |shared| {
        let Tuning { queue, .. } = tuning(shared)?;
        match route {
            Route::Files => files::listed(&query, &owner, queue),
            Route::File if deletes => files::delete(&id, &owner, queue),
            Route::File => files::retrieve(&id, &owner, queue),
            Route::Content => files::content(&id, &owner, queue),
            Route::Jobs => {
                let (after, most) = query.page(&[], 20, 100)?;
                let page = Page { after: after.as_deref().map(run_of), most, oldest_first: false };
                let runs = queue.runs(&owner, page).map_err(own)?.ok_or_else(|| no_such("after"))?;
                Ok(Body::json(StatusCode::OK, &list(&runs, |run| shown(run, shared))))
            }
            Route::Job => Ok(Body::json(StatusCode::OK, &shown(&run(&id, &owner, queue)?, shared))),
            Route::Events => events(&query, &run(&id, &owner, queue)?, queue),
            Route::Checkpoints => checkpoints(&query, &run(&id, &owner, queue)?, queue),
            Route::Cancel | Route::Pause | Route::Resume => {
                let (act, name) = match route {
                    Route::Cancel => (Queue::cancel as fn(&Queue, &str, &str) -> _, "cancelled"),
                    Route::Pause => (Queue::pause as fn(&Queue, &str, &str) -> _, "paused"),
                    _ => (Queue::resume as fn(&Queue, &str, &str) -> _, "resumed"),
                };
                let turned: crate::Result<Option<(Run, bool)>> = act(queue, &owner, run_of(&id));
                match turned.map_err(own)? {
                    None => Err(no_job(&id)),
                    Some((run, true)) => Ok(Body::json(StatusCode::OK, &shown(&run, shared))),
                    Some((run, false)) => {
                        let what = format!("a job that is {} cannot be {name}", run.status.name());
                        Err(Refusal::bad(what).code("wrong_status"))
                    }
                }
            }
        }
    })
    .await
}

/// Takes a job.
fn create(asked: &Map<String, Value>, owner: &str, shared: &Arc<Shared>) -> Result<Response<Body>> {
    let Tuning { queue, orders, .. } = tuning(shared)?;
    let seed =
        Rng::new(u64::from(std::process::id())).stream(&[Label::Purpose("job"), Label::Step(now())]).below(1 << 31);
    let Create { model, training_file, validation_file, suffix, wanted, details } = Create::of(asked, seed)?;
    let base = host(shared)?.models().base();
    if model != base {
        super::named(shared, owner, &model)?;
        let what = format!("`{model}` is tuned already: jobs begin with `{base}`");
        return Err(Refusal::param("model", what).code("model_not_available"));
    }
    let rows = |field: &str, id: &str| rows_of(field, id, wanted.method, owner, queue);
    let training = rows("training_file", &training_file)?;
    let validation = validation_file.map(|id| rows("validation_file", &id)).transpose()?;
    let mut named = vec![(TRAIN, &training)];
    named.extend(validation.iter().map(|file| (VALIDATION, file)));
    let called = |id: &str| format!("ft:{base}:{suffix}:{}", id.get(..8).unwrap_or(id));
    let recipe = |folder: &std::path::Path| orders.recipe(&wanted, folder);
    let order = Order { owner, model: &called, files: &named, recipe: &recipe, output: None, device: None, details };
    let run = queue.order(&order).map_err(own)?;
    Ok(Body::json(StatusCode::OK, &shown(&run, shared)))
}

/// A file of rows for a method.
fn rows_of(field: &str, id: &str, method: Method, owner: &str, queue: &Queue) -> Result<Stored> {
    let file = queue.file(owner, files::stored_id(id)).map_err(own)?;
    let file = file.ok_or_else(|| Refusal::param(field, format!("there is no file `{id}`")).code("file_not_found"))?;
    match Method::of(&file.kind) {
        Some(own) if own == method => Ok(file),
        Some(own) => {
            let what = format!("the rows of `{id}` are for `{}`, and not for `{}`", own.name(), method.name());
            Err(Refusal::param(field, what).code("invalid_file_format"))
        }
        None => Err(Refusal::param(field, format!("`{id}` has no rows")).code("invalid_file_format")),
    }
}

/// Where a run keeps what it chose itself, when its folder is gone with its model.
const CHOSEN: &str = "chosen";

/// A job as it is shown: what it chose itself is in its folder.
fn shown(run: &Run, shared: &Shared) -> Value {
    let kept = || serde_json::from_value(run.details[CHOSEN].clone()).ok();
    let chosen = tuning(shared).ok().filter(|_| run.started.is_some());
    let chosen = chosen.and_then(|Tuning { queue, orders, .. }| orders.chosen(&queue.folder(&run.id)));
    job(run, chosen.or_else(kept))
}

/// What a job is called here.
fn run_of(id: &str) -> &str {
    id.strip_prefix("ftjob-").unwrap_or(id)
}

fn run(id: &str, owner: &str, queue: &Queue) -> Result<Run> {
    queue.run(owner, run_of(id)).map_err(own)?.ok_or_else(|| no_job(id))
}

fn no_job(id: &str) -> Refusal {
    Refusal::new(StatusCode::NOT_FOUND, format!("there is no job `{id}`"))
        .of("fine_tuning_job_id")
        .code("job_not_found")
}

fn events(query: &Query, run: &Run, queue: &Queue) -> Result<Response<Body>> {
    let (after, most) = query.page(&[], 20, 1000)?;
    let number =
        |id: String| id.strip_prefix("ftevent-").and_then(|number| number.parse().ok()).ok_or_else(|| no_such("after"));
    let after = after.map(number).transpose()?;
    let events = queue.events(&run.id, after, Page { after: None, most, oldest_first: false }).map_err(own)?;
    Ok(Body::json(StatusCode::OK, &list(&events, event)))
}

fn checkpoints(query: &Query, run: &Run, queue: &Queue) -> Result<Response<Body>> {
    let (after, most) = query.page(&[], 10, 100)?;
    let begins = checkpoint_id(&run.id, 0);
    let begins = begins.trim_end_matches('0');
    let step = |id: String| id.strip_prefix(begins).and_then(|step| step.parse().ok()).ok_or_else(|| no_such("after"));
    let after = after.map(step).transpose()?;
    let page = Page { after: None, most, oldest_first: false };
    // Those of a run whose model was deleted are gone with it.
    let saved = match run.is_dropped || run.status == Status::Queued {
        true => Paged { items: Vec::new(), has_more: false },
        false => queue.checkpoints(run, after, page).map_err(own)?,
    };
    Ok(Body::json(StatusCode::OK, &list(&saved, |saved| checkpoint(run, saved))))
}

/// Forgets a tuned model of somebody, by its name.
///
/// # Errors
/// One that is not there, and one that is not his.
pub async fn delete_model(name: String, owner: &str, shared: &Arc<Shared>) -> Result<Response<Body>> {
    let owner = owner.to_owned();
    blocking(shared, move |shared| {
        let found = super::named(shared, &owner, &name)?;
        let dropped = match &shared.options.tuning {
            Some(tuning) => drop_model(&owner, &name, tuning).map_err(own)?,
            None => false,
        };
        if !dropped {
            let what = format!("`{}` was not tuned by a job: whoever runs the server takes it away", found.name);
            return Err(Refusal::new(StatusCode::FORBIDDEN, what).of("model"));
        }
        host(shared)?.models().remove(&name);
        Ok(Body::json(StatusCode::OK, &json!({"id": name, "object": "model", "deleted": true})))
    })
    .await
}

/// Forgets the model of a run with all that it left, but for what it chose.
fn drop_model(owner: &str, name: &str, Tuning { queue, orders, .. }: &Tuning) -> crate::error::Result<bool> {
    queue.drop_model(owner, name, &|run| {
        let mut details = run.details.clone();
        if let Some(chosen) = orders.chosen(&queue.folder(&run.id)) {
            details[CHOSEN] = serde_json::to_value(chosen).unwrap_or_default();
        }
        details
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::Limits;
    use crate::serve::tuning::{Chosen, Orders, Rows, Wanted};

    /// Makes no recipes, and has chosen always the same.
    struct Always(Chosen);

    impl Orders for Always {
        fn rows(&self, _: &mut dyn std::io::BufRead, _: &mut dyn std::io::Write) -> crate::error::Result<Rows> {
            Ok(Rows { method: Method::Supervised, count: 0 })
        }

        fn recipe(&self, _: &Wanted, _: &std::path::Path) -> crate::error::Result<String> {
            Ok(String::new())
        }

        fn chosen(&self, folder: &std::path::Path) -> Option<Chosen> {
            folder.exists().then_some(self.0)
        }
    }

    #[test]
    fn what_a_run_chose_is_known_when_its_model_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let queue = Arc::new(Queue::open(dir.path(), Limits { files: 1, bytes: 1, waiting: 1 }).unwrap());
        let run = Run {
            id: String::new(),
            owner: "me".into(),
            status: Status::Succeeded,
            model: "ft:m::abc".into(),
            is_dropped: false,
            created: 1,
            started: Some(2),
            finished: Some(3),
            tokens: None,
            results: None,
            error: None,
            details: json!({"seed": 7}),
            output: None,
            device: None,
            process: None,
        };
        let run = queue.take_over(run).unwrap();
        std::fs::create_dir(queue.folder(&run.id)).unwrap();
        let chosen = Chosen { epochs: 3.0, batch: 8, rate_multiplier: 2.5, beta: None };
        let tuning = Tuning { queue: queue.clone(), orders: Arc::new(Always(chosen)), max_file_bytes: 1 };
        assert!(!drop_model("you", &run.model, &tuning).unwrap() && drop_model("me", &run.model, &tuning).unwrap());
        assert!(!drop_model("me", &run.model, &tuning).unwrap(), "it is gone");
        let kept = queue.run("me", &run.id).unwrap().unwrap();
        assert!(kept.is_dropped && kept.details["seed"] == 7 && tuning.orders.chosen(&queue.folder(&run.id)).is_none());
        assert_eq!(serde_json::from_value::<Chosen>(kept.details[CHOSEN].clone()).unwrap(), chosen);
    }

    #[test]
    fn paths_are_known() {
        assert_eq!(Route::of("/v1/files"), Some((Route::Files, "")));
        assert_eq!(Route::of("/v1/files/file-a/content"), Some((Route::Content, "file-a")));
        assert_eq!(Route::of("/v1/fine_tuning/jobs/ftjob-a/cancel"), Some((Route::Cancel, "ftjob-a")));
        for path in
            ["/v1/files/", "/v1/files//content", "/v1/files/a/b", "/v1/fine_tuning", "/v1/fine_tuning/jobs/", "/files"]
        {
            assert_eq!(Route::of(path), None, "{path}");
        }
        assert_eq!(Route::File.methods(), ["GET", "DELETE"]);
        assert_eq!((run_of("ftjob-a"), run_of("a")), ("a", "a"));
    }
}
