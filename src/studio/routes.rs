//! What each path means.

mod looking;
mod uploads;

use super::Shared;
use super::allowed::{self, run_of};
use super::needed;
use super::placing;
use super::ratings::Rated;
use super::runs::{base_of, judges};
use super::shipping::Wish;
use super::upstream;
use crate::error::{Error, Kind};
use crate::input;
use crate::paths::named;
use crate::queue::Run;
use crate::recipe;
use crate::serve::{Body, Refusal};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::{Body as _, Bytes, Incoming};
use hyper::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, HeaderName, HeaderValue, REFERRER_POLICY, SET_COOKIE};
use hyper::http::request::Parts;
use hyper::{Method, Request, Response, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

type Result<T> = std::result::Result<T, Refusal>;

/// Bytes of what the page asks, pictures and sounds of a conversation among them.
const MOST_BYTES: usize = 64 << 20;
/// How long a body may take to come.
const BODY_TIME: Duration = Duration::from_secs(120);
/// Bytes of a file that are given at once.
const PIECE: u64 = 1 << 20;

/// Answers a request, whatever it is.
pub async fn answer(request: Request<Incoming>, shared: Arc<Shared>) -> Response<Body> {
    let (head, mut body) = request.into_parts();
    let response = respond(&head, &mut body, &shared).await;
    let mut response = response.unwrap_or_else(|refusal| refusal.response());
    if !body.is_end_stream() {
        let rest = Limited::new(&mut body, MOST_BYTES).collect();
        let _ = tokio::time::timeout(Duration::from_secs(2), rest).await;
    }
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(HeaderName::from_static("x-content-type-options"), HeaderValue::from_static("nosniff"));
    headers.insert(HeaderName::from_static("cross-origin-resource-policy"), HeaderValue::from_static("same-origin"));
    response
}

async fn respond(head: &Parts, body: &mut Incoming, shared: &Arc<Shared>) -> Result<Response<Body>> {
    shared.door.admit(&head.headers, head.uri.query(), shared.address.ip())?;
    let path: Vec<&str> = head.uri.path().strip_prefix('/').unwrap_or_default().split('/').collect();
    let from = || query(head, "from").and_then(|from| from.parse().ok()).unwrap_or(0);
    match (&head.method, &path[..]) {
        (&Method::GET, [""]) => Ok(page(shared)),
        (&Method::GET, ["api", "state"]) => state(shared).map(|state| ok(&state)),
        (&Method::GET, ["api", "schema"]) => looking::say(shared, &["recipe", "schema"]).await,
        (&Method::GET, ["api", "models"]) => looking::models(shared).await,
        (&Method::GET, ["api", "jobs", id, "log"]) => lines(&job_folder(shared, id)?.join("log.txt"), from()),
        (&Method::GET, ["api", "jobs", id, "recipe"]) => whole(&job_folder(shared, id)?.join("recipe.yaml")),
        (&Method::GET, ["api", "jobs", id, "out", step]) => {
            let step: usize = step.parse().map_err(|_| nothing(head))?;
            whole(&job_folder(shared, id)?.join(format!("out-{step}.json")))
        }
        (&Method::GET, ["api", "runs", name, "metrics"]) => {
            lines(&run_folder(shared, name)?.join("metrics.jsonl"), from())
        }
        (&Method::GET, ["api", "runs", name, "summary"]) => whole(&run_folder(shared, name)?.join("summary.json")),
        (&Method::POST, ["api", "files"]) => uploads::take(head, body, shared).await,
        (&Method::POST, ["api", "files", "remove"]) => {
            let Named { name } = read(body).await?;
            needed::file(shared, &name).map_err(own)?.map_or(Ok(()), |why| Err(conflict(why)))?;
            let is_gone = shared.folder.remove(&name).map_err(own)?;
            if is_gone { Ok(ok(&json!({}))) } else { Err(nothing(head)) }
        }
        (&Method::POST, ["api", "draft"]) => looking::draft(&read(body).await?, shared).await,
        (&Method::POST, ["api", "recipe", what]) => looking::look(what, &read(body).await?, shared).await,
        (&Method::POST, ["api", "train"]) => train(&read(body).await?, shared),
        (&Method::POST, ["api", "ship"]) => {
            let wish: Wish = read(body).await?;
            let run = known_run(shared, &wish.run)?;
            let job = wish.job(base_of(&run), judges(&run), &shared.folder).map_err(own)?;
            let id = shared.jobs.add(job).map_err(own)?;
            Ok(ok(&json!({"id": id})))
        }
        (&Method::POST, ["api", "jobs", id, what @ ("stop" | "resume" | "remove")]) => {
            let is_done = match (shared.runs.get(id).map_err(own)?, id.parse(), *what) {
                (Some(run), _, "remove") => match needed::run(shared, &run).map_err(own)? {
                    Some(why) => return Err(conflict(why)),
                    None => shared.runs.act(&run.id, what),
                },
                (Some(run), ..) => shared.runs.act(&run.id, what),
                (None, Ok(id), "stop") => Ok(shared.jobs.stop(id)),
                (None, Ok(id), "remove") => shared.jobs.remove(id),
                (None, Ok(_), _) => Ok(false),
                (None, Err(_), _) => return Err(nothing(head)),
            };
            match is_done.map_err(own)? {
                true => Ok(ok(&json!({}))),
                false => Err(conflict("it is not in a state for that")),
            }
        }
        (&Method::POST, ["api", "talk"]) => {
            let Talked { model, run, device } = read(body).await?;
            let run = run.map(|run| known_run(shared, &run)).transpose()?;
            if let Some(run) = run.as_ref().filter(|run| judges(run)) {
                return Err(Refusal::param("run", format!("`{}` judges answers and writes none", run.model)));
            }
            let model = run.as_ref().map(|run| base_of(run).to_owned()).or(model);
            let Some(model) = model.filter(|model| !model.trim().is_empty()) else {
                return Err(Refusal::param("model", "choose a model or a run"));
            };
            let device = device_of(device.as_deref())?;
            let run = run.as_ref().map(|run| run.model.as_str());
            shared.talk.open(&shared.folder, &model, run, device).map_err(own)?;
            Ok(ok(&shared.talk.shown()))
        }
        (&Method::POST, ["api", "talk", "end"]) => {
            shared.talk.end();
            Ok(ok(&Value::Null))
        }
        (&Method::POST, ["api", "talk", "chat"]) => {
            let body = bytes(body).await?;
            let Some(reached) = shared.talk.reached() else {
                return Err(conflict("no model is loaded"));
            };
            upstream::chat(&reached, &body).await
        }
        (&Method::POST, ["api", "ratings"]) => {
            let rated: Rated = read(body).await?;
            let is_needed = |file: &str| Ok(needed::file(shared, file)?.is_some());
            let file = rated.keep(&shared.folder, &is_needed).map_err(own)?;
            Ok(ok(&json!({"file": file})))
        }
        _ => Err(nothing(head)),
    }
}

/// A name alone.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Named {
    name: String,
}

