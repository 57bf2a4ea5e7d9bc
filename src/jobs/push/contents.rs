//! What of a folder is published: the files of a model or an adapter, and nothing else.

use super::record;
use crate::adapter::peft::{CONFIG_FILE, TENSORS_FILE};
use crate::error::{Error, Kind, Result};
use crate::jobs::base::provenance;
use crate::jobs::push::LeftOut;
use crate::terminal::shell_word;
use crate::weights::safetensors_file::SafetensorsFile;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

/// How many folders deep files are looked for.
const MAX_DEPTH: usize = 4;

/// What is published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sort {
    /// A PEFT adapter.
    Adapter,
    /// A whole Hugging Face model.
    Model,
    /// GGUF files.
    Gguf,
}

impl Sort {
    /// What to call it.
    pub fn name(self) -> &'static str {
        match self {
            Sort::Adapter => "an adapter",
            Sort::Model => "a model",
            Sort::Gguf => "GGUF files",
        }
    }

    /// What files of these names make; `None` where there are no weights among them.
    pub fn of<'n>(names: impl Iterator<Item = &'n str> + Clone) -> Option<Sort> {
        let has = |wanted: &str| names.clone().any(|name| name == wanted);
        let ends = |ending: &str| names.clone().any(|name| name.to_ascii_lowercase().ends_with(ending));
        if has(CONFIG_FILE) || has(TENSORS_FILE) || has("adapter_model.bin") {
            Some(Sort::Adapter)
        } else if ends(".safetensors") || has("pytorch_model.bin") {
            Some(Sort::Model)
        } else {
            ends(".gguf").then_some(Sort::Gguf)
        }
    }
}

/// What a folder holds, as far as it concerns others.
#[derive(Debug)]
pub struct Contents {
    /// What it is.
    pub sort: Sort,
    /// The files to publish: their names in a repository, with `/`, and where they are. Sorted.
    pub files: Vec<(String, PathBuf)>,
    /// What stays here. Sorted.
    pub left_out: Vec<LeftOut>,
}

impl Contents {
    /// Looks at a folder.
    ///
    /// # Errors
    /// A folder that cannot be read, or that holds no weights that could be published.
    pub fn of(folder: &Path) -> Result<Self> {
        if !folder.is_dir() {
            let error = Error::new(Kind::Weights, "there is no such folder").at_path(folder);
            return Err(error.hint("name the folder that a run, `merge` or `export` wrote"));
        }
        let (mut files, mut left_out) = (Vec::new(), Vec::new());
        walk(folder, "", 0, &mut files, &mut left_out)?;
        let sort = Sort::of(files.iter().map(|(name, _)| name.as_str()).filter(|name| !name.contains('/')));
        let sort = sort.ok_or_else(|| nothing(folder))?;
        // What is in a folder of its own is another model, but for GGUF files, which may be sorted into folders.
        let is_another =
            |name: &str| name.contains('/') && Sort::of(std::iter::once(name)).is_some_and(|s| s != Sort::Gguf);
        files.retain(|(name, _)| {
            let stays = is_another(name);
            left_out.extend(stays.then(|| LeftOut { name: name.clone(), why: "weights in a folder of their own" }));
            !stays
        });
        files.sort();
        left_out.sort_by(|a, b| a.name.cmp(&b.name));
        let needs = match sort {
            Sort::Adapter => vec![CONFIG_FILE, TENSORS_FILE],
            Sort::Model => vec!["config.json"],
            Sort::Gguf => Vec::new(),
        };
        let has = |wanted: &str| files.iter().any(|(name, _)| name == wanted);
        if let Some(missing) = needs.into_iter().find(|name| !has(name)) {
            let what = format!("the folder holds {} without `{missing}`", sort.name());
            return Err(Error::new(Kind::Weights, what)
                .at_path(folder)
                .hint("nobody could load it: complete it first"));
        }
        files.iter().try_for_each(|(name, path)| check_whole(name, path))?;
        Ok(Contents { sort, files, left_out })
    }
}

/// Refuses weights that are something else, such as a pointer of Git LFS, or the beginning of a download.
fn check_whole(name: &str, path: &Path) -> Result<()> {
    let lower = name.to_ascii_lowercase();
    if lower.ends_with(".safetensors") {
        return SafetensorsFile::open(path).map(|_| ());
    }
    if lower.ends_with(".gguf") {
        let mut magic = Vec::new();
        let read = crate::input::open(path).and_then(|file| file.take(4).read_to_end(&mut magic));
        read.map_err(|e| Error::input(Kind::Weights, "reading", path, e))?;
        if magic != b"GGUF" {
            let what = format!("`{name}` does not begin as a GGUF file does");
            return Err(Error::new(Kind::Weights, what).at_path(path).hint("download or write it again"));
        }
    }
    Ok(())
}

