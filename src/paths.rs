//! Paths as people write them: `~`, `$NAME` and `${NAME}`, expanded alike in recipes, arguments and variables.

use crate::error::{Error, Kind, Place, Result, did_you_mean};
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

/// Entries of a folder that are looked at: in larger ones nothing is suggested but what comes first.
const MOST_ENTRIES: usize = 4096;

/// What systems put into folders by themselves: ext4 into a new volume, macOS, Windows, and boxes that share a disk.
const OF_THE_SYSTEM: [&str; 13] = [
    "lost+found",
    ".DS_Store",
    ".Spotlight-V100",
    ".Trashes",
    ".fseventsd",
    ".TemporaryItems",
    ".Trash",
    ".directory",
    "@eaDir",
    "Thumbs.db",
    "desktop.ini",
    "System Volume Information",
    "$RECYCLE.BIN",
];
/// How the names of others begin: a user's bin, files that NFS and FUSE keep open, what macOS knows of a file.
const OF_THE_SYSTEM_BEGIN: [&str; 4] = [".Trash-", ".nfs", ".fuse_hidden", "._"];

/// How much of a name without its ending must be right for it to have been meant.
const LEAST_ALIKE: f64 = 0.5;

/// What a path means: `~` at its start is the home folder, `$NAME` and `${NAME}` are variables of the environment, `$$` is
/// a dollar. Everything else stays as it is: `~name`, `$5`, a `~` in the middle.
///
/// # Errors
/// [`Kind::Recipe`] for a variable that is not set, `${` without its name or `}`, and the home folder of another user.
pub fn expand(text: &str) -> Result<String> {
    expand_with(text, &|name| std::env::var(name).ok())
}

/// As [`expand`], in an environment that is a function.
///
/// # Errors
/// As [`expand`].
pub fn expand_with(text: &str, lookup: &dyn Fn(&str) -> Option<String>) -> Result<String> {
    let wrong = |what: String| Error::new(Kind::Recipe, what);
    let mut unset = None;
    let path = with_variables(text, &mut |name| {
        lookup(name).filter(|value| !value.is_empty()).unwrap_or_else(|| {
            unset.get_or_insert_with(|| name.to_owned());
            String::new()
        })
    });
    if let Some(name) = unset {
        return Err(wrong(format!("the variable `{name}` of the path `{}` is not set", brief(text)))
            .hint(format!("set `{name}` in the environment, or write the path out; `$$` is a dollar")));
    }
    let Some(path) = path else {
        return Err(wrong(format!(
            "`${{` in the path `{}` is not followed by a variable's name and `}}`",
            brief(text)
        ))
        .hint("write `${NAME}` or `$NAME`; `$$` is a dollar"));
    };
    let Some(below) = path.strip_prefix('~') else { return Ok(path) };
    match below.split_once('/') {
        Some((user, _)) if !user.is_empty() => {
            Err(wrong(format!("`~{user}`, the home of another user, is not expanded"))
                .hint(format!("write the folder out, or `./~{user}` for a folder of that name")))
        }
        None if !below.is_empty() => Ok(path), // a file whose name begins with `~`
        _ => match lookup("HOME").or_else(|| lookup("USERPROFILE")).filter(|home| !home.is_empty()) {
            Some(home) => Ok(format!("{}{below}", home.trim_end_matches('/'))),
            None => Err(wrong(format!("`~` in the path `{}` means a home folder, and `HOME` is not set", brief(text)))
                .hint("set `HOME`, or write the path out")),
        },
    }
}

