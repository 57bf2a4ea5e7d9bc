//! What the user meant by a model's name: a local folder, a `.gguf` file, or an id of the Hub.

use super::ollama::Named;
use super::repository::{Holds, Repository, is_id};
use crate::error::{Error, Kind, Place, Result};
use crate::input;
use crate::paths::{self, entries, missing_from};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// What the recipes of the repository name, which is in no clone of it.
const QUICKSTART: &str = "gemma-3-270m-q4_k_m.gguf";

/// A name, understood. Local paths exist.
#[derive(Debug, PartialEq)]
pub(super) enum Base {
    Folder(PathBuf),
    Gguf(PathBuf),
    Ollama(Named),
    /// With a local path that looks much like it, in case the Hub does not know the id.
    Hub(Repository, Option<PathBuf>),
}

/// Decides. What exists locally wins; then `owner/name[@revision]` is the Hub's; all else is a path that does not
/// exist.
pub(super) fn understand(base: &str) -> Result<Base> {
    let base = base.trim();
    if base.is_empty() {
        return Err(Error::new(Kind::Recipe, "the model has no name").hint("name a folder, a `.gguf` file or a Hub id"));
    }
    let path = PathBuf::from(base);
    if let Some(named) = Named::parse(base)?.filter(|_| !path.exists()) {
        return Ok(Base::Ollama(named));
    }
    if path.is_dir() {
        return folder(path);
    }
    if path.exists() {
        return file(path);
    }
    let (id, revision) = match base.split_once('@') {
        Some((id, revision)) => (id, Some(revision)),
        None => (base, None),
    };
    if is_id(id) && !has_model_suffix(id) {
        let near = near(&path).filter(|near| near.components().count() == path.components().count());
        return Ok(Base::Hub(Repository::new(Holds::Model, id, revision)?, near));
    }
    let error = Error::new(Kind::Recipe, format!("there is no model at `{base}`"));
    Err(match near(&path).or_else(|| elsewhere(&path)) {
        Some(near) => error.hint(format!("did you mean `{}`?", near.display())),
        None if revision.is_some() && Path::new(id).is_dir() => {
            error.hint("a local folder has no revisions: leave out what follows the `@`")
        }
        None if path.ends_with(QUICKSTART) => error.hint(
            "this is the file of the quickstart: `python3 scripts/fetch_gemma_270m.py` fetches it into `models/` of the repository",
        ),
        None if base.contains('/') => error.hint(format!(
            "nothing is at that path{}; a Hub id is `owner/name[@revision]`",
            missing_from(&path).map(|dir| format!(": `{}` does not exist", dir.display())).unwrap_or_default()
        )),
        None => error.hint("name a folder, a `.gguf` file, a Hub id such as `google/gemma-3-1b-it`, or a model of Ollama, `ollama:NAME`"),
    })
}

/// The repository that `name` can be the id of, whatever exists here.
pub(super) fn split_id(name: &str) -> Option<Repository> {
    let (id, revision) = match name.split_once('@') {
        Some((id, revision)) => (id, Some(revision)),
        None => (name, None),
    };
    Repository::new(Holds::Model, id, revision).ok().filter(|repository| !has_model_suffix(&repository.id))
}

/// A folder must be a model's, or the user is told what it looks like.
fn folder(path: PathBuf) -> Result<Base> {
    if path.join("config.json").exists() {
        return Ok(Base::Folder(path));
    }
    let error = Error::new(Kind::Recipe, "the folder holds no model: there is no `config.json`").at_path(&path);
    let names = entries(&path);
    let ggufs: Vec<&String> = names.iter().filter(|n| is_gguf(Path::new(n))).collect();
    let hint = if let Some(hint) = adapter_for_base(&path) {
        hint
    } else if let Some(gguf) = ggufs.first() {
        format!("for the GGUF in it, name the file: `{}`", path.join(gguf).display())
    } else if path.join("snapshots").is_dir() {
        "this is a cache folder of the Hub: use the model's id, or a folder below its `snapshots`".into()
    } else if let Some(inner) = names.iter().find(|n| path.join(n).join("config.json").is_file()) {
        format!("did you mean `{}`?", path.join(inner).display())
    } else {
        "name the folder that holds `config.json` and the `.safetensors` files".into()
    };
    Err(error.hint(hint))
}

