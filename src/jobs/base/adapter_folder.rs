//! The adapter that the name of a folder means.

use crate::adapter::peft::{CONFIG_FILE, TENSORS_FILE};
use crate::atomic;
use crate::error::{Error, Kind, Result};
use crate::paths;
use crate::progress::Progress;
use crate::terminal::shell_word;
use std::path::{Path, PathBuf};

/// The adapter that `named` means, and a word where it is another folder: that of a run is in its `adapter/`.
///
/// # Errors
/// As [`locate`].
pub fn find(named: &Path, progress: &dyn Progress) -> Result<PathBuf> {
    let found = locate(named)?;
    atomic::will_read(&found)?;
    if found != named {
        progress.note(&format!("Adapter: {}", found.display()));
    }
    Ok(found)
}

/// The adapter that `named` means. A folder that is nobody's is left to its reader.
///
/// # Errors
/// When it is a run that has no adapter yet, or one of its checkpoints.
pub fn locate(named: &Path) -> Result<PathBuf> {
    let holds = |folder: &Path| folder.join(CONFIG_FILE).exists();
    if !named.exists() {
        let is_adapter = |found: &Path| holds(found) || holds(&found.join("adapter"));
        let leads_to_one = |found: &Path| is_adapter(found) || found.is_dir() && named.parent() != found.parent();
        return match paths::near(named, &leads_to_one) {
            Some(near) => Err(Error::new(Kind::Adapter, "no such folder")
                .at_path(named)
                .hint(format!("did you mean `{}`?", near.display()))),
            None => Ok(named.into()),
        };
    }
    if holds(named) {
        return Ok(named.into());
    }
    if holds(&named.join("adapter")) {
        return Ok(named.join("adapter"));
    }
    let is_file_of_one = named.file_name().is_some_and(|name| name == CONFIG_FILE || name == TENSORS_FILE);
    if let Some(folder) = named.parent().filter(|folder| is_file_of_one && named.is_file() && holds(folder)) {
        return Ok(folder.into());
    }
    let missing = |what: &str| Error::new(Kind::Adapter, what).at_path(named);
    if let Some(run) = run_of(named) {
        let adapter = run.join("adapter");
        if holds(&adapter) {
            let what = "this is a checkpoint, which a run resumes from, and no adapter";
            return Err(missing(what).hint(format!("the adapter of its run is `{}`", adapter.display())));
        }
        let recipe = shell_word(&run.join("recipe.yaml").display().to_string());
        let what = "this run has no adapter yet: it was not trained to its end";
        return Err(missing(what).hint(format!("`gemma-tune train {recipe} --resume` finishes it")));
    }
    match nearest(named) {
        Some(inner) => {
            Err(missing("this folder holds no adapter").hint(format!("did you mean `{}`?", inner.display())))
        }
        None => Ok(named.into()),
    }
}

/// The folder of the run that `named` is, or is a checkpoint or the checkpoints of.
fn run_of(named: &Path) -> Option<PathBuf> {
    let is_run = |folder: &Path| folder.join("recipe.yaml").is_file() && folder.join("checkpoints").is_dir();
    let named = std::path::absolute(named).ok()?;
    let run = named.ancestors().take(3).find(|folder| is_run(folder))?;
    let inside = named.strip_prefix(run).ok()?;
    if inside.as_os_str().is_empty() || inside.starts_with("checkpoints") { shorter(run) } else { None }
}

/// A path as seen from the working folder, if it is below.
fn shorter(path: &Path) -> Option<PathBuf> {
    let below = std::env::current_dir().ok().and_then(|here| path.strip_prefix(here).ok().map(Path::to_path_buf));
    Some(below.filter(|below| !below.as_os_str().is_empty()).unwrap_or_else(|| path.into()))
}

/// The newest folder just below `named` that holds an adapter, as those that the Hugging Face `Trainer` saves; else the
/// run that was finished last.
fn nearest(named: &Path) -> Option<PathBuf> {
    let below: Vec<PathBuf> = paths::entries(named).into_iter().map(|name| named.join(name)).collect();
    let holds = |path: &&PathBuf| path.join(CONFIG_FILE).is_file();
    // `checkpoint-900` comes before `checkpoint-1000`.
    let saved = below.iter().filter(holds).max_by_key(|path| (path.as_os_str().len(), path.as_path()));
    let finished = |run: &&PathBuf| run.join("adapter").join(CONFIG_FILE).metadata().ok()?.modified().ok();
    let run = || below.iter().filter(|run| finished(run).is_some()).max_by_key(|run| (finished(run), run.as_path()));
    saved.or_else(run).cloned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_run_means_its_adapter_and_everything_else_is_explained() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let make = |name: &str| {
            fs::create_dir_all(at(name).parent().unwrap()).unwrap();
            fs::write(at(name), "").unwrap();
        };
        make("run/adapter/adapter_config.json");
        make("run/adapter/adapter_model.safetensors");
        make("run/recipe.yaml");
        make("run/checkpoints/step-4/manifest.json");
        for named in ["run", "run/", "run/adapter", "run/adapter/adapter_model.safetensors"] {
            assert_eq!(locate(&at(named)).unwrap(), at("run/adapter"), "{named}");
        }
        let problem = |named: &str| locate(&at(named)).unwrap_err().to_string();
        for named in ["run/checkpoints", "run/checkpoints/step-4"] {
            assert!(problem(named).contains(&format!("the adapter of its run is `{}`", at("run/adapter").display())));
        }
        fs::remove_dir_all(at("run/adapter")).unwrap();
        for named in ["run", "run/checkpoints/step-4"] {
            assert!(problem(named).contains("has no adapter yet") && problem(named).contains("--resume"), "{named}");
        }
        make("trl/checkpoint-900/adapter_config.json");
        make("trl/checkpoint-1000/adapter_config.json");
        assert!(problem("trl").contains("checkpoint-1000`?"), "{}", problem("trl"));
        make("runs/one/adapter/adapter_config.json");
        make("runs/none/adapter/README.md");
        assert!(
            problem("runs").contains(&format!("did you mean `{}`?", at("runs/one").display())),
            "{}",
            problem("runs")
        );
        assert!(problem("runs/on").contains(&format!("did you mean `{}`?", at("runs/one").display())));
        assert!(problem("rums/one").contains(&format!("did you mean `{}`?", at("runs/one").display())));
        // Nobody's: its reader says what is missing.
        fs::create_dir(at("empty")).unwrap();
        for named in ["empty", "absent"] {
            assert_eq!(locate(&at(named)).unwrap(), at(named));
        }
    }
}
