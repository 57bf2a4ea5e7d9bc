//! One error type for the library: what went wrong, where, and what to do about it.
//!
//! Every room returns [`Error`]. It is matched by [`Kind`], shown as
//!
//! ```text
//! error: tensor `model.norm.weight` has the wrong shape: expected [640], found [641]
//!   --> models/tiny/model.safetensors
//!   hint: the file and `config.json` belong to different models
//! ```
//!
//! without the power to control the terminal, whatever file its words come from,
//! and may carry several problems at once ([`Error::many`]), so that a user sees all of them in one go.

use crate::terminal::{discreet, printable};
use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};

/// The result of every fallible function in this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What kind of thing failed. Decides the exit code and lets callers match.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// The command line or the recipe is wrong.
    Recipe,
    /// A row or file of a data set is wrong.
    Data,
    /// A model's `config.json` is wrong, or asks for something this program does not do.
    Config,
    /// A weights file (safetensors, its index, or GGUF) is wrong.
    Weights,
    /// A tokenizer or chat template is wrong.
    Tokenizer,
    /// An adapter folder is wrong or does not fit the model.
    Adapter,
    /// A checkpoint is damaged or belongs to another run.
    Checkpoint,
    /// The Hub refused or could not be reached.
    Hub,
    /// The requested device is missing or disagrees with the CPU.
    Device,
    /// Reading or writing a file failed.
    Io,
    /// No space left where a file was to be written.
    NoSpace,
    /// A device has no memory left for what it is to compute.
    OutOfMemory,
    /// A device failed while it computed.
    Computing,
    /// This program is wrong.
    Bug,
    /// Training produced non-finite numbers repeatedly.
    NonFinite,
    /// An answer could not be judged: a reward's program failed, or said something else than a number.
    Reward,
    /// The user stopped the run; it can be resumed.
    Interrupted,
    /// Another server that is needed is not there; it may be later.
    Unreachable,
    /// Anything else that failed while running.
    Run,
}

impl Kind {
    /// The process exit code: 1 the run failed, 2 the input or the recipe is wrong, 3 interrupted but resumable.
    pub fn exit_code(self) -> u8 {
        match self {
            Kind::Recipe
            | Kind::Data
            | Kind::Config
            | Kind::Weights
            | Kind::Tokenizer
            | Kind::Adapter
            | Kind::Device
            | Kind::Checkpoint => 2,
            Kind::Hub
            | Kind::Io
            | Kind::NoSpace
            | Kind::OutOfMemory
            | Kind::Computing
            | Kind::Bug
            | Kind::NonFinite
            | Kind::Reward
            | Kind::Unreachable
            | Kind::Run => 1,
            Kind::Interrupted => 3,
        }
    }
}

/// Where in the user's world a problem is. Shown after `-->`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A file or folder.
    Path(PathBuf),
    /// A line and column (both from 1) of a text file.
    Text {
        /// The file as the user named it.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// Column in characters, from 1.
        column: usize,
    },
    /// A row (from 1) of a data file.
    Row {
        /// The data file as the user named it.
        path: PathBuf,
        /// Row, from 1; for line formats the line number.
        row: usize,
    },
    /// A byte offset of a binary file.
    Byte {
        /// The file as the user named it.
        path: PathBuf,
        /// Offset in bytes from the start of the file.
        offset: u64,
    },
    /// A key of the recipe, as `section.key`; who has read the recipe knows its line ([`Error::locate`]).
    Key(String),
    /// Anything else that has a name: a command-line option, a hub id.
    Named(String),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Path(path) => write!(f, "{}", path.display()),
            Place::Text { path, line, column } => write!(f, "{}:{line}:{column}", path.display()),
            Place::Row { path, row } => write!(f, "{}, row {row}", path.display()),
            Place::Byte { path, offset } => write!(f, "{}, byte {offset}", path.display()),
            Place::Key(name) | Place::Named(name) => f.write_str(name),
        }
    }
}

