//! From what the user wrote to files: paths, globs and Hub ids.

use super::contents::{Compression, FileKind, SourceFile};
use super::look::{self, Look};
use super::saved;
use crate::data::spec::SourceSpec;
use crate::error::{Error, Kind, Place, Result};
use crate::paths;
use std::ffi::OsStr;
use std::path::{Component, Path, PathBuf};

/// How files end that may hold rows and are of no kind that is read.
const OTHER_ENDINGS: [&str; 28] = [
    "xlsx", "xls", "ods", "zip", "tar", "tgz", "gz", "zst", "bz2", "xz", "7z", "rar", "feather", "avro", "orc", "pkl",
    "pickle", "npy", "npz", "h5", "sqlite", "db", "pdf", "doc", "docx", "odt", "html", "xml",
];
/// Those of them that a note lists.
const SHOWN_BESIDE: usize = 5;

/// Finds the files of a Hub data set from its `hf://` id and split, downloading what is missing.
pub type FindHub<'a> = dyn Fn(&str, Option<&str>) -> Result<Vec<PathBuf>> + 'a;

/// A [`FindHub`] for programs without the Hub.
///
/// # Errors
/// Always: the id needs the Hub.
pub fn local_only(id: &str, _split: Option<&str>) -> Result<Vec<PathBuf>> {
    Err(Error::new(Kind::Recipe, format!("`{id}` is on the Hub, which this program was built without")))
}

/// The files of all `sources`, in order; a glob's files sorted by name. `key` is the recipe's key that names them.
///
/// # Errors
/// All sources that name nothing, or name a file of an unknown kind, together.
pub(crate) fn resolve(key: &str, sources: &[SourceSpec], find_hub: &FindHub) -> Result<Vec<SourceFile>> {
    let mut files = Vec::new();
    let mut problems = Vec::new();
    for (index, source) in sources.iter().enumerate() {
        let place = || Place::Key(format!("{key}[{index}].path"));
        let paths = if source.path.starts_with("hf://") {
            find_hub(&source.path, source.split.as_deref())
        } else {
            local(source)
        };
        let mut beside = if paths.is_ok() { left_in_folder(Path::new(&source.path)) } else { None };
        match paths {
            Ok(paths) if paths.is_empty() => problems.push(nothing_found(source).at(place())),
            Ok(paths) => {
                for path in paths {
                    match look_at(&path) {
                        Ok(Look { contents, mut notes, .. }) => {
                            notes.extend(beside.take());
                            let path = path.into();
                            let renamed = source.columns.values().cloned().collect();
                            files.push(SourceFile { path, contents, columns: None, renamed, source: index, notes });
                        }
                        Err(problem) => problems.push(problem),
                    }
                }
            }
            Err(problem) => problems.push(problem.or_at(place())),
        }
    }
    Error::many(problems).map_or(Ok(files), Err)
}

/// Whether a local source's files are there, of kinds that can be read, and hold something, as far as their beginnings tell.
///
/// # Errors
/// As `resolve`, for this source: at most one problem, whose place is not the recipe's key.
pub fn check_source(source: &SourceSpec) -> Result<()> {
    let paths = local(source)?;
    if paths.is_empty() {
        return Err(nothing_found(source));
    }
    let mut looks = paths.iter().map(|path| look_at(path)).collect::<Result<Vec<Look>>>()?;
    if let Some(damaged) = looks.iter_mut().find_map(|look| look.damaged.take()) {
        return Err(damaged);
    }
    if looks.iter().all(|look| look.is_blank) {
        let error = Error::new(Kind::Data, format!("there are no rows in `{}`", source.path));
        return Err(error.hint("the file is empty"));
    }
    Ok(())
}

/// Looks into the file at `path`, which is of the kind that its name says unless it shows another.
pub(super) fn look_at(path: &Path) -> Result<Look> {
    // An Excel file is named as one rather than by its ending.
    let (kind, compression) = kind_of(path).map_err(|unknown| look::foreign_at(path).unwrap_or(unknown))?;
    look::look(path, kind, compression)
}