fn nothing(folder: &Path) -> Error {
    let error = Error::new(Kind::Weights, "the folder holds neither an adapter nor a model nor a GGUF file");
    let inner = crate::paths::entries(folder).into_iter().map(|name| folder.join(name));
    let holds = |path: &PathBuf| {
        let names = crate::paths::entries(path);
        Sort::of(names.iter().map(String::as_str)).is_some()
    };
    let hint = match inner.filter(|path| path.is_dir()).find(holds) {
        Some(inner) => format!("did you mean `{}`?", shell_word(&inner.display().to_string())),
        None => "name the folder that a run, `merge` or `export` wrote".into(),
    };
    error.at_path(folder).hint(hint)
}

fn walk(
    folder: &Path,
    prefix: &str,
    depth: usize,
    files: &mut Vec<(String, PathBuf)>,
    left_out: &mut Vec<LeftOut>,
) -> Result<()> {
    let entries = fs::read_dir(folder).map_err(|e| Error::input(Kind::Weights, "reading", folder, e))?;
    for entry in entries {
        let path = entry.map_err(|e| Error::io("reading", folder, e))?.path();
        let last = path.file_name().unwrap_or_default();
        let name = format!("{prefix}{}", last.to_string_lossy());
        let is_folder = path.is_dir();
        let why = match last.to_str() {
            None => Some("its name is no text"),
            Some(record::FILE) => continue, // ours, and no news
            Some(last) if last.starts_with('.') => Some("hidden"),
            Some(last) if is_folder => folder_stays(last, depth),
            Some(_) if !path.is_file() => Some("no regular file"),
            Some(last) => file_stays(last),
        };
        match why {
            Some(why) => left_out.push(LeftOut { name: if is_folder { format!("{name}/") } else { name }, why }),
            None if is_folder => walk(&path, &format!("{name}/"), depth + 1, files, left_out)?,
            None => files.push((name, path)),
        }
    }
    Ok(())
}

/// Why a folder is not published, if it is not.
fn folder_stays(name: &str, depth: usize) -> Option<&'static str> {
    let name = name.to_ascii_lowercase();
    let is = |words: &[&str]| words.iter().any(|word| name == *word);
    let begins = |words: &[&str]| words.iter().any(|word| name.starts_with(word));
    if begins(&["checkpoint", "global_step", "step-"]) {
        Some("a checkpoint")
    } else if is(&["tensorboard", "runs", "logs", "wandb", "mlruns", "lightning_logs"]) {
        Some("logs")
    } else if name.contains("cache") || is(&["blobs", "refs", "snapshots"]) {
        Some("a cache")
    } else {
        (depth + 1 >= MAX_DEPTH).then_some("too deep in the folder")
    }
}

