//! What a recipe's text says, before anything that it names is opened.

use super::diagnose::Diagnosis;
use super::raw::{Node, Origin, Shape};
use super::yaml;
use std::path::Path;

/// Every value of a recipe's text, by the path of its key without positions: `data.train.path`. Of a text that cannot be
/// read there is none: nothing that it names would be opened.
pub fn texts(text: &str) -> Vec<(String, String)> {
    let mut diagnosis = Diagnosis::default();
    let origin = diagnosis.add_origin(Origin::File { path: Path::new("recipe").into(), text: text.into() });
    let mut found = Vec::new();
    if let Some(root) = yaml::parse(text, origin, &mut diagnosis) {
        collect(&root, "", &mut found);
    }
    found
}

/// Trees are no deeper than the parser lets them be.
fn collect(node: &Node, path: &str, found: &mut Vec<(String, String)>) {
    match &node.shape {
        Shape::Scalar { text, .. } if node.is_null() || text.is_empty() => {}
        Shape::Scalar { text, .. } => found.push((path.to_owned(), text.clone())),
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
}