fn nothing_found(source: &SourceSpec) -> Error {
    absent(Error::new(Kind::Data, format!("`{}` matches no file", source.path)), Path::new(&source.path))
}

/// An error about a path where nothing is, with what was meant or where it was looked for.
fn absent(error: Error, path: &Path) -> Error {
    let can_be_data = |found: &Path| found.is_dir() || kind_of(found).is_ok();
    match paths::absent(path, &can_be_data) {
        Some(hint) => error.hint(hint),
        None => error,
    }
}

fn local(source: &SourceSpec) -> Result<Vec<PathBuf>> {
    let path = PathBuf::from(&source.path);
    if let Some(saved) = saved::files(&path, source.split.as_deref()) {
        return saved;
    }
    if let Some(split) = source.split.as_deref().filter(|&split| split != "train") {
        return Err(Error::new(Kind::Recipe, format!("`{}` has no split `{split}`: it is a local file", source.path))
            .hint("`split` chooses among the splits of an `hf://` data set; name another file instead"));
    }
    // A file may have brackets in its name: what exists is no glob.
    if path.is_dir() {
        return in_folder(&path);
    }
    if path.exists() {
        return Ok(vec![path]);
    }
    if !source.path.contains(['*', '?', '[']) {
        return Err(absent(Error::new(Kind::Data, format!("data file `{}` does not exist", source.path)), &path));
    }
    let pattern = glob::glob(&source.path)
        .map_err(|e| Error::new(Kind::Recipe, format!("`{}` is no valid glob: {}", source.path, e.msg)))?;
    let mut files = Vec::new();
    for entry in pattern {
        let path = entry.map_err(|e| {
            let unreadable = e.path().to_path_buf();
            Error::io("searching", unreadable, e.into())
        })?;
        if path.is_file() && !is_hidden(&path, &source.path) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// Whether a file that `glob` found is hidden, or in a folder that is, and `glob` does not say so: as shells read it, and as folders are
/// read. Else the `._rows.csv` of macOS and the `.ipynb_checkpoints` of a notebook would be rows.
fn is_hidden(found: &Path, glob: &str) -> bool {
    let named = |part: &str| {
        let parts = Path::new(glob).iter().filter_map(OsStr::to_str).filter(|own| own.starts_with('.'));
        parts.into_iter().any(|own| glob::Pattern::new(own).is_ok_and(|own| own.matches(part)) || own == part)
    };
    let parts = found.components().filter_map(|part| match part {
        Component::Normal(part) => Some(part.to_string_lossy()),
        _ => None,
    });
    parts.into_iter().any(|part| part.starts_with('.') && !named(&part))
}

/// The data files of a folder, sorted; what is hidden and what explains the others is left out.
fn in_folder(folder: &Path) -> Result<Vec<PathBuf>> {
    let failed = |e| Error::io("listing", folder, e);
    let (mut tables, mut texts) = (Vec::new(), Vec::new());
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
        let is_hidden = name.starts_with('.');
        match kind_of(&path) {
            Ok((FileKind::Text, _)) if !explains(&path) && !is_hidden && path.is_file() => texts.push(path),
            Ok((kind, _)) if kind != FileKind::Text && !is_hidden && path.is_file() => tables.push(path),
            _ => {}
        }
    }
    let shown = folder.display();
    let glob = |ending: &str| format!("`{}/*{ending}`", shown.to_string().trim_end_matches('/'));
    let mut files = match (tables.is_empty(), texts.is_empty()) {
        (true, true) => {
            return Err(Error::new(Kind::Data, format!("`{shown}` is a folder without data files"))
                .hint(format!("name files with a glob, such as {}", glob(".jsonl"))));
        }
        (false, false) => {
            return Err(Error::new(Kind::Data, format!("`{shown}` holds both tables of rows and plain text")).hint(
                format!("name the files that are meant with a glob, such as {} or {}", glob(".jsonl"), glob(".txt")),
            ));
        }
        (false, true) => tables,
        (true, false) => texts,
    };
    files.sort();
    Ok(files)
}

/// What of a folder may hold rows too and is not read, as a note about its first file: files of other kinds, and folders with data
/// files in them.
fn left_in_folder(folder: &Path) -> Option<String> {
    if !folder.is_dir() || saved::files(folder, None).is_some() {
        return None;
    }
    let holds_rows = |path: &Path| {
        let inside = paths::entries(path).into_iter().map(|name| path.join(name));
        inside.take(SHOWN_BESIDE * 100).any(|file| file.is_file() && !explains(&file) && kind_of(&file).is_ok())
    };
    let may_hold_rows = |path: &Path| {
        let ending = path.extension().map(|ending| ending.to_string_lossy().to_lowercase());
        ending.is_some_and(|ending| OTHER_ENDINGS.contains(&ending.as_str())) && kind_of(path).is_err()
    };
    let is_left = |name: &String| {
        let path = folder.join(name);
        if path.is_dir() { holds_rows(&path) } else { may_hold_rows(&path) }
    };
    let names: Vec<String> = paths::entries(folder).into_iter().filter(is_left).collect();
    let shown: Vec<String> = names.iter().take(SHOWN_BESIDE).map(|name| format!("`{name}`")).collect();
    let more = names.len().saturating_sub(SHOWN_BESIDE);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    (!names.is_empty()).then(|| format!("has beside it what is not read: {}{more}", shown.join(", ")))
}

/// Whether a file explains those beside it, by its name.
fn explains(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
    ["readme", "license", "licence"].iter().any(|start| name.starts_with(start))
}

/// How a file is compressed, by its name.
pub(super) fn compression_of(path: &Path) -> Compression {
    match path.extension().map(|extension| extension.to_ascii_lowercase()) {
        Some(extension) if extension == "gz" => Compression::Gzip,
        Some(extension) if extension == "zst" => Compression::Zstd,
        _ => Compression::None,
    }
}

pub(super) fn kind_of(path: &Path) -> Result<(FileKind, Compression)> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
    let compression = compression_of(path);
    let stem = match compression {
        Compression::None => name.as_str(),
        _ => name.rsplit_once('.').map_or("", |(stem, _)| stem),
    };
    let kind = match stem.rsplit_once('.').map(|(_, extension)| extension) {
        Some("jsonl" | "ndjson") => FileKind::Lines,
        Some("json") => FileKind::Json,
        Some("csv") => FileKind::Csv { delimiter: b',' },
        Some("tsv") => FileKind::Csv { delimiter: b'\t' },
        Some("txt" | "text" | "md" | "markdown" | "rst" | "tex") => FileKind::Text,
        Some("parquet") if compression == Compression::None => FileKind::Parquet,
        Some("arrow") if compression == Compression::None => FileKind::Arrow,
        _ => {
            return Err(Error::new(Kind::Data, format!("`{name}` is of no kind that can be read"))
                .at(Place::Path(path.into()))
                .hint("data files end in .jsonl, .json, .csv, .tsv, .txt, .md (also with .gz or .zst), .parquet or .arrow"));
        }
    };
    Ok((kind, compression))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::options::RowFormat;

    fn source(path: &Path) -> SourceSpec {
        SourceSpec::new(path.to_str().unwrap(), RowFormat::Messages)
    }

    #[test]
    fn globs_are_sorted_and_literal_names_win() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["b.jsonl", "a.jsonl.gz", "c[1].csv", "c1.csv", "x.parquet", "._b.jsonl", "X.JSONL"] {
            std::fs::write(dir.path().join(name), "").unwrap();
        }
        let sources = [
            source(&dir.path().join("*.jsonl*")),
            source(&dir.path().join("c[1].csv")),
            SourceSpec::new("hf://datasets/a/b", RowFormat::Text),
        ];
        let hub = dir.path().join("x.parquet");
        let files = resolve("data.train", &sources, &|id, split| {
            assert_eq!((id, split), ("hf://datasets/a/b", None));
            Ok(vec![hub.clone()])
        })
        .unwrap();
        let found: Vec<_> = files
            .iter()
            .map(|f| (f.path.file_name().unwrap().to_str().unwrap(), f.contents.kind, f.contents.compression, f.source))
            .collect();
        assert_eq!(
            found,
            [
                ("a.jsonl.gz", FileKind::Lines, Compression::Gzip, 0),
                ("b.jsonl", FileKind::Lines, Compression::None, 0),
                ("c[1].csv", FileKind::Csv { delimiter: b',' }, Compression::None, 1),
                ("x.parquet", FileKind::Parquet, Compression::None, 2),
            ]
        );
    }

    #[test]
    fn hidden_files_are_found_where_the_glob_names_them() {
        let dir = tempfile::tempdir().unwrap();
        let hidden = dir.path().join(".ipynb_checkpoints");
        std::fs::create_dir(&hidden).unwrap();
        for file in [dir.path().join("a.csv"), dir.path().join("._a.csv"), hidden.join("a-checkpoint.csv")] {
            std::fs::write(file, "text\na\n").unwrap();
        }
        let found = |glob: &str| {
            let files = local(&source(&dir.path().join(glob))).unwrap();
            let name = |file: PathBuf| file.file_name().unwrap().to_string_lossy().into_owned();
            files.into_iter().map(name).collect::<Vec<_>>()
        };
        assert_eq!(found("*.csv"), ["a.csv"]);
        assert_eq!(found("**/*.csv"), ["a.csv"]);
        assert_eq!(found("._*.csv"), ["._a.csv"]);
        assert_eq!(found(".ipynb_checkpoints/*.csv"), ["a-checkpoint.csv"]);
    }

    #[test]
    fn what_is_not_read_of_a_folder_is_said() {
        let dir = tempfile::tempdir().unwrap();
        for folder in ["old", "lost+found", "pictures"] {
            std::fs::create_dir_all(dir.path().join(folder)).unwrap();
        }
        for name in [
            "a.csv",
            "b.csv",
            "c.xlsx",
            "README.md",
            "LICENSE",
            ".hidden.csv",
            "r.yaml",
            "old/x.jsonl.gz",
            "pictures/1.png",
        ] {
            std::fs::write(dir.path().join(name), "text\na\n").unwrap();
        }
        let notes = || -> Vec<Vec<String>> {
            let files = resolve("data.train", &[source(dir.path())], &local_only).unwrap();
            files.into_iter().map(|file| file.notes).collect()
        };
        assert_eq!(notes(), [vec!["has beside it what is not read: `c.xlsx`, `old`".to_owned()], vec![]]);
        std::fs::remove_file(dir.path().join("c.xlsx")).unwrap();
        std::fs::remove_dir_all(dir.path().join("old")).unwrap();
        assert_eq!(notes(), [Vec::<String>::new(), vec![]]);
    }

    #[test]
    fn every_source_that_names_nothing_is_reported() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("a.doc"), "").unwrap();
        let mut split = source(&dir.path().join("a.doc"));
        split.split = Some("test".into());
        let sources = [
            source(&dir.path().join("no.jsonl")),
            source(&dir.path().join("*.json")),
            source(&dir.path().join("a.doc")),
            split,
            source(dir.path()),
        ];
        let error = resolve("data.train", &sources, &local_only).unwrap_err();
        let whats: Vec<_> = error.iter().map(|e| e.what().replace(dir.path().to_str().unwrap(), "DIR")).collect();
        assert_eq!(
            whats,
            [
                "data file `DIR/no.jsonl` does not exist",
                "`DIR/*.json` matches no file",
                "`a.doc` is of no kind that can be read",
                "`DIR/a.doc` has no split `test`: it is a local file",
                "`DIR` is a folder without data files",
            ]
        );
        let places: Vec<_> = error.iter().filter_map(Error::place).cloned().collect();
        let key = |index| Place::Key(format!("data.train[{index}].path"));
        assert_eq!(places, [key(0), key(1), Place::Path(dir.path().join("a.doc")), key(3), key(4)]);
    }
}
