//! Where runs lie. A folder that was moved, copied or put back elsewhere has recipes that name what was in it where it was then, and
//! processes of whoever used it there. Opened here, its recipes name what is in this folder, and those processes are somebody else's: a
//! copy trains into nothing of the folder that it is a copy of, and ends nothing there.

use super::{Queue, RUN, Run};
use crate::error::{Error, Kind, Result};
use crate::terminal::printable;
use crate::{atomic, input, paths, recipe};
use std::fs;
use std::path::{Component, Path, PathBuf};

/// The recipe of a run, in its folder and in its `output.dir`.
const RECIPE: &str = "recipe.yaml";

/// Something below `from`, as recipes have both written, as they name what is in the same place below `to`; `None` of all else.
pub fn moved(path: &str, from: &Path, to: &Path) -> Option<String> {
    let rest = Path::new(path).strip_prefix(from).ok().filter(|_| !from.as_os_str().is_empty())?;
    let is_below = rest.components().all(|part| matches!(part, Component::Normal(_)));
    let to = PathBuf::from(paths::named(to));
    is_below.then(|| to.join(rest).display().to_string())
}

/// Whether two names lead to one folder.
pub fn is_one(one: &Path, other: &Path) -> bool {
    one == other || fs::canonicalize(one).is_ok_and(|one| fs::canonicalize(other).is_ok_and(|other| one == other))
}

/// The folder of a queue in which a run has this `output.dir`; `None` where that is elsewhere.
fn root<'a>(output: &'a str, run: &str) -> Option<&'a Path> {
    let (output, own) = (Path::new(output), Path::new("runs").join(run).join(RUN));
    output.ends_with(own).then(|| output.ancestors().nth(3)).flatten().filter(|root| !root.as_os_str().is_empty())
}

impl Queue {
    /// Sees to it that all runs which lie in their folders here name what is in this one, and have no process of another; says where
    /// they were, where that was not here. What has an `output.dir` of its own is for its keeper to [place](Queue::place).
    pub(super) fn settle(&self) -> Result<Option<String>> {
        let mut left = None;
        for run in self.of_everybody("output IS NULL AND is_dropped = 0")? {
            let output = self.written_output(&run);
            let Some(from) = output.as_deref().and_then(|output| root(output, &run.id)) else { continue };
            let written = from.display().to_string();
            let before = PathBuf::from(paths::expand(&written).unwrap_or(written));
            if is_one(&before, &self.dir) {
                continue;
            }
            // One that trains there is somebody else's; one that trains here is found by its lock. Before the recipe says nothing of
            // that place any more.
            if run.process.is_some() {
                self.change(&Run { process: None, ..run.clone() })?;
            }
            let placed = |text: &str| recipe::with_values(text, &|_, value| moved(value, from, &self.dir));
            if self.place(&run, &self.output(&run), !run.status.is_over(), &placed)? {
                left = left.or(Some(before));
            }
        }
        Ok(left.map(|left| {
            let (left, dir) = (left.display(), self.dir.display());
            let said = format!(
                "These runs were in `{left}`: their recipes name what is in `{dir}` from now on, and what is trained there is left alone"
            );
            printable(&said).into_owned()
        }))
    }

    /// The `output.dir` that the recipe of a run names. What cannot be read, the run itself says.
    fn written_output(&self, run: &Run) -> Option<String> {
        let path = self.folder(&run.id).join(RECIPE);
        let text = path.is_file().then(|| input::read_to_string(&path).ok()).flatten()?;
        recipe::value_of(&text, "output.dir")
    }

    /// Has both recipes of a run say what `placed` makes of them: that which it is trained by, and that which it has left in `output`.
    /// Says whether anything is another now.
    ///
    /// # Errors
    /// A recipe of which `placed` makes nothing, where the run `is_needed`; and what cannot be read or written.
    pub fn place(
        &self,
        run: &Run,
        output: &Path,
        is_needed: bool,
        placed: &dyn Fn(&str) -> Option<String>,
    ) -> Result<bool> {
        let (own, left) = (self.folder(&run.id).join(RECIPE), output.join(RECIPE));
        let mut of_own = None;
        if own.is_file() {
            let text = input::read_to_string(&own).map_err(|e| Error::io("reading", &own, e))?;
            let made = placed(&text);
            if made.is_none() && is_needed {
                let what = format!("where the run `{}` lies cannot be written into its recipe", run.model);
                let dir = paths::named(output);
                let hint = format!("write `output: {{dir: \"{dir}\"}}` into it, on a line of its own");
                return Err(Error::new(Kind::Recipe, what).at_path(own).hint(hint));
            }
            of_own = made.filter(|made| *made != text);
        }
        // Whoever measures the run later finds its rows by it; the run itself writes it anew.
        let text = left.is_file().then(|| input::read_to_string(&left).ok()).flatten();
        let of_left = text.and_then(|text| placed(&text).filter(|made| *made != text));
        let is_changed = of_own.is_some() || of_left.is_some();
        // The one that tells where the run lies is the last: what breaks off before it is done again.
        for (path, text) in [(left, of_left), (own, of_own)] {
            text.map_or(Ok(()), |text| atomic::write(&path, text.as_bytes()))?;
        }
        Ok(is_changed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_below_a_folder_is_named_where_that_is_now() {
        let place = |path: &str| moved(path, Path::new("/a/jobs$$"), Path::new("/b/j$"));
        assert_eq!(place("/a/jobs$$/runs/x/train.jsonl").as_deref(), Some("/b/j$$/runs/x/train.jsonl"));
        for outside in ["/a/jobs$$2/x", "/a/x", "jobs$$/x", "hf://a/jobs", "/a/jobs$$/../x", ""] {
            assert_eq!(place(outside), None, "{outside}");
        }
        assert_eq!(moved("x", Path::new(""), Path::new("/b")), None);
        assert_eq!(root("/a/jobs/runs/x/run", "x"), Some(Path::new("/a/jobs")));
        for (output, run) in [("/a/jobs/runs/x/run", "y"), ("/a/run", "x"), ("runs/x/run", "x"), ("", "x")] {
            assert_eq!(root(output, run), None, "{output}");
        }
    }
}