/// Whom to talk to.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Talked {
    #[serde(default)]
    model: Option<String>,
    #[serde(default)]
    run: Option<String>,
    #[serde(default)]
    device: Option<String>,
}

/// A run that is to begin.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Begun {
    recipe: String,
    #[serde(default)]
    device: Option<String>,
    #[serde(default)]
    estimated_bytes: Option<u64>,
    #[serde(default)]
    then_talk: bool,
}

fn train(begun: &Begun, shared: &Shared) -> Result<Response<Body>> {
    allowed::check(&begun.recipe, &shared.folder).map_err(own)?;
    let device = Some(device_of(begun.device.as_deref())?).filter(|device| *device != "auto");
    // The studio may be opened from another working directory when it is the run's turn.
    let recipe = placing::with_base(&begun.recipe, &shared.folder).unwrap_or_else(|| begun.recipe.clone());
    let value = |key: &str| {
        let missing = || Refusal::param(key, format!("the recipe does not say `{key}`"));
        recipe::value_of(&recipe, key).ok_or_else(missing)
    };
    let (dir, model) = (value("output.dir")?, value("model.base")?);
    let name = run_of(&dir, &shared.folder).unwrap_or_default();
    if shared.folder.run(name).exists() || shared.runs.named(name).map_err(own)?.is_some() {
        return Err(Refusal::param(
            "output.dir",
            format!("there is a run `{name}` already: give this one another name"),
        ));
    }
    let learns = recipe::value_of(&recipe, "task");
    let details = json!({
        "model": model, "estimated_bytes": begun.estimated_bytes, "then_talk": begun.then_talk, "learns": learns,
    });
    let output = shared.folder.run(name).display().to_string();
    let id = shared.runs.add(name, &recipe, &output, device, details).map_err(own)?;
    Ok(ok(&json!({"id": id})))
}

fn page(shared: &Shared) -> Response<Body> {
    let mut response = Response::new(Body::Whole(Some(shared.page.html.clone())));
    let headers = response.headers_mut();
    headers.insert(hyper::header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    for (name, value) in [(CONTENT_SECURITY_POLICY, shared.page.policy.clone()), (SET_COOKIE, shared.door.set_cookie())]
    {
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(name, value);
        }
    }
    response
}

