//! Rows that an adapter was trained on: what is measured of them says how well they are known.

use crate::data::Dataset;
use crate::error::Result;
use crate::input;
use crate::jobs::base::{Base, adapter_folder};
use crate::jobs::run::data::Data;
use crate::jobs::run::folder;
use crate::progress::{Progress, counted};
use crate::recipe;
use crate::report::{ProgressBar, Summary};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The rows of a run.
struct Trained {
    rows: Dataset,
    /// Whether they are those that it saw: its files may have changed since.
    is_the_same: bool,
    /// The adapter that it went on with.
    before: Option<PathBuf>,
}

/// What to say of those `asked` that the run of the adapter in `folder` was trained on, or the runs that it went on with. Nothing
/// is known of adapters that lie in no run's folder.
pub(super) fn warning(folder: &Path, asked: &Dataset, base: &Base, progress: &dyn Progress) -> Option<String> {
    let mut known = vec![false; asked.len()];
    let mut is_certain = true;
    let mut runs = Vec::new();
    let mut next = Some(folder.to_path_buf());
    while let Some(recipe) = next.take().and_then(|folder| folder::recipe_beside(&folder)) {
        if runs.contains(&recipe) {
            break;
        }
        match trained(&recipe, base) {
            Ok(trained) => {
                let shared = asked.shared_with(&trained.rows);
                is_certain &= trained.is_the_same || !shared.contains(&true);
                known.iter_mut().zip(shared).for_each(|(known, shared)| *known |= shared);
                next = trained.before;
            }
            Err(error) => progress.note(&format!(
                "Whether rows were trained on is not known: those of the run in `{}` cannot be read ({}).",
                recipe.parent().unwrap_or(&recipe).display(),
                error.what()
            )),
        }
        runs.push(recipe);
    }
    let count = known.iter().filter(|known| **known).count();
    (count > 0).then(|| words(count, asked.len(), &folder.display().to_string(), is_certain))
}

fn words(count: usize, all: usize, adapter: &str, is_certain: bool) -> String {
    let verb = |count| if count == 1 { "is" } else { "are" };
    let share = if count == all && all > 1 { "all".to_owned() } else { count.to_string() };
    let (rows, measured, are) = (counted(all, "row"), verb(all), verb(count));
    let of_run = match is_certain {
        true => format!("`{adapter}` was trained on"),
        false => format!("the recipe of `{adapter}` trains on, whose files have changed since"),
    };
    let what = format!("of {rows} that {measured} measured, {share} {are} among those that {of_run}");
    format!("{what}: numbers of them say how well they are known, not how well others are answered")
}

/// The rows that the run of a recipe trained on.
fn trained(path: &Path, base: &Base) -> Result<Trained> {
    let recipe = recipe::load(path, &[])?;
    // What is to be said of its rows was said when it ran.
    let nobody = ProgressBar::lines(std::io::sink(), Duration::MAX);
    let rows = Data::prepare(&recipe, base, &nobody)?.train;
    let before = recipe.adapter.init_from.as_deref().and_then(|folder| adapter_folder::locate(folder).ok());
    let summary = input::read(&path.with_file_name("summary.json")).ok();
    let summary: Option<Summary> = summary.and_then(|bytes| serde_json::from_slice(&bytes).ok());
    let hash = rows.content_hash();
    let is_the_same = summary.is_some_and(|summary| summary.data_hashes.get("train") == Some(&hash));
    Ok(Trained { rows, is_the_same, before })
}

#[cfg(test)]
mod tests {
    use super::words;

    #[test]
    fn so_many_rows_of_so_many_are_said() {
        let said = |count, all, is_certain| words(count, all, "out/adapter", is_certain);
        assert!(said(3, 9, true).starts_with(
            "of 9 rows that are measured, 3 are among those that `out/adapter` was trained on: numbers of them say"
        ));
        assert!(said(9, 9, true).starts_with("of 9 rows that are measured, all are among"));
        assert!(said(1, 1, false).starts_with(
            "of 1 row that is measured, 1 is among those that the recipe of `out/adapter` trains on, whose files have changed since: "
        ));
    }
}