/// A text with what `find` makes of them in the place of `$NAME` and `${NAME}`; `$$` is a dollar, and so is one without a name. `None`
/// where `${` is not followed by a name and `}`.
pub fn with_variables(text: &str, find: &mut dyn FnMut(&str) -> String) -> Option<String> {
    let (mut filled, mut rest) = (String::new(), text);
    while let Some((before, after)) = rest.split_once('$') {
        filled.push_str(before);
        let (name, behind) = match after.strip_prefix('{') {
            Some(inside) => inside.split_once('}').filter(|(name, _)| is_name(name))?,
            None => after.split_at(after.bytes().take_while(|&b| is_letter(b) || b.is_ascii_digit()).count()),
        };
        if let Some(behind) = after.strip_prefix('$') {
            filled.push('$');
            rest = behind;
        } else if is_name(name) {
            filled += &find(name);
            rest = behind;
        } else {
            filled.push('$');
            rest = after;
        }
    }
    Some(filled + rest)
}

/// The variable that names the folder of what is kept for later runs.
pub const CACHE_VARIABLE: &str = "GEMMA_TUNE_CACHE";

/// The folder of what is kept for later runs: `GEMMA_TUNE_CACHE`, else `gemma-tune` among the user's caches. `None` where the
/// user has neither.
///
/// # Errors
/// A variable in the name that is not set.
pub fn cache() -> Result<Option<PathBuf>> {
    cache_with(&|name| std::env::var_os(name))
}

/// As [`cache`], in an environment that is a function.
///
/// # Errors
/// As [`cache`].
pub fn cache_with(lookup: &dyn Fn(&str) -> Option<OsString>) -> Result<Option<PathBuf>> {
    let text = |name: &str| lookup(name)?.into_string().ok();
    if let Some(named) = text(CACHE_VARIABLE).filter(|named| !named.is_empty()) {
        let folder = expand_with(&named, &text).map_err(|error| error.at(Place::Named(CACHE_VARIABLE.into())))?;
        return Ok(Some(folder.into()));
    }
    let path = |name: &str| lookup(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let caches = path("XDG_CACHE_HOME").or_else(|| Some(path("HOME")?.join(".cache"))).or_else(|| path("LOCALAPPDATA"));
    Ok(caches.map(|caches| caches.join("gemma-tune")))
}

/// A path as recipes and command lines write it, in which a `$` would be a variable.
pub fn named(path: &Path) -> String {
    written(&path.display().to_string())
}

/// What [`expand`] reads as `path`.
pub fn written(path: &str) -> String {
    path.replace('$', "$$")
}

/// What is there beside the first missing part of `path`, has much the same name and `fits`; with the rest of `path` behind
/// it, where that is there too.
pub fn near(path: &Path, fits: &dyn Fn(&Path) -> bool) -> Option<PathBuf> {
    let missing = missing_from(path)?;
    let parent = missing.parent().filter(|parent| !parent.as_os_str().is_empty());
    let at = |name: &str| parent.map_or_else(|| PathBuf::from(name), |parent| parent.join(name));
    let typed = missing.file_name()?.to_str()?;
    let stem = |name: &str| name.split('.').next().unwrap_or_default().to_lowercase();
    let is_alike = |name: &str| strsim::normalized_damerau_levenshtein(&stem(name), &stem(typed)) >= LEAST_ALIKE;
    let mut names = entries(parent.unwrap_or(Path::new(".")));
    names.retain(|name| is_alike(name) && fits(&at(name)));
    let found = at(did_you_mean(typed, names.iter().map(String::as_str))?);
    // The suggestion may still lack its last parts; the nearest path that is there is help enough.
    let rest = path.strip_prefix(&missing).ok()?;
    let whole = found.join(rest);
    Some(if !rest.as_os_str().is_empty() && whole.exists() { whole } else { found })
}

/// The shortest leading part of `path` that is not there.
pub fn missing_from(path: &Path) -> Option<PathBuf> {
    let mut parts: Vec<&Path> = path.ancestors().filter(|part| !part.as_os_str().is_empty()).collect();
    parts.reverse();
    parts.into_iter().find(|part| !part.exists()).map(Path::to_path_buf)
}

/// The names in a folder, sorted, hidden ones left out; none where it cannot be read.
pub fn entries(folder: &Path) -> Vec<String> {
    let Ok(read) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut names: Vec<String> = read
        .take(MOST_ENTRIES)
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| !name.starts_with('.'))
        .collect();
    names.sort();
    names
}