fn file(path: PathBuf) -> Result<Base> {
    if is_gguf(&path) {
        return Ok(Base::Gguf(path));
    }
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let hint = if parent.join("config.json").is_file() {
        format!("name the folder: `{}`", parent.display())
    } else if let Some(hint) = adapter_for_base(parent) {
        hint
    } else {
        "a model is a folder with `config.json`, or a `.gguf` file".into()
    };
    Err(Error::new(Kind::Recipe, "this file is not a model that can be named by itself")
        .at(Place::Path(path))
        .hint(hint))
}

/// What to do where the folder of an adapter, or of the run that trained one, stands in the place of its base.
fn adapter_for_base(folder: &Path) -> Option<String> {
    let config = |folder: &Path| input::read(&folder.join("adapter_config.json")).ok();
    let (what, config) = match config(folder) {
        Some(config) => ("an adapter's folder", config),
        None => ("a run's folder, with its adapter in it", config(&folder.join("adapter"))?),
    };
    let config: Option<Value> = serde_json::from_slice(&config).ok();
    let base = config.as_ref().and_then(|config| config.get("base_model_name_or_path")?.as_str());
    let base = base.filter(|base| !base.is_empty()).map_or(String::new(), |base| format!(", `{base}`"));
    let folder = folder.display();
    Some(format!("this is {what}: name its base model here{base}, and `{folder}` under `adapter.init_from`"))
}

fn is_gguf(path: &Path) -> bool {
    path.extension().is_some_and(|e| e.eq_ignore_ascii_case("gguf"))
}

/// Whether a name that could be an id ends like a file, which no published id does.
fn has_model_suffix(id: &str) -> bool {
    let id = id.to_ascii_lowercase();
    [".gguf", ".safetensors", ".json", ".bin", ".pt", ".pth"].iter().any(|suffix| id.ends_with(suffix))
}

/// A path of much the same name as `path` that can be, or lead to, a model.
fn near(path: &Path) -> Option<PathBuf> {
    // A file is meant by a file's name, and only one kind of file is a model.
    let is_file = |found: &Path| is_gguf(path) && found.parent() == path.parent();
    paths::near(path, &|found| is_gguf(found) || !is_file(found) && found.is_dir())
}

