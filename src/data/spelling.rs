//! Columns under the names that a format gives them, whatever their case: a spreadsheet has `Prompt`, `COMPLETION `, `Text`.

use super::formats::plain;
use super::layout::Layout;
use crate::error::{Error, Kind, Result};
use std::collections::BTreeMap;

/// `layout` with the columns that it reads as they are spelt among `names`, whoever said what the format is. Those that the user
/// named (`told`) are what the user says. Of two that differ by case or spaces only, the one that holds something is meant, and
/// where none does the one that is spelt as formats spell it.
///
/// # Errors
/// When two that differ so hold something both.
pub(super) fn spelt(
    mut layout: Layout,
    told: &BTreeMap<String, String>,
    names: &[&str],
    holds: &dyn Fn(&str) -> bool,
) -> Result<Layout> {
    for &own in layout.format.columns().iter().filter(|own| !told.contains_key(**own)) {
        let called = plain(layout.column(own));
        let is_same = |name: &&&str| plain(name) == called && !told.values().any(|other| other == **name);
        let same: Vec<&str> = names.iter().filter(is_same).copied().collect();
        let holding: Vec<&str> = same.iter().copied().filter(|name| holds(name)).collect();
        let found = match holding[..] {
            [one, other, ..] => return Err(twice(own, one, other)),
            [one] => Some(one),
            [] => same.iter().copied().find(|name| *name == called).or(same.first().copied()),
        };
        if let Some(found) = found.filter(|found| *found != layout.column(own)) {
            match found == own {
                true => drop(layout.columns.remove(own)),
                false => drop(layout.columns.insert(own.to_owned(), found.to_owned())),
            }
        }
    }
    Ok(layout)
}

fn twice(own: &str, one: &str, other: &str) -> Error {
    let what = format!("`{one}` and `{other}` are one name in two spellings, and both columns hold something");
    Error::new(Kind::Data, what).hint(format!("say which is meant, for example `data.columns: {{{own}: {one}}}`"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::options::RowFormat;

    fn columns(names: &[&str], told: &[(&str, &str)], empty: &[&str]) -> Result<Vec<(String, String)>, String> {
        let told: BTreeMap<String, String> =
            told.iter().map(|(own, column)| (own.to_string(), column.to_string())).collect();
        let layout = Layout { columns: told.clone(), ..Layout::new(RowFormat::PromptCompletion, true) };
        let found = spelt(layout, &told, names, &|name| !empty.contains(&name));
        found.map(|layout| layout.columns.into_iter().collect()).map_err(|error| error.what().to_owned())
    }

    fn named(pairs: &[(&str, &str)]) -> Result<Vec<(String, String)>, String> {
        Ok(pairs.iter().map(|(own, column)| (own.to_string(), column.to_string())).collect())
    }

    #[test]
    fn a_column_is_known_in_any_case() {
        assert_eq!(columns(&["prompt", "completion"], &[], &[]), named(&[]));
        assert_eq!(
            columns(&["Prompt", "COMPLETION ", "Id"], &[], &[]),
            named(&[("completion", "COMPLETION "), ("prompt", "Prompt")])
        );
        // What the user says is so.
        let told = [("prompt", "Frage")];
        assert_eq!(columns(&["Frage", "Prompt", "completion"], &told, &[]), named(&told));
        let told = [("completion", "Prompt")];
        assert_eq!(columns(&["Prompt"], &told, &[]), named(&told), "it is an answer, and no prompt");
    }

    #[test]
    fn of_two_spellings_the_one_that_holds_something_is_meant() {
        assert_eq!(columns(&["Prompt", "prompt"], &[], &["prompt"]), named(&[("prompt", "Prompt")]));
        assert_eq!(columns(&["Prompt", "prompt"], &[], &["Prompt"]), named(&[]));
        assert_eq!(columns(&["Prompt", "prompt"], &[], &["Prompt", "prompt"]), named(&[]));
        let both = "`Prompt` and `prompt` are one name in two spellings, and both columns hold something";
        assert_eq!(columns(&["Prompt", "prompt"], &[], &[]), Err(both.into()));
        assert_eq!(columns(&["Prompt", "prompt"], &[("prompt", "prompt")], &[]), named(&[("prompt", "prompt")]));
    }
}