/// Whether a system put a file or folder of this name there by itself, so that nothing is known of whose the folder around it is.
pub fn is_of_the_system(name: &OsStr) -> bool {
    let Some(name) = name.to_str() else { return false };
    OF_THE_SYSTEM.contains(&name) || OF_THE_SYSTEM_BEGIN.iter().any(|start| name.starts_with(start))
}

/// Whether nobody put anything into a folder: it is empty, but for what a system puts there by itself, such as the `lost+found`
/// of a new volume.
///
/// # Errors
/// When it is none, or cannot be listed.
pub fn is_vacant(folder: &Path) -> std::io::Result<bool> {
    for entry in std::fs::read_dir(folder)? {
        if !is_of_the_system(&entry?.file_name()) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// What a relative path means: where it was looked for. `None` for one that is absolute, which says so itself.
pub fn taken_as(path: &Path) -> Option<PathBuf> {
    if path.is_absolute() { None } else { std::env::current_dir().ok().map(|here| here.join(path)) }
}

/// What to do where nothing is at `path`: what was meant, or where a relative path begins.
pub fn absent(path: &Path, fits: &dyn Fn(&Path) -> bool) -> Option<String> {
    match near(path, fits) {
        Some(near) => Some(format!("did you mean `{}`?", near.display())),
        None => taken_as(path).map(|taken| {
            format!("relative paths start at the folder in which the program runs: it would be `{}`", taken.display())
        }),
    }
}

fn is_letter(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'_'
}

fn is_name(name: &str) -> bool {
    name.bytes().next().is_some_and(is_letter) && name.bytes().all(|b| is_letter(b) || b.is_ascii_digit())
}

/// The start of a path, for a message.
fn brief(path: &str) -> String {
    path.chars().take(80).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn lookup(name: &str) -> Option<String> {
        let pairs = [("HOME", "/home/me"), ("DATA", "/data"), ("T", "~/tilde"), ("EMPTY", "")];
        pairs.iter().find(|(n, _)| *n == name).map(|(_, value)| value.to_string())
    }

    #[test]
    fn what_is_kept_is_where_the_user_says_or_among_the_caches() {
        let of = |variables: &[(&str, &str)]| {
            let find = |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into());
            cache_with(&find).map(|folder| folder.map(|folder| folder.display().to_string()))
        };
        let (home, caches) = (("HOME", "/h"), ("XDG_CACHE_HOME", "/x"));
        let folder = |variables: &[(&str, &str)]| of(variables).unwrap().unwrap_or_default();
        assert_eq!(folder(&[home, caches, (CACHE_VARIABLE, "~/kept")]), "/h/kept");
        assert_eq!(folder(&[home, caches, (CACHE_VARIABLE, "")]), "/x/gemma-tune");
        assert_eq!(folder(&[home, ("XDG_CACHE_HOME", "")]), "/h/.cache/gemma-tune");
        assert_eq!(folder(&[]), "");
        let unknown = of(&[home, (CACHE_VARIABLE, "$SCRATCH/kept")]).unwrap_err();
        assert_eq!(unknown.place(), Some(&Place::Named(CACHE_VARIABLE.into())), "{unknown}");
    }

    #[test]
    fn homes_and_variables_are_expanded() {
        for (text, expected) in [
            ("~", "/home/me"),
            ("~/a", "/home/me/a"),
            ("$DATA/rows.jsonl", "/data/rows.jsonl"),
            ("${DATA}x/$DATA", "/datax//data"),
            ("$T/x", "/home/me/tilde/x"),
            ("a/~/b", "a/~/b"),
            ("./~/b", "./~/b"),
            ("~notes.jsonl", "~notes.jsonl"),
            ("cost$5.csv", "cost$5.csv"),
            ("a$", "a$"),
            ("a$$DATA", "a$DATA"),
            ("", ""),
        ] {
            assert_eq!(expand_with(text, &lookup).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn what_cannot_be_expanded_is_named() {
        for (text, expected) in [
            ("$NOWHERE/a", "the variable `NOWHERE` of the path `$NOWHERE/a` is not set"),
            ("${EMPTY}/a", "the variable `EMPTY` of the path `${EMPTY}/a` is not set"),
            ("${DATA/a", "`${` in the path `${DATA/a` is not followed by a variable's name and `}`"),
            ("a/${", "`${` in the path `a/${` is not followed by a variable's name and `}`"),
            ("${}", "`${` in the path `${}` is not followed by a variable's name and `}`"),
            ("${DATA:-x}/a", "`${` in the path `${DATA:-x}/a` is not followed by a variable's name and `}`"),
            ("~eve/a", "`~eve`, the home of another user, is not expanded"),
        ] {
            let error = expand_with(text, &lookup).unwrap_err();
            assert_eq!((error.what(), error.exit_code()), (expected, 2));
        }
        let error = expand_with("~/a", &|_| None).unwrap_err();
        assert_eq!(error.what(), "`~` in the path `~/a` means a home folder, and `HOME` is not set");
    }

    #[test]
    fn what_a_system_leaves_makes_no_folder_somebodys() {
        let dir = tempfile::tempdir().unwrap();
        assert!(is_vacant(dir.path()).unwrap());
        std::fs::create_dir(dir.path().join("lost+found")).unwrap();
        std::fs::create_dir(dir.path().join(".Trash-1000")).unwrap();
        for name in [".DS_Store", ".nfs000000000abc", "._faq.csv", "Thumbs.db"] {
            std::fs::write(dir.path().join(name), "").unwrap();
        }
        assert!(is_vacant(dir.path()).unwrap());
        for name in [".lock", "notes.txt", "lost", ".nf"] {
            std::fs::write(dir.path().join(name), "").unwrap();
            assert!(!is_vacant(dir.path()).unwrap(), "{name}");
            std::fs::remove_file(dir.path().join(name)).unwrap();
        }
        assert!(is_vacant(&dir.path().join("nowhere")).is_err());
    }

    #[test]
    fn a_slip_of_the_pen_finds_what_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::create_dir_all(at("data/old")).unwrap();
        for name in ["data/faq.csv", "data/old/rows.jsonl", "qa.yaml", "b.csv", ".hidden.csv"] {
            std::fs::write(at(name), "").unwrap();
        }
        let find = |name: &str| near(&at(name), &|_| true);
        for (typed, meant) in [
            ("data/fag.csv", "data/faq.csv"),
            ("dta/faq.csv", "data/faq.csv"),
            ("data/olld/rows.jsonl", "data/old/rows.jsonl"),
            ("qa.yml", "qa.yaml"),
            ("QA.yaml", "qa.yaml"),
        ] {
            assert_eq!(find(typed), Some(at(meant)), "{typed}");
        }
        for typed in ["a.csv", "hidden.csv", "data/questions.csv", "data/faq.csv"] {
            assert_eq!(find(typed), None, "{typed}");
        }
        assert_eq!(near(&at("data/fag.csv"), &|path| path.is_dir()), None);
        assert_eq!(absent(&at("a.csv"), &|_| true), None, "an absolute path says where it is");
        let said = absent(Path::new("nowhere/a.csv"), &|_| true).unwrap();
        assert!(
            said.ends_with(&format!(
                "it would be `{}`",
                std::env::current_dir().unwrap().join("nowhere/a.csv").display()
            ))
        );
    }

    proptest! {
        #[test]
        fn what_was_expanded_is_written_so_that_it_means_the_same(text in "[a-c$~{}/_5]{0,12}") {
            if let Ok(path) = expand_with(&text, &lookup) {
                prop_assert_eq!(expand_with(&written(&path), &lookup).ok(), Some(path));
            }
        }
    }
}
