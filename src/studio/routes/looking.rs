//! Looking at recipes and data: verbs that take a moment.

use super::super::Shared;
use super::super::allowed;
use super::super::folder::is_name;
use super::super::placing;
use super::super::verbs::Said;
use super::{Result, device_of, known_run, ok, own};
use crate::atomic;
use crate::error::Error;
use crate::input;
use crate::paths::named;
use crate::serve::{Body, Refusal};
use hyper::{Response, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};
use std::path::PathBuf;
use tempfile::TempDir;

/// A recipe to look at.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Looked {
    recipe: String,
    #[serde(default)]
    device: Option<String>,
    /// Rows that are shown.
    #[serde(default)]
    rows: Option<u32>,
}

/// What a recipe is to be made of.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Drafted {
    model: String,
    /// An upload, as its path, or a data set of the Hub.
    data: String,
    /// What to call the run.
    name: String,
    #[serde(default)]
    task: Option<String>,
    /// The run to go on from.
    #[serde(default)]
    from: Option<String>,
    /// Which column is which.
    #[serde(default)]
    columns: Option<Value>,
    /// How rows are laid out that several tasks read.
    #[serde(default)]
    format: Option<String>,
    /// What becomes of rows that cannot be used.
    #[serde(default)]
    on_bad_row: Option<String>,
}

/// A folder for one recipe, gone when it was looked at.
struct Desk(TempDir);

impl Desk {
    fn new(shared: &Shared) -> Result<Self> {
        let folder = shared.folder.work("");
        let made = tempfile::Builder::new().prefix("look-").tempdir_in(&folder);
        made.map(Desk).map_err(|e| own(Error::io("making a folder in", &folder, e)))
    }

    fn recipe(&self) -> PathBuf {
        self.0.path().join("recipe.yaml")
    }

    /// What was said, with the recipe called as the page calls it.
    fn renamed(&self, said: Said) -> Said {
        let (path, word) = (self.recipe().display().to_string(), named(&self.recipe()));
        let rename = |text: String| text.replace(&word, "recipe.yaml").replace(&path, "recipe.yaml");
        Said { command: rename(said.command), out: rename(said.out), err: rename(said.err), ..said }
    }
}

/// A verb that needs nothing.
pub async fn say(shared: &Shared, words: &[&str]) -> Result<Response<Body>> {
    let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
    let said = shared.program.say(&words).await.map_err(own)?;
    Ok(ok(&serde_json::to_value(said).unwrap_or_default()))
}

/// Which models are here: files and folders with the `path` by which they are known from everywhere.
pub async fn models(shared: &Shared) -> Result<Response<Body>> {
    let words = ["inspect", "--json"].map(str::to_owned);
    let mut said = shared.program.say(&words).await.map_err(own)?;
    if let Ok(mut models) = serde_json::from_str::<Vec<Value>>(&said.out) {
        for model in &mut models {
            let is_file = model["source"] == "folder" || model["source"] == "gguf";
            let path =
                model["name"].as_str().filter(|_| is_file).and_then(|name| placing::base(name, None, &shared.folder));
            model["path"] = path.into();
        }
        said.out = Value::from(models).to_string();
    }
    Ok(ok(&serde_json::to_value(said).unwrap_or_default()))
}

/// Looks at a recipe with the verb that does so.
pub async fn look(what: &str, looked: &Looked, shared: &Shared) -> Result<Response<Body>> {
    if let Err(problems) = allowed::check(&looked.recipe, &shared.folder) {
        return Ok(ok(
            &json!({"code": 2, "out": problems.to_json().to_string(), "err": problems.to_string(), "command": ""}),
        ));
    }
    let desk = Desk::new(shared)?;
    let recipe = desk.recipe();
    atomic::write(&recipe, looked.recipe.as_bytes()).map_err(own)?;
    let recipe = named(&recipe);
    let rows = format!("--rows={}", looked.rows.unwrap_or(3).min(200));
    let device = format!("--device={}", device_of(looked.device.as_deref())?);
    let words: &[&str] = match what {
        "check" => &["recipe", "check", &recipe, "--json"],
        "show" => &["recipe", "show", &recipe, "--brief", "--json"],
        "preview" => &["data", "preview", &recipe, &rows, "--json"],
        "stats" => &["data", "stats", &recipe, "--json"],
        "memory" => &["estimate", &recipe, "--json", "--no-probe", &device],
        "time" => &["estimate", &recipe, "--json", &device],
        "plan" => &["train", &recipe, "--dry-run", "--json", &device],
        _ => return Err(Refusal::new(StatusCode::NOT_FOUND, format!("nothing looks at a recipe's `{what}`"))),
    };
    let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
    let said = shared.program.say(&words).await.map_err(own)?;
    Ok(ok(&serde_json::to_value(desk.renamed(said)).unwrap_or_default()))
}

/// A recipe that suits a model and data, as `init` writes it, and its keys for the form.
pub async fn draft(drafted: &Drafted, shared: &Shared) -> Result<Response<Body>> {
    let Drafted { model, data, name, task, from, columns, format, on_bad_row } = drafted;
    let model = placing::base(model, None, &shared.folder).unwrap_or_else(|| model.clone());
    if let Some(from) = from {
        known_run(shared, from)?;
    }
    if !is_name(name) {
        return Err(Refusal::param("name", "a run's name is letters, digits, `-`, `_` and `.`"));
    }
    if !shared.folder.has_data(data) && !data.starts_with("hf://") {
        return Err(Refusal::param("data", "drop a file into the page first"));
    }
    let desk = Desk::new(shared)?;
    let recipe = named(&desk.recipe());
    let run = |name: &str| named(&shared.folder.run(name));
    let mut words =
        vec!["init".to_owned(), format!("--model={model}"), format!("--data={data}"), format!("--output={recipe}")];
    let mut set = |key: &str, value: String| words.push(format!("--set={key}={value}"));
    set("output.dir", run(name));
    if let Some(task) = task {
        set("task", task.clone());
        if task == "kto" {
            // A smaller batch would estimate something else.
            set("training.fit", "off".to_owned());
        }
    }
    if let Some(from) = from {
        set("adapter.init_from", run(from));
    }
    if let Some(columns) = columns {
        set("data.columns", columns.to_string());
    }
    if let Some(format) = format {
        set("data.format", format.clone());
    }
    if let Some(on_bad_row) = on_bad_row {
        set("data.on_bad_row", on_bad_row.clone());
    }
    let said = shared.program.say(&words).await.map_err(own)?;
    let (mut text, mut keys) = (String::new(), Value::Null);
    if said.code == Some(0) {
        text = input::read_to_string(desk.recipe().as_path())
            .map_err(|e| own(Error::io("reading", desk.recipe(), e)))?
            .replace(&recipe, "recipe.yaml");
        let show = ["recipe", "show", &recipe, "--brief", "--json"].map(str::to_owned);
        let shown = shared.program.say(&show).await.map_err(own)?;
        keys = serde_json::from_str(&shown.out).unwrap_or_default();
    }
    let mut said = serde_json::to_value(desk.renamed(said)).unwrap_or_default();
    (said["recipe"], said["keys"]) = (text.into(), keys);
    Ok(ok(&said))
}