/// A path names something that cannot be read to an end: a folder, a pipe, a socket, a device.
#[derive(Debug, thiserror::Error)]
#[error("this is {0}, not a file")]
pub struct NotAFile(pub &'static str);

/// A problem for people: what, where, a hint; one or several.
#[derive(Debug)]
pub struct Error(Box<Inner>);

#[derive(Debug)]
struct Inner {
    kind: Kind,
    what: String,
    place: Option<Place>,
    key: Option<String>,
    excerpt: Option<String>,
    hint: Option<String>,
    /// Whether the hint is for who has a recipe, files of data or a model's.
    is_hint_of_files: bool,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
    others: Vec<Error>,
}

/// Whether the system found something at a path that cannot be what was meant.
fn is_named_wrongly(kind: std::io::ErrorKind) -> bool {
    use std::io::ErrorKind::{InvalidFilename, IsADirectory, NotADirectory, PermissionDenied};
    matches!(kind, PermissionDenied | NotADirectory | IsADirectory | InvalidFilename)
}

impl Error {
    /// An error of `kind` that says `what` went wrong (one sentence, no full stop).
    pub fn new(kind: Kind, what: impl Into<String>) -> Self {
        let (place, key, excerpt, hint, source) = Default::default();
        let (what, is_hint_of_files, others) = (what.into(), false, Vec::new());
        Error(Box::new(Inner { kind, what, place, key, excerpt, hint, is_hint_of_files, source, others }))
    }

    /// An I/O failure on `path`. A full disk becomes [`Kind::NoSpace`], a path that is [`NotAFile`] wrong input; an error
    /// of ours that travelled as one of the system's is itself again.
    pub fn io(doing: &str, path: impl AsRef<Path>, source: std::io::Error) -> Self {
        let path = path.as_ref();
        use std::io::ErrorKind;
        let source = match source.downcast::<Error>() {
            Ok(own) => return own,
            Err(source) => source,
        };
        if source.get_ref().is_some_and(|inner| inner.is::<NotAFile>()) {
            return Error::new(Kind::Recipe, source.to_string()).at_path(path).hint("name a file on a disk");
        }
        let full = matches!(source.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded);
        if full || source.raw_os_error() == Some(28) {
            return Error::new(Kind::NoSpace, format!("no space left while {doing}"))
                .at(Place::Path(path.into()))
                .hint(match is_disk(path) {
                    true => "free some space or choose another folder; nothing half-written was kept",
                    false => "it takes no more; name a file, or something else",
                })
                .caused_by(source);
        }
        // A limit of the shell's (`ulimit -f`) or of a file system that knows no larger files.
        if source.raw_os_error() == Some(27) || source.kind() == ErrorKind::FileTooLarge {
            return Error::new(Kind::Io, format!("{doing} failed: {source}"))
                .at_path(path)
                .hint("no larger file may be written here: see `ulimit -f`, or choose a folder on another disk")
                .caused_by(source);
        }
        // What may not or cannot be read where it is was named wrongly; a disk that fails is another thing.
        let reads = ["reading", "opening", "searching"].iter().any(|verb| doing.starts_with(verb));
        let kind = if reads && is_named_wrongly(source.kind()) { Kind::Recipe } else { Kind::Io };
        Error::new(kind, format!("{doing} failed: {source}")).at(Place::Path(path.into())).caused_by(source)
    }

    /// As [`Error::io`], of a file that the user named or that belongs to what was named: where it is missing, a folder,
    /// not allowed or not text, the input is wrong, and the error is of this kind.
    pub fn input(kind: Kind, doing: &str, path: impl AsRef<Path>, source: std::io::Error) -> Self {
        use std::io::ErrorKind;
        let mut error = Error::io(doing, path, source);
        let io = error.0.source.as_ref().and_then(|source| source.downcast_ref::<std::io::Error>());
        let is_absent_or_no_text = |kind| matches!(kind, ErrorKind::NotFound | ErrorKind::InvalidData);
        if io.is_some_and(|io| is_named_wrongly(io.kind()) || is_absent_or_no_text(io.kind())) {
            error.0.kind = kind;
        }
        error
    }

    /// Adds where it happened.
    pub fn at(mut self, place: Place) -> Self {
        self.0.place = Some(place);
        self
    }

    /// Adds where it happened: a file or folder.
    pub fn at_path(self, path: impl Into<PathBuf>) -> Self {
        self.at(Place::Path(path.into()))
    }

    /// Adds where it happened, unless an inner function has already said it more precisely.
    pub fn or_at(self, place: Place) -> Self {
        if self.0.place.is_some() { self } else { self.at(place) }
    }

    /// Puts every problem at a [`Place::Key`] to the place that `find` knows for the key, with the lines to show there.
    pub fn locate(mut self, find: &impl Fn(&str) -> Option<(Place, Option<String>)>) -> Self {
        let found = match &self.0.place {
            Some(Place::Key(key)) => find(key),
            _ => None,
        };
        if let Some((place, excerpt)) = found {
            self = self.about();
            self.0.place = Some(place);
            self.0.excerpt = self.0.excerpt.or(excerpt);
        }
        self.0.others = self.0.others.into_iter().map(|other| other.locate(find)).collect();
        self
    }

    /// Keeps the key that is the place, for programs, where a line is to be the place instead.
    pub fn about(mut self) -> Self {
        if let Some(Place::Key(key)) = &self.0.place {
            self.0.key = Some(key.clone());
        }
        self
    }

    /// Says of what happened below `from` that it happened below `to`: a temporary name means nothing to people.
    pub fn moved(mut self, from: &Path, to: &Path) -> Self {
        if let Some(Place::Path(path)) = &mut self.0.place
            && let Ok(inside) = path.strip_prefix(from)
        {
            *path = to.join(inside);
        }
        self.0.others = self.0.others.into_iter().map(|other| other.moved(from, to)).collect();
        self
    }

    /// Adds the offending source lines, ready to print (several lines, no indentation).
    pub fn excerpt(mut self, excerpt: impl Into<String>) -> Self {
        self.0.excerpt = Some(excerpt.into());
        self
    }

    /// Adds what the user can do about it.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hint = Some(hint.into());
        self.0.is_hint_of_files = false;
        self
    }

    /// Adds what somebody can do about it who has a recipe, files of data or those of a model. Others, such as the clients of a server,
    /// are not told ([`Error::for_clients`]).
    pub fn hint_of_files(mut self, hint: impl Into<String>) -> Self {
        self = self.hint(hint);
        self.0.is_hint_of_files = true;
        self
    }

    /// Leaves out the hints of every problem that mean nothing to who has neither a recipe nor files.
    pub fn for_clients(mut self) -> Self {
        if self.0.is_hint_of_files {
            self.0.hint = None;
        }
        self.0.others = self.0.others.into_iter().map(Error::for_clients).collect();
        self
    }

    /// Says every hint in other words; one of which nothing is left is none.
    pub fn reword(mut self, words: &impl Fn(&str) -> String) -> Self {
        self.0.hint = self.0.hint.map(|hint| words(&hint)).filter(|hint| !hint.is_empty());
        self.0.others = self.0.others.into_iter().map(|other| other.reword(words)).collect();
        self
    }

    /// Says everything in other words: what, where, the excerpt and the hint of every problem.
    pub fn rewrite(mut self, words: &impl Fn(&str) -> String) -> Self {
        let Inner { what, place, excerpt, hint, others, .. } = &mut *self.0;
        *what = words(what);
        for text in [excerpt, hint].into_iter().flatten() {
            *text = words(text);
        }
        match place {
            Some(Place::Key(name) | Place::Named(name)) => *name = words(name),
            Some(Place::Path(path) | Place::Text { path, .. } | Place::Row { path, .. } | Place::Byte { path, .. }) => {
                // A path that is no text is left as it is.
                if let Some(text) = path.to_str().map(words) {
                    *path = text.into();
                }
            }
            None => {}
        }
        *others = std::mem::take(others).into_iter().map(|other| other.rewrite(words)).collect();
        self
    }

    /// Calls the keys that are places of problems otherwise.
    pub fn rename_keys(mut self, rename: &impl Fn(&str) -> String) -> Self {
        if let Some(Place::Key(key)) = &mut self.0.place {
            *key = rename(key);
        }
        self.0.others = self.0.others.into_iter().map(|other| other.rename_keys(rename)).collect();
        self
    }

    /// Gives every problem the hint that `find` has for its place, where it has one.
    pub fn hint_where(mut self, find: &impl Fn(&Place) -> Option<String>) -> Self {
        let found = self.0.place.as_ref().and_then(find);
        self.0.hint = found.or(self.0.hint);
        self.0.others = self.0.others.into_iter().map(|other| other.hint_where(find)).collect();
        self
    }

    /// Adds the underlying error.
    pub fn caused_by(mut self, source: impl std::error::Error + Send + Sync + 'static) -> Self {
        self.0.source = Some(Box::new(source));
        self
    }

    /// Several problems as one error, shown one after the other; `None` when there are none.
    pub fn many(errors: Vec<Error>) -> Option<Self> {
        let mut errors = errors.into_iter();
        let mut first = errors.next()?;
        first.0.others.extend(errors);
        Some(first)
    }

    /// The kind of the (first) problem.
    pub fn kind(&self) -> Kind {
        self.0.kind
    }

    /// What went wrong, without place and hint.
    pub fn what(&self) -> &str {
        &self.0.what
    }

    /// Where the (first) problem is.
    pub fn place(&self) -> Option<&Place> {
        self.0.place.as_ref()
    }

    /// What the user can do about the (first) problem.
    pub fn hint_text(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }

    /// The process exit code of the (first) problem.
    pub fn exit_code(&self) -> u8 {
        self.0.kind.exit_code()
    }

    /// This problem and all others that it carries, in order.
    pub fn iter(&self) -> impl Iterator<Item = &Error> {
        std::iter::once(self)
            .chain(self.0.others.iter().flat_map(|e| Box::new(e.iter()) as Box<dyn Iterator<Item = _>>))
    }

    /// The problems in order; those of which many say the same together, at the first of them.
    fn alike(&self) -> Vec<Vec<&Error>> {
        let words = |error: &Error| (error.0.what.clone(), error.0.hint.clone());
        let mut counts = HashMap::<_, usize>::new();
        self.iter().for_each(|error| *counts.entry(words(error)).or_default() += 1);
        let mut groups = Vec::<Vec<&Error>>::new();
        let mut first = HashMap::new();
        for error in self.iter() {
            let words = words(error);
            let together = counts.get(&words).is_some_and(|&count| count > ALIKE);
            match first.get(&words).and_then(|&at: &usize| groups.get_mut(at)).filter(|_| together) {
                Some(group) => group.push(error),
                None => {
                    first.insert(words, groups.len());
                    groups.push(vec![error]);
                }
            }
        }
        groups
    }

    /// The problems as JSON objects, for `--json`: `severity`, the `file` with a `line` and `column` or a `row`, the `key` of the
    /// recipe, the `place` as it is shown, `what` and `hint`; null where there is none.
    pub fn to_json(&self) -> serde_json::Value {
        let problem = |error: &Error| {
            let Inner { what, place, key, hint, .. } = &*error.0;
            let (mut file, mut key, mut line, mut column, mut row) = (None, key.as_ref(), None, None, None);
            match place {
                Some(Place::Path(path) | Place::Byte { path, .. }) => file = Some(path),
                Some(Place::Text { path, line: l, column: c }) => (file, line, column) = (Some(path), Some(l), Some(c)),
                Some(Place::Row { path, row: number }) => (file, row) = (Some(path), Some(number)),
                Some(Place::Key(name)) => key = Some(name),
                Some(Place::Named(_)) | None => {}
            }
            let file = file.map(|path| path.display().to_string());
            serde_json::json!({
                "severity": "error", "file": file, "line": line, "column": column, "row": row, "key": key,
                "place": place.as_ref().map(ToString::to_string), "what": discreet(what),
                "hint": hint.as_deref().map(discreet),
            })
        };
        self.iter().map(problem).collect()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.iter().count();
        let groups = self.alike();
        // The last one may say how many others there are.
        let is_shown = |i: usize| groups.len() <= SHOWN || i + 1 < SHOWN || i + 1 == groups.len();
        for (i, group) in groups.iter().enumerate().filter(|(i, _)| is_shown(*i)) {
            if i > 0 {
                f.write_str("\n\n")?;
            }
            if groups.len() > SHOWN && i + 1 == groups.len() {
                write!(f, "... and {} more\n\n", groups.len() - SHOWN)?;
            }
            let [error, others @ ..] = &group[..] else { continue };
            let Inner { what, place, excerpt, hint, .. } = &*error.0;
            let shown = |text: &str| printable(&discreet(text)).into_owned();
            write!(f, "error: {}", shown(what))?;
            if let Some(place) = place {
                write!(f, "\n  --> {}", printable(&place.to_string()))?;
            }
            for line in excerpt.iter().flat_map(|text| text.lines()) {
                write!(f, "\n  {}", shown(line))?;
            }
            if let Some(hint) = hint {
                write!(f, "\n  hint: {}", shown(hint))?;
            }
            if !others.is_empty() {
                let places = others.iter().filter_map(|other| other.place()).take(SHOWN);
                let places: Vec<String> = places.map(|place| printable(&place.to_string()).to_string()).collect();
                let more = others.len().saturating_sub(SHOWN);
                let more = if more > 0 { format!("; and {more} more") } else { String::new() };
                write!(f, "\n  the same at: {}{more}", places.join("; "))?;
            }
        }
        if count > 1 {
            write!(f, "\n\n{count} problems")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_ref().map(|e| &**e as &(dyn std::error::Error + 'static))
    }
}

/// Whether `path` is on a disk that can be full: no stream of this process, no device, no pipe.
fn is_disk(path: &Path) -> bool {
    if path == Path::new("stdout") || path == Path::new("stderr") {
        return false;
    }
    !path.metadata().is_ok_and(|found| !found.is_file() && !found.is_dir())
}

/// Problems that are shown one by one: more help nobody.
const SHOWN: usize = 24;

/// Problems that say the same and are still shown one by one.
const ALIKE: usize = 3;

/// Picks the candidate that a mistyped `word` most likely meant, if one is close enough.
pub fn did_you_mean<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let normal = |s: &str| s.to_lowercase().replace('-', "_");
    let (typed, word) = (word, normal(word));
    candidates
        .into_iter()
        // What was typed is not what was meant instead.
        .filter(|candidate| *candidate != typed)
        .map(|c| {
            (strsim::jaro_winkler(&word, &normal(c)).max(strsim::normalized_damerau_levenshtein(&word, &normal(c))), c)
        })
        .filter(|(score, _)| *score >= 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, c)| c)
}

#[cfg(test)]
mod tests;
