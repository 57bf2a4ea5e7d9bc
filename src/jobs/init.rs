//! Writing a first recipe: what can be seen is looked at, what cannot is asked or said.

use crate::data::UnnamedColumns;
use crate::error::{Error, Kind, Place, Result, did_you_mean};
use crate::hub::Failure;
use crate::jobs::base::outline::Outline;
use crate::jobs::draft::{self, Draft};
use crate::jobs::run::data::check_files;
use crate::recipe::Recipe;
use crate::report::ProgressBar;
use crate::terminal::shell_word;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;

/// The model of a recipe that nobody named one for.
pub const MODEL: &str = "google/gemma-3-1b-it";
/// Where rows are to be put that are not there yet.
pub const DATA: &str = "data/my_rows.jsonl";
/// The file that a recipe is written to.
pub const FILE: &str = "recipe.yaml";
/// How rows in files end that a folder is searched for.
const ENDINGS: [&str; 8] = [".jsonl", ".csv", ".parquet", ".json", ".tsv", ".ndjson", ".txt", ".md"];
/// Folders in which people keep rows.
const FOLDERS: [&str; 2] = [".", "data"];

/// Files in the current folder, or in `data/`, that look like rows, where there are few.
pub fn found_data() -> Vec<String> {
    let in_folder = |folder: &str| {
        let names = std::fs::read_dir(folder).into_iter().flatten().take(1000).flatten();
        let names = names.filter_map(|entry| entry.file_name().into_string().ok());
        let rows = names.filter(|name| ENDINGS.iter().any(|ending| name.ends_with(ending)));
        // Pages that go with a project, not with a model.
        let rows = rows.filter(|name| !name.to_ascii_uppercase().starts_with("README") && !name.starts_with('.'));
        let mut rows: Vec<String> =
            rows.map(|name| if folder == "." { name } else { format!("{folder}/{name}") }).collect();
        rows.sort();
        rows
    };
    FOLDERS.iter().map(|folder| in_folder(folder)).find(|rows| !rows.is_empty()).unwrap_or_default()
}

/// Looks whether there can be a model of that name. One that is out of reach now may be there.
///
/// # Errors
/// When there is none, or it is not one that can be trained.
pub fn check_model(model: &str, screen: &ProgressBar) -> Result<()> {
    match Outline::find(model, screen) {
        Ok(_) => Ok(()),
        Err(error) => match Failure::of(&error) {
            None | Some(Failure::NoSuchRepository | Failure::NoSuchRevision) => Err(match error.place() {
                Some(Place::Key(_)) => error.at(Place::Named(format!("--model {model}"))),
                _ => error,
            }),
            Some(_) => Ok(()),
        },
    }
}

/// Looks whether there are rows of that name, of a kind that can be read.
///
/// # Errors
/// When there are none, or their columns fit no format.
pub fn check_data(draft: &Draft, screen: &ProgressBar) -> Result<()> {
    let recipe = draft.recipe(false, screen)?;
    match check_files(&recipe.data, screen) {
        Err(wrong) if !matches!(Failure::of(&wrong), Some(Failure::NoNetwork | Failure::Offline)) => {
            Err(recipe.places.locate(wrong))
        }
        _ => Ok(()),
    }
}

/// The columns of the data where their names do not say what they hold, so that somebody has to.
pub fn unnamed_columns(error: &Error) -> Option<&[String]> {
    UnnamedColumns::of(error)
}

/// Looks whether a column of that name is among `columns`.
///
/// # Errors
/// When there is none.
pub fn check_column(name: &str, columns: &[String]) -> Result<()> {
    if columns.iter().any(|column| column == name) {
        return Ok(());
    }
    let error = Error::new(Kind::Data, format!("there is no column `{name}`"));
    Err(match did_you_mean(name, columns.iter().map(String::as_str)) {
        Some(close) => error.hint(format!("did you mean `{close}`?")),
        None => error.hint(format!("there are: {}", columns.join(", "))),
    })
}

/// What `--set` takes to call `question` and `answer` so, or where there is no answer, to read the one column as text.
pub fn named_columns(question: &str, answer: Option<&str>) -> String {
    let names = match answer {
        Some(answer) => serde_json::json!({"prompt": question, "completion": answer}),
        None => serde_json::json!({"text": question}),
    };
    format!("data.columns={names}")
}

/// The text of a recipe for a model and data, and whether its data was read; `with_rows` says that there is data to read.
///
/// # Errors
/// When what was given is wrong, or the data cannot be read.
pub fn recipe(draft: &Draft, with_rows: bool, file: &Path, screen: &ProgressBar) -> Result<String> {
    let open = draft.recipe(false, screen)?;
    let recipe = match with_rows {
        true => settled(&open, screen)?,
        false => open,
    };
    let run = command(file);
    let file = shell_word(&file.display().to_string());
    let heading = [
        &format!("Supervised fine-tuning of {} on {}.", recipe.model.base, draft.data.join(", ")),
        "",
        &format!("Run:   gemma-tune recipe check {file}       every mistake at once"),
        &format!("       gemma-tune data preview {file}       the rows as the model sees them"),
        &format!("       {run} --dry-run    the plan, an estimate of the memory, the first rows"),
        &format!("       {run}"),
        "",
        "Paths are relative to the folder in which gemma-tune is started. `gemma-tune recipe show` prints what is left out.",
        "",
    ];
    Ok(recipe.to_brief_yaml(&heading.map(|line: &str| line)))
}

/// The command that trains the recipe in `file`.
pub fn command(file: &Path) -> String {
    format!("gemma-tune train {}", shell_word(&file.display().to_string()))
}

/// The recipe with what suits its data; as it is where the model is out of reach.
fn settled(recipe: &Recipe, screen: &ProgressBar) -> Result<Recipe> {
    match draft::suited(recipe, screen) {
        Ok(settled) => Ok(settled),
        Err(error) if Failure::of(&error).is_some() => {
            match check_files(&recipe.data, screen) {
                Err(wrong) if Failure::of(&wrong).is_none() => return Err(recipe.places.locate(wrong)),
                _ => {}
            }
            screen.note(&format!("warning: the model cannot be read now, and `auto` stays: {}", error.what()));
            Ok(recipe.clone())
        }
        Err(error) => Err(error),
    }
}

/// Writes a new file.
///
/// # Errors
/// When there is one of that name, or it cannot be written.
pub fn write(text: &str, file: &Path) -> Result<()> {
    let written = OpenOptions::new().write(true).create_new(true).open(file).and_then(|mut out| {
        out.write_all(text.as_bytes())?;
        out.sync_all()
    });
    written.map_err(|error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => {
            Error::new(Kind::Recipe, format!("`{}` is there already, and was left as it is", file.display()))
                .hint("name another file with `--output`")
        }
        _ => Error::io("writing the recipe", file, error),
    })
}
