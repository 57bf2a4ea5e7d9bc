//! The folder of a studio: what was uploaded, what was trained, what was made of it.
//!
//! ```text
//! data/1-faq.csv          uploads and ratings, under names of ours
//! data/files.json         what they were called
//! runs/NAME/              `output.dir` of a run
//! queue/                  runs that wait, and what all of them were: `queue` has its own page
//! jobs/N/                 what is made of them: job.json, log.txt
//! ship/                   what was exported
//! work/                   recipes that are looked at, and no more
//! ```
//!
//! Its place is what it is wherever it is opened from, so that recipes and command lines, which name all of this, mean the same
//! everywhere; where it has another place than when they were written, they are [mended](super::placing).

use crate::atomic::Locked;
use crate::error::{Error, Kind, Result};
use crate::paths::named;
use crate::{atomic, input};
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The longest name of a run.
pub const NAME_CHARS: usize = 64;

/// Whose they all are.
pub const OWNER: &str = "";
/// The list of uploads.
const LIST: &str = "files.json";

/// An upload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Uploaded {
    /// Its file in `data/`, a name of ours.
    pub file: String,
    /// What it was called where it came from.
    pub name: String,
    /// Its bytes when it came.
    pub bytes: u64,
    /// When, in seconds since 1970.
    pub added: u64,
}

/// The folder.
pub struct Folder {
    dir: PathBuf,
    files: Mutex<Vec<Uploaded>>,
    /// Held while the studio lives.
    _lock: Locked,
}

impl Folder {
    /// Makes what is not there yet, and takes possession.
    ///
    /// # Errors
    /// When it cannot be written, another studio has it, or its name cannot stand in a recipe.
    pub fn open(dir: &Path) -> Result<Self> {
        for name in ["data", "runs", "jobs", "ship", "work"] {
            let path = dir.join(name);
            fs::create_dir_all(&path).map_err(|e| Error::io("making the folder", &path, e))?;
        }
        let found = real(dir).map_err(|e| Error::io("finding", dir, e))?;
        if found.to_str().is_none() {
            let error = Error::new(Kind::Recipe, "the name of this folder is no text, and recipes name what is in it");
            return Err(error.at_path(&found).hint("name another folder with `--dir`"));
        }
        let dir = found.as_path();
        let path = dir.join(".lock");
        let lock = File::options().create(true).append(true).open(&path).map_err(|e| Error::io("opening", &path, e))?;
        let held = |_| {
            let error = Error::new(Kind::Recipe, "another studio uses this folder").at_path(dir);
            error.hint("open its page, or name another folder with `--dir`")
        };
        let lock = Locked::take(lock).map_err(|refused| refused.error(&path, held))?;
        let list = dir.join("data").join(LIST);
        let files = if list.is_file() {
            let text = input::read_to_string(&list).map_err(|e| Error::io("reading", &list, e))?;
            serde_json::from_str(&text)
                .map_err(|e| Error::new(Kind::Data, format!("the list of uploads is damaged: {e}")).at_path(&list))?
        } else {
            Vec::new()
        };
        Ok(Folder { dir: dir.to_owned(), files: Mutex::new(files), _lock: lock })
    }

    /// The folder itself.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The folder of a run.
    pub fn run(&self, name: &str) -> PathBuf {
        self.dir.join("runs").join(name)
    }

    /// The folder of a job.
    pub fn job(&self, id: u64) -> PathBuf {
        self.dir.join("jobs").join(id.to_string())
    }

    /// A name for something that is exported, of which there is none yet.
    pub fn ship(&self, stem: &str, ending: &str) -> PathBuf {
        let named = |number: u32| match number {
            1 => self.dir.join("ship").join(format!("{stem}{ending}")),
            number => self.dir.join("ship").join(format!("{stem}-{number}{ending}")),
        };
        let free = (1..).find(|&number| !named(number).exists()).unwrap_or(1);
        named(free)
    }

    /// A file in `work/`.
    pub fn work(&self, name: &str) -> PathBuf {
        self.dir.join("work").join(name)
    }

    /// What was uploaded.
    pub fn files(&self) -> Vec<Uploaded> {
        self.locked().clone()
    }

    /// Where an upload is.
    pub fn data(&self, file: &str) -> PathBuf {
        self.dir.join("data").join(file)
    }

    /// Whether a recipe may read this: it is an upload.
    pub fn has_data(&self, path: &str) -> bool {
        self.locked().iter().any(|known| named(&self.data(&known.file)) == path)
    }

    /// Takes note of a file that is written to `data/` under a name of ours, or again.
    ///
    /// # Errors
    /// When the list cannot be written.
    pub fn add(&self, added: Uploaded) -> Result<()> {
        let mut files = self.locked();
        files.retain(|known| known.file != added.file);
        files.push(added);
        self.write(&files)
    }

    /// Forgets an upload, and its file with it; says whether there was one.
    ///
    /// # Errors
    /// When the list cannot be written.
    pub fn remove(&self, file: &str) -> Result<bool> {
        let mut files = self.locked();
        let count = files.len();
        files.retain(|known| known.file != file);
        if files.len() == count {
            return Ok(false);
        }
        let path = self.data(file);
        fs::remove_file(&path).map_err(|e| Error::io("removing", &path, e))?;
        self.write(&files).map(|()| true)
    }