/// Why a file is not published, if it is not. What is published is listed: what nobody here has heard of stays.
fn file_stays(name: &str) -> Option<&'static str> {
    /// The small files of models and adapters, in every form that transformers, PEFT and Ollama have used.
    const SMALL: [&str; 22] = [
        CONFIG_FILE,
        provenance::FILE,
        "config.json",
        "generation_config.json",
        "preprocessor_config.json",
        "processor_config.json",
        "image_processor_config.json",
        "video_preprocessor_config.json",
        "tokenizer.json",
        "tokenizer.model",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "added_tokens.json",
        "vocab.json",
        "merges.txt",
        "chat_template.jinja",
        "chat_template.json",
        "model.safetensors.index.json",
        "adapter_model.safetensors.index.json",
        "Modelfile",
        "NOTICE",
        "LICENSE",
    ];
    /// What pages and papers are made of.
    const OF_PAGES: [&str; 9] = [".md", ".jinja", ".svg", ".png", ".jpg", ".jpeg", ".gif", ".webp", ".pdf"];
    let lower = name.to_ascii_lowercase();
    let begins = |words: &[&str]| words.iter().any(|word| lower.starts_with(word));
    let ends = |words: &[&str]| words.iter().any(|word| lower.ends_with(word));
    if SMALL.contains(&name) || ["license.txt", "notice.txt"].contains(&lower.as_str()) {
        return None;
    }
    if begins(&["optimizer", "optimiser", "scheduler", "rng_state", "scaler", "trainer_state", "training_args"]) {
        return Some("the state of a run");
    }
    if begins(&["events.out.tfevents"])
        || ["metrics.jsonl", "summary.json", "recipe.yaml"].contains(&lower.as_str())
        || ends(&[".log"])
    {
        return Some("the record of a run");
    }
    if lower.contains("token") && !lower.contains("tokeniz")
        || ends(&[".pem", ".key", ".env"])
        || lower.contains("secret")
    {
        return Some("it may be a secret");
    }
    if ends(&[".safetensors"]) {
        let is_weights = begins(&["model", "adapter_model", "consolidated", "diffusion_pytorch_model"]);
        return (!is_weights).then_some("no weights of a model or an adapter");
    }
    if ends(&[".gguf"]) || ends(&OF_PAGES) {
        return None;
    }
    if ends(&[".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt"]) {
        return Some("a pickle, which can run code where it is loaded");
    }
    if ends(&[".jsonl", ".csv", ".tsv", ".parquet", ".arrow", ".txt", ".gz", ".zst"]) {
        return Some("data");
    }
    Some("no part of a model")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_belongs_to_a_model_is_published() {
        let dir = tempfile::tempdir().unwrap();
        let published = [
            "adapter_config.json",
            "adapter_model.safetensors",
            "tokenizer.json",
            "tokenizer_config.json",
            "additional_chat_templates/tools.jinja",
            "README.md",
            "figures/losses.svg",
            "gemma_tune.json",
        ];
        let kept = [
            (".cache/huggingface/x.json", ".cache/", "hidden"),
            (".hidden.json", ".hidden.json", "hidden"),
            ("cache/rows.arrow", "cache/", "a cache"),
            ("checkpoint-12/optimizer.pt", "checkpoint-12/", "a checkpoint"),
            ("checkpoints/step-3/manifest.json", "checkpoints/", "a checkpoint"),
            ("hf_token.json", "hf_token.json", "it may be a secret"),
            ("merged/model.safetensors", "merged/model.safetensors", "weights in a folder of their own"),
            ("metrics.jsonl", "metrics.jsonl", "the record of a run"),
            ("notes.docx", "notes.docx", "no part of a model"),
            ("optimizer.safetensors", "optimizer.safetensors", "the state of a run"),
            ("rows.jsonl", "rows.jsonl", "data"),
            ("tensorboard/events.out.tfevents.1", "tensorboard/", "logs"),
            ("token", "token", "it may be a secret"),
            ("training_args.bin", "training_args.bin", "the state of a run"),
        ];
        for name in published.iter().copied().chain(kept.iter().map(|(name, ..)| *name)) {
            fs::create_dir_all(dir.path().join(name).parent().unwrap()).unwrap();
            fs::write(dir.path().join(name), "x").unwrap();
        }
        let tensor = safetensors::tensor::TensorView::new(safetensors::Dtype::F32, vec![1], &[0; 4]).unwrap();
        let weights = safetensors::serialize([("a", tensor)], None).unwrap();
        assert!(Contents::of(dir.path()).is_err(), "no safetensors");
        fs::write(dir.path().join("adapter_model.safetensors"), weights).unwrap();
        let contents = Contents::of(dir.path()).unwrap();
        let mut names: Vec<_> = contents.files.iter().map(|(name, _)| name.as_str()).collect();
        let mut want = published.to_vec();
        want.sort();
        names.sort();
        assert_eq!((names, contents.sort), (want, Sort::Adapter));
        let left: Vec<_> = contents.left_out.iter().map(|left| (left.name.as_str(), left.why)).collect();
        assert_eq!(left, kept.map(|(_, name, why)| (name, why)));
    }

    #[test]
    fn a_folder_that_nobody_could_load_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let problem = || Contents::of(dir.path()).unwrap_err();
        fs::create_dir(dir.path().join("merged")).unwrap();
        fs::write(dir.path().join("merged/model.safetensors"), "x").unwrap();
        assert!(problem().hint_text().unwrap().contains("merged`?"), "{}", problem());
        fs::write(dir.path().join("model.safetensors"), "x").unwrap();
        assert_eq!(problem().what(), "the folder holds a model without `config.json`");
        fs::write(dir.path().join("adapter_config.json"), "{}").unwrap();
        assert_eq!(problem().what(), "the folder holds an adapter without `adapter_model.safetensors`");
        assert_eq!(problem().exit_code(), 2);
        assert_eq!(Contents::of(&dir.path().join("none")).unwrap_err().exit_code(), 2);
    }
}
