//! Looks at each picture and sound of the rows while they are prepared: whether it can be used, and what it becomes.

use super::rules::{MediaRules, Outcome};
use super::table::{MediaOrigin, MediaTable, ShownBy, contents};
use crate::atomic;
use crate::data::cache::{Stamp, keep_media};
use crate::data::row::Row;
use crate::error::{Error, Kind, Place, Result};
use crate::paths;
use crate::text::{MediaKind, MediaSource, Medium};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// Looks at the pictures and sounds of rows, each of which comes with its place: the folder of its file is where paths in it
/// begin, else the current one. What has no file of its own is kept in the folder `cache`.
///
/// # Errors
/// The first that cannot be used.
pub fn look_at(rows: &mut [(&mut Row, &Place)], rules: &MediaRules, cache: &Path) -> Result<MediaTable> {
    let reader = MediaReader::new(rules, cache);
    for (number, (row, place)) in rows.iter_mut().enumerate() {
        let folder = match place {
            Place::Row { path, .. } => path.parent(),
            _ => None,
        };
        let by = (0, u32::try_from(number).unwrap_or(u32::MAX));
        let mut media = row.media_mut().into_iter();
        media
            .try_for_each(|medium| reader.look(medium, folder, by).map(drop))
            .map_err(|e| e.or_at((*place).clone()))?;
    }
    let place = |(_, number): ShownBy| Some(rows.get(number as usize)?.1.clone());
    Ok(MediaTable::new(&reader.into_origins(), cache, place))
}

/// Makes sure that a picture or sound of no row can be used; paths are relative to the current folder.
///
/// # Errors
/// When it cannot.
pub fn check_medium(medium: &Medium, rules: &MediaRules) -> Result<()> {
    MediaReader::new(rules, Path::new("")).look(&mut medium.clone(), None, (0, 0)).map(drop)
}

/// The largest file that is taken for a picture or sound.
const MOST_BYTES: u64 = 1 << 30;

/// Reads pictures and sounds. Threads share one.
pub(in crate::data) struct MediaReader<'a> {
    rules: &'a MediaRules,
    cache: &'a Path,
    /// By the hash of their bytes and their kind.
    known: Mutex<BTreeMap<(MediaKind, [u8; 32]), MediaOrigin>>,
}

impl<'a> MediaReader<'a> {
    /// Reads by these rules, and keeps what has no file of its own in the folder `cache`.
    pub fn new(rules: &'a MediaRules, cache: &'a Path) -> Self {
        MediaReader { rules, cache, known: Mutex::default() }
    }

    /// Looks at a medium of the row `by` in a file of `folder`, against which paths are relative, and notes its pieces; says
    /// what becomes of it. Where no file names it, paths are relative to the current folder.
    ///
    /// # Errors
    /// A file that is missing, that cannot be read, or that is no picture or sound which the model takes.
    pub fn look(&self, medium: &mut Medium, folder: Option<&Path>, by: ShownBy) -> Result<Outcome> {
        self.rules.takes(medium.kind)?;
        let (path, bytes) = match &medium.source {
            MediaSource::Bytes(bytes) => (None, bytes.clone()),
            MediaSource::Path(named) => {
                let path = folder.unwrap_or(Path::new("")).join(paths::expand(named)?);
                let bytes = read(&path).map_err(|e| missing(named, &path, folder, e))?;
                (Some(path), bytes.into())
            }
            MediaSource::Listed => {
                return Err(Error::new(Kind::Data, format!("a part of type `{}` holds none", medium.kind.name())));
            }
        };
        let hash = blake3::hash(&bytes);
        let known = self.known().get_mut(&(medium.kind, *hash.as_bytes())).map(|origin| {
            origin.shown = origin.shown.min(by);
            origin.outcome
        });
        let outcome = match known {
            Some(outcome) => outcome,
            None => {
                let outcome = self.rules.outcome(medium.kind, &bytes).map_err(|e| named(&path, &medium.source, e))?;
                self.keep(medium.kind, &hash, outcome, (path, by), &bytes)?;
                outcome
            }
        };
        medium.pieces = contents(&hash, outcome.pieces);
        if let MediaSource::Bytes(_) = medium.source {
            medium.source = MediaSource::Listed; // its bytes are kept elsewhere now
        }
        Ok(outcome)
    }

    /// All that was seen, in the order of their contents.
    pub fn into_origins(self) -> Vec<MediaOrigin> {
        self.known.into_inner().unwrap_or_else(PoisonError::into_inner).into_values().collect()
    }