    /// A name of ours for a file that was called `name`: a number, and what is harmless of it.
    pub fn name_for(&self, name: &str) -> String {
        let files = self.locked();
        let number = |known: &Uploaded| known.file.split('-').next()?.parse::<u64>().ok();
        let next = files.iter().filter_map(number).max().unwrap_or(0) + 1;
        format!("{next}-{}", harmless(name))
    }

    fn write(&self, files: &[Uploaded]) -> Result<()> {
        let text = serde_json::to_vec_pretty(files).unwrap_or_default();
        atomic::write(&self.dir.join("data").join(LIST), &text)
    }

    fn locked(&self) -> MutexGuard<'_, Vec<Uploaded>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where a folder is, whatever links lead to it.
pub fn real(path: &Path) -> std::io::Result<PathBuf> {
    // What Windows finds then is written in a way that few programs read.
    if cfg!(windows) { std::path::absolute(path) } else { fs::canonicalize(path) }
}

/// Letters, digits, and what joins them, of a file's name, its ending kept.
fn harmless(name: &str) -> String {
    let plain = |part: &str| -> String {
        let letters = part.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' });
        letters.collect::<String>().trim_matches('_').chars().take(40).collect()
    };
    let name = name.rsplit(['/', '\\']).next().unwrap_or(name);
    let (stem, endings) = match name.split_once('.') {
        Some((stem, rest)) => {
            (stem, rest.rsplit('.').take(2).map(plain).filter(|e| (1..=8).contains(&e.len())).collect())
        }
        None => (name, Vec::new()),
    };
    let stem = Some(plain(stem)).filter(|stem| !stem.is_empty()).unwrap_or_else(|| "rows".into());
    endings.iter().rev().fold(stem, |name, ending| format!("{name}.{ending}"))
}

/// Whether a run may be called so: a folder's name that leads nowhere else.
pub fn is_name(name: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    (1..=NAME_CHARS).contains(&name.len()) && name.chars().all(fits) && !name.starts_with(['.', '-'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uploads_get_names_of_ours() {
        for (name, ours) in [
            ("FAQ März 2024.csv", "faq_m_rz_2024.csv"),
            ("../../etc/passwd", "passwd"),
            ("C:\\x\\rows.jsonl.gz", "rows.jsonl.gz"),
            (".bashrc", "rows.bashrc"),
            ("日本.JSONL", "rows.jsonl"),
            ("a.b.c.d.tsv", "a.d.tsv"),
            ("", "rows"),
            ("x.../..", "rows"),
        ] {
            assert_eq!(harmless(name), ours, "{name}");
        }
        for (name, fits) in
            [("faq-2", true), ("a.b_c", true), ("", false), ("..", false), ("a/b", false), ("-x", false)]
        {
            assert_eq!(is_name(name), fits, "{name}");
        }
    }

    #[test]
    fn what_was_uploaded_is_known_again_and_nothing_else_is_data() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::open(dir.path()).unwrap();
        assert!(Folder::open(dir.path()).is_err(), "another studio has it");
        let file = folder.name_for("FAQ.csv");
        assert_eq!(file, "1-faq.csv");
        fs::write(folder.data(&file), "question,answer\n").unwrap();
        folder.add(Uploaded { file: file.clone(), name: "FAQ.csv".into(), bytes: 16, added: 1 }).unwrap();
        let path = named(&folder.data(&file));
        assert!(folder.has_data(&path) && !folder.has_data("1-faq.csv") && !folder.has_data("/etc/passwd"));
        assert!(!folder.has_data(&path.replace("/data/", "/data/../data/")), "by one name alone");
        assert_eq!(folder.name_for("x"), "2-x");
        drop(folder);
        let folder = Folder::open(dir.path()).unwrap();
        assert_eq!(folder.files().len(), 1);
        assert!(folder.remove(&file).unwrap() && !folder.remove(&file).unwrap() && !folder.has_data(&path));
        fs::create_dir(dir.path().join("ship/a")).unwrap();
        assert_eq!(folder.ship("a", ""), folder.dir().join("ship/a-2"));
    }

    #[cfg(unix)]
    #[test]
    fn a_folder_is_where_it_is_by_whatever_name_it_is_opened() {
        let dir = tempfile::tempdir().unwrap();
        let (own, link) = (dir.path().join("a$b c"), dir.path().join("link"));
        fs::create_dir(&own).unwrap();
        std::os::unix::fs::symlink(&own, &link).unwrap();
        let folder = Folder::open(&link.join("../link/.")).unwrap();
        assert_eq!(folder.dir(), own.canonicalize().unwrap());
        assert!(Folder::open(&own).is_err(), "it is open");
        folder.add(Uploaded { file: "1-x.csv".into(), name: "x".into(), bytes: 1, added: 1 }).unwrap();
        let path = format!("{}/data/1-x.csv", folder.dir().display()).replace('$', "$$");
        assert!(folder.has_data(&path) && !folder.has_data(&path.replace("$$", "$")), "{path}");
    }
}
