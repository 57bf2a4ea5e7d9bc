//! Which models are on this machine already.

use super::ollama;
use super::settings::HubSettings;
use crate::input;
use serde::Serialize;
use std::path::{Path, PathBuf};

/// How deep the folder is searched in which the program was started.
const DEPTH: usize = 3;
/// Entries that are looked at in all.
const MOST_ENTRIES: usize = 20_000;
/// A model's `config.json` is smaller.
const MOST_BYTES: u64 = 4 << 20;
/// Folders that hold no models and many files.
const PASSED_OVER: [&str; 6] = ["target", "node_modules", "checkpoints", "tensorboard", "venv", "__pycache__"];
/// What begins the `model_type` of the models that are known here.
const FAMILY: &str = "gemma3";

/// Where a model was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// A folder of Hugging Face's layout.
    Folder,
    /// A GGUF file.
    Gguf,
    /// The cache that Hugging Face tools share.
    Hub,
    /// The store of Ollama.
    Ollama,
}

/// A model on this machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Here {
    /// As `--model` takes it.
    pub name: String,
    /// Where it was found.
    pub source: Source,
    /// Bytes of its weights.
    pub bytes: u64,
}

/// The models in and below `folder`, in the Hub's cache, and in the store of Ollama; of this program's family where that can be
/// seen without opening weights.
pub fn models_here(folder: &Path, settings: &HubSettings) -> Vec<Here> {
    let mut found = Vec::new();
    let mut left = MOST_ENTRIES;
    look(folder, Path::new(""), DEPTH, &mut left, &mut found);
    found.extend(cached(settings));
    found.extend(ollama::names().into_iter().filter_map(|(name, path)| {
        let bytes = std::fs::metadata(path).ok()?.len();
        name.to_lowercase().contains("gemma").then_some(Here { name, source: Source::Ollama, bytes })
    }));
    found.sort_by(|a, b| (a.source, &a.name).cmp(&(b.source, &b.name)));
    found
}

/// Looks into `root/below` and the folders in it.
fn look(root: &Path, below: &Path, depth: usize, left: &mut usize, found: &mut Vec<Here>) {
    let folder = root.join(below);
    if let Some(bytes) = model_bytes(&folder) {
        let name = if below.as_os_str().is_empty() { Some(".") } else { below.to_str() };
        found.extend(name.map(|name| Here { name: name.to_owned(), source: Source::Folder, bytes }));
        return;
    }
    let mut folders: Vec<PathBuf> = Vec::new();
    for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
        if *left == 0 {
            return;
        }
        *left -= 1;
        let Ok(name) = entry.file_name().into_string() else { continue };
        let Ok(metadata) = std::fs::metadata(entry.path()) else { continue };
        let below = below.join(&name);
        let is_language_model =
            name.ends_with(".gguf") && !["mmproj", "lora", "imatrix"].iter().any(|w| name.contains(w));
        if metadata.is_file() && is_language_model {
            found.extend(below.to_str().map(|path| Here {
                name: path.to_owned(),
                source: Source::Gguf,
                bytes: metadata.len(),
            }));
        } else if metadata.is_dir() && !name.starts_with('.') && !PASSED_OVER.contains(&name.as_str()) {
            folders.push(below);
        }
    }
    folders.sort();
    if depth > 0 {
        folders.iter().for_each(|below| look(root, below, depth - 1, left, found));
    }
}

/// Bytes of the weights in a folder that holds a model of the family; `None` of any other folder.
fn model_bytes(folder: &Path) -> Option<u64> {
    let config = folder.join("config.json");
    if std::fs::metadata(&config).ok()?.len() > MOST_BYTES {
        return None;
    }
    let config: serde_json::Value = serde_json::from_str(&input::read_to_string(&config).ok()?).ok()?;
    config["model_type"].as_str()?.starts_with(FAMILY).then_some(())?;
    let files = std::fs::read_dir(folder)
        .ok()?
        .flatten()
        .filter(|entry| entry.path().extension().is_some_and(|ending| ending == "safetensors"));
    let bytes: u64 = files.filter_map(|entry| std::fs::metadata(entry.path()).ok()).map(|file| file.len()).sum();
    (bytes > 0).then_some(bytes)
}

/// Those whose `main` is in the Hub's cache.
fn cached(settings: &HubSettings) -> Vec<Here> {
    let folders = std::fs::read_dir(&settings.cache).into_iter().flatten().flatten().take(MOST_ENTRIES);
    let model = |name: String| {
        let id = name.strip_prefix("models--")?.replacen("--", "/", 1);
        let repository = super::repository::Repository::new(super::repository::Holds::Model, &id, None).ok()?;
        let commit = repository.cached_commit(settings)?;
        let bytes = model_bytes(&repository.snapshot(settings, &commit))?;
        Some(Here { name: id, source: Source::Hub, bytes })
    };
    folders.filter_map(|entry| model(entry.file_name().into_string().ok()?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn models_are_found_in_folders_files_and_the_cache() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let commit = "0123456789012345678901234567890123456789";
        let cached = format!("cache/models--google--gemma-3-1b-it/snapshots/{commit}");
        for folder in ["here/models/a", "here/.hidden/b", "here/target/c", &cached] {
            write(&format!("{folder}/config.json"), r#"{"model_type": "gemma3_text"}"#);
            write(&format!("{folder}/model.safetensors"), "12345");
        }
        write("cache/models--google--gemma-3-1b-it/refs/main", commit);
        write("here/llama/config.json", r#"{"model_type": "llama"}"#);
        write("here/llama/model.safetensors", "12345");
        write("here/x.gguf", "123");
        write("here/x-mmproj.gguf", "123");
        let lookup = HubSettings { cache: dir.path().join("cache"), ..HubSettings::from_env().unwrap() };
        let found = models_here(&dir.path().join("here"), &lookup);
        let found: Vec<_> = found.iter().filter(|model| model.source != Source::Ollama).collect();
        let found: Vec<_> = found.iter().map(|model| (model.name.as_str(), model.source, model.bytes)).collect();
        assert_eq!(
            found,
            [("models/a", Source::Folder, 5), ("x.gguf", Source::Gguf, 3), ("google/gemma-3-1b-it", Source::Hub, 5)]
        );
    }
}
