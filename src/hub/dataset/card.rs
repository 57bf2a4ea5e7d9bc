//! The `configs` of a data set's card: the YAML between `---` lines at the start of its README.

use saphyr_parser::{Event, Parser, ScalarStyle};
use serde_json::{Map, Value};

/// A card with more than this is no card.
const MAX_EVENTS: usize = 200_000;

/// The `configs` of a card, null where it has none; `None` when its YAML cannot be understood.
pub(super) fn configs(readme: &str) -> Option<Value> {
    let readme = readme.trim_start_matches('\u{feff}');
    let Some(rest) = readme.strip_prefix("---").filter(|rest| rest.starts_with(['\n', '\r'])) else {
        return Some(Value::Null);
    };
    let end = rest.match_indices("\n---").map(|(at, _)| at).find(|&at| {
        let after = rest[at + 4..].lines().next().unwrap_or_default();
        after.trim().is_empty()
    })?;
    match read(&rest[..end])? {
        Value::Object(mut keys) => Some(keys.remove("configs").unwrap_or(Value::Null)),
        Value::Null => Some(Value::Null),
        _ => None,
    }
}

/// A list or mapping whose end has not been seen.
enum Open {
    List(Vec<Value>),
    Map(Map<String, Value>, Option<String>),
}

/// Reads YAML without anchors.
fn read(yaml: &str) -> Option<Value> {
    let (mut open, mut root) = (Vec::<Open>::new(), Value::Null);
    for (number, event) in Parser::new_from_str(yaml).enumerate() {
        let value = match event.ok()?.0 {
            Event::Alias(_) => return None,
            Event::Scalar(text, style, ..) => match (style, &*text) {
                (ScalarStyle::Plain, "true" | "True" | "TRUE") => Value::Bool(true),
                (ScalarStyle::Plain, "false" | "False" | "FALSE") => Value::Bool(false),
                (ScalarStyle::Plain, "" | "~" | "null") => Value::Null,
                (_, text) => Value::from(text),
            },
            Event::SequenceStart(..) => {
                open.push(Open::List(Vec::new()));
                continue;
            }
            Event::MappingStart(..) => {
                open.push(Open::Map(Map::new(), None));
                continue;
            }
            Event::SequenceEnd | Event::MappingEnd => match open.pop()? {
                Open::List(items) => Value::Array(items),
                Open::Map(entries, _) => Value::Object(entries),
            },
            _ => continue,
        };
        if number > MAX_EVENTS || open.len() > 64 {
            return None;
        }
        match open.last_mut() {
            None => root = value,
            Some(Open::List(items)) => items.push(value),
            Some(Open::Map(entries, key)) => match key.take() {
                None => *key = Some(value.as_str().map_or_else(|| value.to_string(), Into::into)),
                Some(key) => drop(entries.insert(key, value)),
            },
        }
    }
    Some(root)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_configs_of_a_card_are_found() {
        let card = "---\nlicense: mit\nconfigs:\n- config_name: default\n  default: true\n  data_files:\n  - split: train\n    path: \"a/*\"\n---\n# Title\n---\n";
        let expected = json!([{"config_name": "default", "default": true,
            "data_files": [{"split": "train", "path": "a/*"}]}]);
        assert_eq!(configs(card), Some(expected));
        assert_eq!(configs("# no front matter"), Some(Value::Null));
        assert_eq!(configs("---\nlicense: mit\n---\n"), Some(Value::Null));
        assert_eq!(configs("---\nlicense: [\n---\n"), None);
        assert_eq!(configs("---\na: &x 1\nconfigs: *x\n---\n"), None);
        assert_eq!(configs("---\nlicense: mit\n"), None, "it is not closed");
    }
}