/// All that changes while the page is open, but for what files hold.
fn state(shared: &Shared) -> Result<Value> {
    let jobs = shared.runs.shown().map_err(own)?.into_iter().chain(shared.jobs.shown()).collect::<Vec<_>>();
    let path = |name: &str| named(&shared.folder.data(name));
    let files = shared.folder.files().into_iter().map(|file| {
        let mut shown = json!({"path": path(&file.file)});
        if let (Value::Object(shown), Ok(Value::Object(file))) = (&mut shown, serde_json::to_value(&file)) {
            shown.extend(file);
        }
        shown
    });
    Ok(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "dir": shared.folder.dir().display().to_string(),
        "runs_dir": named(&shared.folder.run("")),
        "max_upload_bytes": shared.max_upload_bytes,
        "files": files.collect::<Vec<_>>(),
        "jobs": jobs,
        "talk": shared.talk.shown(),
    }))
}

fn ok(value: &Value) -> Response<Body> {
    Body::json(StatusCode::OK, value)
}

/// What the studio itself fails at.
fn own(error: Error) -> Refusal {
    Refusal::of_error(&error)
}

/// What cannot be as things stand.
fn conflict(why: impl Into<String>) -> Refusal {
    Refusal::new(StatusCode::CONFLICT, why)
}

fn nothing(head: &Parts) -> Refusal {
    Refusal::new(StatusCode::NOT_FOUND, format!("there is nothing at {} {}", head.method, head.uri.path()))
}

/// What a request says of a name in its query, decoded.
fn query(head: &Parts, name: &str) -> Option<String> {
    let pair = |part: &str| part.split_once('=').filter(|(key, _)| *key == name).map(|(_, value)| value.to_owned());
    let value = head.uri.query()?.split('&').find_map(pair)?;
    Some(percent_encoding::percent_decode_str(&value).decode_utf8_lossy().into_owned())
}

fn job_folder(shared: &Shared, id: &str) -> Result<std::path::PathBuf> {
    if let Some(run) = shared.runs.get(id).map_err(own)? {
        return Ok(shared.runs.queue.folder(&run.id));
    }
    let job = id.parse().ok().and_then(|id| shared.jobs.get(id));
    let job = job.ok_or_else(|| Refusal::new(StatusCode::NOT_FOUND, format!("there is no job {id}")))?;
    Ok(shared.folder.job(job.id))
}

fn run_folder(shared: &Shared, name: &str) -> Result<std::path::PathBuf> {
    known_run(shared, name).map(|run| shared.runs.queue.output(&run))
}

/// A run of this studio.
fn known_run(shared: &Shared, name: &str) -> Result<Run> {
    let run = shared.runs.named(name).map_err(own)?;
    run.ok_or_else(|| Refusal::new(StatusCode::NOT_FOUND, format!("there is no run `{name}`")))
}

/// A device as verbs take it.
fn device_of(named: Option<&str>) -> Result<&str> {
    let device = named.unwrap_or("auto");
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || ":,".contains(c);
    if !device.is_empty() && device.chars().all(fits) {
        return Ok(device);
    }
    Err(Refusal::param("device", format!("`{device}` is no device")))
}

/// A file of ours that is small; nothing where it is not there yet.
fn whole(path: &Path) -> Result<Response<Body>> {
    held(path, 0).map(plain)
}

/// The whole lines that a file of ours holds from a byte on, as many as are given at once.
fn lines(path: &Path, from: u64) -> Result<Response<Body>> {
    let mut bytes = held(path, from)?;
    bytes.truncate(bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1));
    Ok(plain(bytes))
}

fn held(path: &Path, from: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if path.is_file() {
        let read = input::open(path).and_then(|mut file| {
            file.seek(SeekFrom::Start(from))?;
            file.take(PIECE).read_to_end(&mut bytes)
        });
        read.map_err(|e| own(Error::io("reading", path, e)))?;
    }
    Ok(bytes)
}

fn plain(bytes: Vec<u8>) -> Response<Body> {
    let mut response = Response::new(Body::Whole(Some(bytes.into())));
    response.headers_mut().insert(hyper::header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

/// The body of a request.
async fn bytes(body: &mut Incoming) -> Result<Bytes> {
    match tokio::time::timeout(BODY_TIME, Limited::new(body, MOST_BYTES).collect()).await {
        Err(_) => Err(Refusal::new(StatusCode::REQUEST_TIMEOUT, "the body did not come in time")),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            Err(Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, format!("the body is larger than {MOST_BYTES} bytes")))
        }
        Ok(Err(error)) => Err(Refusal::bad(format!("the body did not come: {error}"))),
        Ok(Ok(body)) => Ok(body.to_bytes()),
    }
}

/// The same, as what it is to be.
async fn read<T: DeserializeOwned>(body: &mut Incoming) -> Result<T> {
    let bytes = bytes(body).await?;
    serde_json::from_slice(&bytes)
        .map_err(|e| Refusal::of_error(&Error::new(Kind::Recipe, format!("the request is wrong: {e}"))))
}