    fn keep(
        &self,
        kind: MediaKind,
        hash: &blake3::Hash,
        outcome: Outcome,
        (path, by): (Option<PathBuf>, ShownBy),
        bytes: &[u8],
    ) -> Result<()> {
        let content = hash.to_hex().to_string();
        let file = match path {
            Some(path) => {
                let path = std::path::absolute(&path).unwrap_or(path);
                let stamp = Stamp::of(&path)?.0;
                Some((path, stamp))
            }
            None => {
                keep_media(self.cache, &content, bytes)?;
                None
            }
        };
        let mut origin = MediaOrigin { content, is_audio: kind == MediaKind::Audio, outcome, file, shown: by };
        let mut known = self.known();
        // Another thread may have met it in the meantime.
        if let Some(met) = known.get(&(kind, *hash.as_bytes())) {
            origin.shown = met.shown.min(by);
        }
        known.insert((kind, *hash.as_bytes()), origin);
        Ok(())
    }

    fn known(&self) -> std::sync::MutexGuard<'_, BTreeMap<(MediaKind, [u8; 32]), MediaOrigin>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let metadata = std::fs::metadata(path)?;
    if !metadata.is_file() {
        return Err(io::Error::new(io::ErrorKind::IsADirectory, "it is no file"));
    }
    if metadata.len() > MOST_BYTES {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it has more than {} MiB", MOST_BYTES >> 20)));
    }
    atomic::may_read(path).map_err(io::Error::other)?;
    std::fs::read(path)
}

/// The error for a file that cannot be read; where another file of that name lies, or its own folder, it says so.
fn missing(named: &str, path: &Path, folder: Option<&Path>, error: io::Error) -> Error {
    let error = match error.downcast::<Error>() {
        Ok(refused) => return refused,
        Err(error) => error,
    };
    // A file's name has at most 255 bytes on most systems.
    if named.len() > 255 && named.bytes().all(|b| b.is_ascii_alphanumeric() || b"+/=_-".contains(&b)) {
        let what = format!("there is no file `{}..`, a name of {} characters", &named[..40], named.len());
        return Error::new(Kind::Data, what)
            .hint("if these are its bytes in base64, begin with `data:image/png;base64,`");
    }
    if error.kind() != io::ErrorKind::NotFound {
        return Error::new(Kind::Data, format!("`{named}` cannot be read: {error}"));
    }
    let error = Error::new(Kind::Data, format!("there is no file `{named}`"));
    if Path::new(named).is_absolute() {
        return error;
    }
    let parent = path.parent().map(|parent| if parent.as_os_str().is_empty() { Path::new(".") } else { parent });
    let names = parent.and_then(|parent| std::fs::read_dir(parent).ok()).into_iter().flatten().flatten();
    let names: Vec<String> = names.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    let own = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let near = crate::error::did_you_mean(own, names.iter().map(String::as_str));
    let here = Path::new(named).exists();
    error.hint_of_files(match (near, folder) {
        (Some(near), _) => format!("did you mean `{}`?", Path::new(named).with_file_name(near).display()),
        (None, None) => {
            let here = std::env::current_dir().map(|here| format!(", `{}`", here.display())).unwrap_or_default();
            format!("names are relative to the folder in which the program runs{here}")
        }
        (None, Some(folder)) if here => format!(
            "it lies in the folder of this command, but names are relative to the file that has them: to `{}`",
            folder.display()
        ),
        (None, Some(folder)) if folder.as_os_str().is_empty() => {
            "names are relative to the folder of the data file".into()
        }
        (None, Some(folder)) => format!("names are relative to the folder of the data file, `{}`", folder.display()),
    })
}

/// The error of a medium, with what it is called.
fn named(path: &Option<PathBuf>, source: &MediaSource, error: Error) -> Error {
    let (Some(_), MediaSource::Path(named)) = (path, source) else { return error };
    let what = format!("`{named}`: {}", error.what());
    match error.hint_text() {
        Some(hint) => Error::new(Kind::Data, what).hint(hint.to_owned()),
        None => Error::new(Kind::Data, what),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_a_missing_file_was_looked_for_is_said() {
        let hint = |folder: Option<&Path>| {
            let path = folder.unwrap_or(Path::new("")).join("pictures of nobody/1.png");
            let error = missing("pictures of nobody/1.png", &path, folder, io::ErrorKind::NotFound.into());
            error.hint_text().unwrap().to_owned()
        };
        assert!(
            hint(None).starts_with("names are relative to the folder in which the program runs, `/"),
            "{}",
            hint(None)
        );
        assert_eq!(hint(Some(Path::new(""))), "names are relative to the folder of the data file");
        assert_eq!(hint(Some(Path::new("rows"))), "names are relative to the folder of the data file, `rows`");
    }
}
