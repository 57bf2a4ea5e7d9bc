//! Where things are that recipes and command lines name: what was written when the studio's folder had another place, or was seen from
//! another one, means what is in the folder now. A copy thus touches nothing of the folder that it is a copy of.

use super::folder::Folder;
use crate::paths::named;
use crate::queue::{is_one, moved};
use crate::recipe;
use std::path::{Component, Path, PathBuf};

/// The studio's folder in which something stands two levels down, as its path was written: `runs/NAME`, `ship/NAME`.
pub fn root(path: &str) -> Option<&Path> {
    let inner = Path::new(path).parent()?;
    ["runs", "ship"].iter().any(|name| inner.ends_with(name)).then(|| inner.parent())?
}

/// Whether a path that was written as that of a studio's folder leads to this one.
pub fn is_here(from: &Path, folder: &Folder) -> bool {
    let from = if from.as_os_str().is_empty() { Path::new(".") } else { from };
    is_one(from, folder.dir())
}

/// The name of a base from everywhere, where it is a file or folder named from the working directory; `None` of all others. Where the
/// studio's folder was written as `from` then, that tells which directory that was.
pub fn base(name: &str, from: Option<&Path>, folder: &Folder) -> Option<String> {
    let path = Path::new(name);
    if name.is_empty() || path.is_absolute() {
        return None;
    }
    let there = from.and_then(|from| before(from, folder.dir()));
    let there = there.or_else(|| std::env::current_dir().ok())?;
    let plain = path.components().filter(|part| *part != Component::CurDir);
    let found: PathBuf = there.components().chain(plain).collect();
    (found.exists() && found.to_str().is_some()).then(|| named(&found))
}

/// The directory from which `dir` was seen as `from`.
fn before(from: &Path, dir: &Path) -> Option<PathBuf> {
    let parts: Vec<Component<'_>> = from.components().filter(|part| *part != Component::CurDir).collect();
    let is_below = parts.iter().all(|part| matches!(part, Component::Normal(_)));
    let seen: PathBuf = parts.iter().collect();
    let is_seen_so = is_below && dir.ends_with(&seen);
    dir.ancestors().nth(parts.len()).filter(|_| is_seen_so).map(Path::to_owned)
}

/// The recipe of a run with everything where it is now. `None` of one that does not say where its run is, or not so that it can be put in
/// another way.
pub fn text(text: &str, run: &str, folder: &Folder) -> Option<String> {
    let dir = recipe::value_of(text, "output.dir")?;
    let (from, own) = (root(&dir), named(&folder.run(run)));
    recipe::with_values(text, &|key, value| {
        let there = match key {
            "output.dir" => Some(own.clone()),
            "model.base" => base(value, from, folder),
            "data.train" | "data.train.path" | "data.eval" | "data.eval.path" | "adapter.init_from"
            | "rewards.adapter" => moved(value, from?, folder.dir()),
            _ => None,
        };
        there.filter(|there| there != value)
    })
}

/// A recipe whose base is named from everywhere.
pub fn with_base(text: &str, folder: &Folder) -> Option<String> {
    recipe::with_values(text, &|key, value| if key == "model.base" { base(value, None, folder) } else { None })
}

/// A word of a command line, as [`text()`] has the values of keys.
pub fn word(word: &str, from: &Path, folder: &Folder) -> String {
    let (option, value) = match word.split_once('=') {
        Some((option, value)) if option.starts_with("--") => (Some(option), value),
        _ => (None, word),
    };
    let as_written = PathBuf::from(named(from));
    let there = match option {
        Some("--model") => base(value, Some(from), folder),
        _ => moved(value, from, folder.dir()).or_else(|| moved(value, &as_written, folder.dir())),
    };
    match (option, there) {
        (_, None) => word.to_owned(),
        (Some(option), Some(there)) => format!("{option}={there}"),
        (None, Some(there)) => there,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn what_was_written_elsewhere_means_what_is_here() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::open(&dir.path().join("work/s")).unwrap();
        let work = folder.dir().parent().unwrap();
        fs::create_dir_all(work.join("models/t")).unwrap();
        let written = |root: &str, base: &str| {
            format!(
                "model: {{base: {base}}} # the base\ndata:\n  train: [{root}/data/1-a.csv, 'hf://datasets/a/b']\n  \
                 eval: [{{path: {root}/data/2-b.csv}}]\nadapter: {{init_from: {root}/runs/old}}\noutput: {{dir: {root}/runs/faq}}\n"
            )
        };
        let own = folder.dir().to_str().unwrap();
        let placed = |root: &str, base: &str| text(&written(root, base), "faq", &folder).unwrap().replace('"', "");
        let expected = |base: &str| written(own, base).replace('\'', "");
        let plain = |text: String| text.replace('\'', "");
        let model = work.join("models/t").display().to_string();
        // Seen from where it lies, that place is known.
        assert_eq!(plain(placed("s", "models/t")), expected(&model));
        assert_eq!(plain(placed("./s", "./models/t")), expected(&model));
        assert_eq!(plain(placed("/elsewhere/s", "google/gemma-3-1b-it")), expected("google/gemma-3-1b-it"));
        assert_eq!(plain(placed("/elsewhere/s", "models/t")), expected("models/t"), "nobody knows from where");
        assert_eq!(plain(placed(own, "m")), expected("m"));
        // The run itself has another name.
        let renamed = text(&written("s", "m"), "faq-2", &folder).unwrap();
        assert!(renamed.contains(&format!("{own}/runs/faq-2")) && renamed.contains(&format!("{own}/runs/old")));
        assert_eq!(text("model: {base: m}", "faq", &folder), None, "it says nothing of its place");
        let outside = text("output: {dir: /x/y}\ndata: {train: /x/data/a}", "faq", &folder).unwrap();
        assert!(outside.contains(&format!("{own}/runs/faq")) && outside.contains("train: /x/data/a"), "{outside}");

        for (written, expected) in [
            ("--output=s/ship/faq.gguf", format!("--output={own}/ship/faq.gguf")),
            ("--model=models/t", format!("--model={model}")),
            ("--model=google/x", "--model=google/x".into()),
            ("s/runs/faq", format!("{own}/runs/faq")),
            ("--quant=Q8_0", "--quant=Q8_0".into()),
            ("export", "export".into()),
        ] {
            assert_eq!(word(written, Path::new("s"), &folder), expected);
        }
        assert!(is_here(folder.dir(), &folder) && !is_here(work, &folder) && !is_here(Path::new("/none"), &folder));
        assert_eq!((root("s/runs/faq"), root("s/x/faq"), root("faq")), (Some(Path::new("s")), None, None));
    }
}
