//! What a recipe's text says, before anything that it names is opened.

use super::diagnose::Diagnosis;
use super::raw::{Mark, Node, Origin, Shape};
use super::yaml;
use std::path::Path;

/// Every value of a recipe's text, by the path of its key without positions: `data.train.path`. Of a text that cannot be
/// read there is none: nothing that it names would be opened.
pub fn texts(text: &str) -> Vec<(String, String)> {
    found(text).unwrap_or_default().into_iter().map(|(path, value, _)| (path, value)).collect()
}

/// What a recipe's text says of a key that has one value.
pub fn value_of(text: &str, key: &str) -> Option<String> {
    texts(text).into_iter().find(|(path, _)| path == key).map(|(_, value)| value)
}

/// A recipe's text with other values in the place of those for which `other` has one, given the path of the key as [`texts`] has it and
/// the value; all else, comments among it, stays. `None` of a text that cannot be read or holds nothing, and of a value that is written over several
/// lines.
pub fn with_values(text: &str, other: &dyn Fn(&str, &str) -> Option<String>) -> Option<String> {
    let found = found(text)?;
    let others: Vec<Option<String>> = found.iter().map(|(path, value, _)| other(path, value)).collect();
    let mut changes: Vec<(&Mark, &String)> =
        found.iter().zip(&others).filter_map(|((.., mark), other)| Some((mark, other.as_ref()?))).collect();
    changes.sort();
    let mut lines: Vec<String> = text.split_inclusive('\n').map(str::to_owned).collect();
    // From the last one on, so that the columns of the others stay true.
    for (mark, value) in changes.into_iter().rev() {
        let line = lines.get_mut(mark.line.checked_sub(1)?)?;
        let (before, rest) = (mark.column.checked_sub(1)?, line.chars().skip(mark.column - 1));
        let written: String = rest.take(mark.width).collect();
        let start: usize = line.chars().take(before).map(char::len_utf8).sum();
        line.replace_range(start..start + written.trim_end().len(), &yaml::inline(&value.as_str().into()));
    }
    let made = lines.concat();
    let meant =
        found.iter().zip(others).map(|((path, value, _), other)| (path.clone(), other.unwrap_or(value.clone())));
    // However it was written: what is read now is what was meant, or nothing is said.
    texts(&made).into_iter().eq(meant).then_some(made)
}

/// The values with where they are written.
fn found(text: &str) -> Option<Vec<(String, String, Mark)>> {
    let mut diagnosis = Diagnosis::default();
    let origin = diagnosis.add_origin(Origin::File { path: Path::new("recipe").into(), text: text.into() });
    let root = yaml::parse(text, origin, &mut diagnosis)?;
    let mut found = Vec::new();
    collect(&root, "", &mut found);
    Some(found)
}

/// Trees are no deeper than the parser lets them be.
fn collect(node: &Node, path: &str, found: &mut Vec<(String, String, Mark)>) {
    match &node.shape {
        Shape::Scalar { text, .. } if node.is_null() || text.is_empty() => {}
        Shape::Scalar { text, .. } => found.push((path.to_owned(), text.clone(), node.mark)),
        Shape::List(items) => items.iter().for_each(|item| collect(item, path, found)),
        Shape::Map(entries) => entries.iter().for_each(|entry| {
            let path = if path.is_empty() { entry.key.clone() } else { format!("{path}.{}", entry.key) };
            collect(&entry.value, &path, found);
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_is_found_however_it_is_written() {
        let text = "\
\"\\x65xtends\": [a.yaml, 'b.yaml']
model: {base: m, dtype: ~}
data:
  train: [c.csv, {path: \"d.csv\", weight: 2}]
  eval: e.csv
";
        let found = texts(text);
        let found: Vec<(&str, &str)> = found.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
        assert_eq!(
            found,
            [
                ("extends", "a.yaml"),
                ("extends", "b.yaml"),
                ("model.base", "m"),
                ("data.train", "c.csv"),
                ("data.train.path", "d.csv"),
                ("data.train.weight", "2"),
                ("data.eval", "e.csv"),
            ]
        );
        assert_eq!(texts("model: {base: m}\ndata: [").len(), 0, "nothing is made of a text that is no YAML");
    }

    #[test]
    fn values_take_the_place_of_others_and_all_else_stays() {
        let moved =
            |text: &str| with_values(text, &|_, value| Some(format!("/new, place/{}", value.strip_prefix("old/")?)));
        let text = "\
# old/a
model: {base: \"old/m\", dtype: f32}   # old/b
data:
  train: [old/ä.csv, {path: 'old/b.csv', weight: 2}, hf://old/x]
  eval:
    - old/c d.csv \t # a remark
output: {dir: old/r}";
        let expected = "\
# old/a
model: {base: \"/new, place/m\", dtype: f32}   # old/b
data:
  train: [\"/new, place/ä.csv\", {path: \"/new, place/b.csv\", weight: 2}, hf://old/x]
  eval:
    - \"/new, place/c d.csv\" \t # a remark
output: {dir: \"/new, place/r\"}";
        assert_eq!(moved(text).as_deref(), Some(expected));
        assert_eq!(
            moved("task: sft\r\ndata: {train: old/a}\r\n").unwrap(),
            "task: sft\r\ndata: {train: \"/new, place/a\"}\r\n"
        );
        assert_eq!(moved("output:\n  dir: >-\n    old/r\n    s\n"), None, "several lines");
        assert_eq!(moved("model: {base: old/m}\ndata: [").as_deref(), None);
        assert_eq!(moved(""), None);
    }
}