/// A model in a folder of models, whose name begins with that of `path`.
fn elsewhere(path: &Path) -> Option<PathBuf> {
    const FOLDERS: [&str; 3] = ["models", "model", ""];
    /// Shorter names are the beginnings of too many.
    const LEAST_BYTES: usize = 4;
    let plain = |name: &str| name.to_lowercase().replace('_', "-");
    let meant = plain(path.file_name()?.to_str()?.trim_end_matches(".gguf"));
    if path.is_absolute() || meant.len() < LEAST_BYTES {
        return None;
    }
    let is_model = |path: &Path| is_gguf(path) || path.join("config.json").is_file();
    let inside = |folder: &str| -> Vec<PathBuf> {
        let names = entries(Path::new(if folder.is_empty() { "." } else { folder })).into_iter();
        let alike = names.filter(|name| plain(name).starts_with(&meant));
        alike.map(|name| Path::new(folder).join(name)).filter(|path| is_model(path)).collect()
    };
    FOLDERS.into_iter().flat_map(inside).next()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn what_exists_wins_and_ids_go_to_the_hub() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name).to_str().unwrap().to_string();
        fs::create_dir_all(dir.path().join("google/gemma-3-1b-it")).unwrap();
        fs::write(dir.path().join("google/gemma-3-1b-it/config.json"), "{}").unwrap();
        fs::write(dir.path().join("a.GGUF"), "").unwrap();
        let folder = understand(&at("google/gemma-3-1b-it")).unwrap();
        assert_eq!(folder, Base::Folder(at("google/gemma-3-1b-it").into()));
        assert_eq!(understand(&at("a.GGUF")).unwrap(), Base::Gguf(at("a.GGUF").into()));
        let Base::Hub(hub, None) = understand("google/gemma-3-1b-it@v1").unwrap() else { panic!() };
        assert_eq!((hub.id.as_str(), hub.revision.as_str()), ("google/gemma-3-1b-it", "v1"));
    }

    #[test]
    fn paths_that_do_not_exist_suggest_near_ones() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name).to_str().unwrap().to_string();
        fs::create_dir_all(dir.path().join("models/gemma-3-270m")).unwrap();
        fs::write(dir.path().join("models/gemma.gguf"), "").unwrap();
        fs::write(dir.path().join("models/gemma.txt"), "").unwrap();
        let hint = |name: &str| understand(&at(name)).unwrap_err().hint_text().unwrap().to_string();
        assert_eq!(hint("models/gemma-3-270"), format!("did you mean `{}`?", at("models/gemma-3-270m")));
        assert_eq!(hint("model/gemma-3-270m"), format!("did you mean `{}`?", at("models/gemma-3-270m")));
        assert!(!hint("models/gemma.txd").contains("gemma.txt"), "a text is no model");
        fs::write(dir.path().join("models/rows.jsonl"), "").unwrap();
        assert!(!hint("models/rows.gguf").contains("did you mean"), "{}", hint("models/rows.gguf"));
        assert_eq!(hint("models/gema.gguf"), format!("did you mean `{}`?", at("models/gemma.gguf")));
        assert!(
            hint("xyz/abc").ends_with("does not exist; a Hub id is `owner/name[@revision]`"),
            "{}",
            hint("xyz/abc")
        );
        assert!(hint("models/gemma-3-270m@main").contains("did you mean"));
        assert!(hint("elsewhere/gemma-3-270m-q4_k_m.gguf").contains("scripts/fetch_gemma_270m.py"));
        let error = understand("no_such_model_at_all").unwrap_err();
        assert_eq!(error.what(), "there is no model at `no_such_model_at_all`");
        assert_eq!(error.exit_code(), 2);
        assert!(understand("some/file.gguf").is_err());
        assert!(understand(" ").is_err());
    }

    #[test]
    fn folders_and_files_that_are_no_models_say_what_they_are() {
        let dir = tempfile::tempdir().unwrap();
        let hint = |path: &Path| understand(path.to_str().unwrap()).unwrap_err().hint_text().unwrap().to_string();
        let model = dir.path().join("model");
        fs::create_dir(&model).unwrap();
        fs::write(model.join("config.json"), "{}").unwrap();
        fs::write(model.join("model.safetensors"), "").unwrap();
        assert_eq!(hint(&model.join("model.safetensors")), format!("name the folder: `{}`", model.display()));
        assert_eq!(hint(dir.path()), format!("did you mean `{}`?", model.display()));
        let adapter = dir.path().join("adapter");
        fs::create_dir(&adapter).unwrap();
        fs::write(adapter.join("adapter_config.json"), "{}").unwrap();
        let named = |folder: &Path, base: &str| {
            let base = format!("name its base model here{base}, and `{}` under `adapter.init_from`", folder.display());
            assert!(hint(folder).contains(&base), "{}", hint(folder));
        };
        named(&adapter, "");
        fs::write(adapter.join("adapter_config.json"), "{\"base_model_name_or_path\": \"models/a.gguf\"}").unwrap();
        named(&adapter, ", `models/a.gguf`");
        fs::write(adapter.join("adapter_model.safetensors"), "").unwrap();
        assert_eq!(hint(&adapter.join("adapter_model.safetensors")), hint(&adapter));
        let run = tempfile::tempdir().unwrap();
        fs::rename(&adapter, run.path().join("adapter")).unwrap();
        named(run.path(), ", `models/a.gguf`");
        assert!(hint(run.path()).starts_with("this is a run's folder"), "{}", hint(run.path()));
        let gguf = dir.path().join("gguf");
        fs::create_dir(&gguf).unwrap();
        fs::write(gguf.join("x.gguf"), "").unwrap();
        assert!(hint(&gguf).contains("x.gguf"));
    }
}
