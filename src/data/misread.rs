//! Files whose rows are not where a reader looks for them: tables without a header, columns in the place of rows.

use super::formats::may_mean;
use super::object::Object;
use crate::error::{Error, Kind};
use serde_json::Value;

/// Names of columns are shorter than this, in words.
const NAME_WORDS: usize = 5;
/// And than this, in characters.
const NAME_CHARS: usize = 50;
/// How much of a cell a message shows, in characters.
const SHOWN_CHARS: usize = 40;
/// Cells that a message shows.
const SHOWN_CELLS: usize = 3;

/// What is wrong with a table, if its first row is no header: no name in it means anything, and one is no name.
pub(super) fn headless(names: &[String], delimiter: u8) -> Option<Error> {
    if names.iter().any(|name| may_mean(name)) || !names.iter().any(|name| is_value(name)) {
        return None;
    }
    let short = |name: &String| match name.char_indices().nth(SHOWN_CHARS) {
        Some((end, _)) => format!("`{}..`", &name[..end]),
        None => format!("`{name}`"),
    };
    let shown: Vec<String> = names.iter().take(SHOWN_CELLS).map(short).collect();
    let more = if names.len() > SHOWN_CELLS { ", .." } else { "" };
    let what = format!("the table seems to have no header: its first row is {}{more}", shown.join(", "));
    let delimiter = char::from(delimiter);
    let header = match names.len() {
        1 => "`text`".to_owned(),
        2 => format!("`prompt{delimiter}completion`").replace('\t', "<tab>"),
        many => {
            format!("`prompt{delimiter}completion`, with a name for each of its {many} columns").replace('\t', "<tab>")
        }
    };
    let named = "if these are names, say what they hold with `data.columns: {prompt: .., completion: ..}`";
    Some(Error::new(Kind::Data, what).hint(format!("put a line of names at its top: {header}; {named}")))
}

/// Whether a cell is what somebody says rather than what a column is called.
fn is_value(cell: &str) -> bool {
    let cell = cell.trim();
    cell.ends_with(['.', '?', '!', '。', '？', '！'])
        || cell.split_whitespace().count() >= NAME_WORDS
        || cell.chars().count() > NAME_CHARS
        || cell.parse::<f64>().is_ok()
}

/// What is wrong with a document that is a single object, if that holds columns and not a row.
pub(super) fn columns_for_rows(object: &Object) -> Option<Error> {
    let what = if is_lists(object) {
        "the file holds columns, each a list of its values, and not rows"
    } else if is_numbered(object.values()) {
        "the file holds columns, each with its values by number, and not rows"
    } else if object.keys().all(|key| is_number(key)) && is_alike(object) {
        "the file holds an object with its rows by number, and not a list of them"
    } else {
        return None;
    };
    let pandas = "in pandas `df.to_json(\"rows.jsonl\", orient=\"records\", lines=True)`";
    Some(Error::new(Kind::Data, what).hint(format!("write a line of JSON for each row: {pandas}")))
}

/// `{"question": ["a", "b"], "answer": ["c", "d"]}`: as long as each other, and at least one of texts or of lists. A row
/// of tokens has lists of numbers, one of messages lists of objects.
fn is_lists(object: &Object) -> bool {
    let mut length = None;
    let mut shows = false;
    for value in object.values() {
        let Value::Array(items) = value else { return false };
        if items.is_empty() || *length.get_or_insert(items.len()) != items.len() {
            return false;
        }
        if items.iter().any(Value::is_object) {
            return false;
        }
        shows |= items.iter().all(Value::is_string) || items.iter().all(Value::is_array);
    }
    shows
}

/// `{"question": {"0": "a", "1": "b"}, ..}`, as pandas writes by default.
fn is_numbered<'a>(mut columns: impl Iterator<Item = &'a Value>) -> bool {
    let Some(first) = columns.next().and_then(Value::as_object) else { return false };
    let same = |column: &Value| column.as_object().is_some_and(|column| column.keys().eq(first.keys()));
    !first.is_empty() && first.keys().all(|key| is_number(key)) && columns.all(same)
}

/// Whether all values are objects with the keys of the first.
fn is_alike(object: &Object) -> bool {
    let mut rows = object.values().map(Value::as_object);
    let Some(Some(first)) = rows.next() else { return false };
    rows.all(|row| row.is_some_and(|row| row.keys().eq(first.keys())))
}

fn is_number(key: &str) -> bool {
    !key.is_empty() && key.bytes().all(|b| b.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_first_row_that_is_no_header_is_known_by_what_it_says() {
        let of = |names: &[&str], delimiter| {
            let names: Vec<String> = names.iter().map(|name| name.to_string()).collect();
            headless(&names, delimiter)
                .map(|error| format!("{}; {}", error.what(), error.hint_text().unwrap_or_default()))
        };
        let two = of(&["Who are you?", "I am Marlow."], b';').unwrap();
        assert!(two.starts_with("the table seems to have no header: its first row is `Who are you?`, `I am Marlow.`"));
        assert!(two.contains("put a line of names at its top: `prompt;completion`; if these are names"), "{two}");
        assert!(
            of(&["Hi there", "17", "x", "y"], b'\t').unwrap().contains("`prompt<tab>completion`, with a name for each")
        );
        assert!(of(&["a long line of text"], b',').unwrap().contains("`text`"));
        for header in [&["question", "I am Marlow."][..], &["frage", "antwort"], &["Text of it", "id"], &["Unnamed: 0"]]
        {
            assert_eq!(of(header, b','), None, "{header:?}");
        }
    }

    #[test]
    fn columns_are_told_from_rows() {
        for (value, found) in [
            (json!({"question": ["a", "b"], "answer": ["c", "d"]}), true),
            (json!({"question": ["a", "b"], "id": [1, 2]}), true),
            (json!({"text": ["a"]}), true),
            (json!({"messages": [[{"role": "user"}]]}), true),
            (json!({"input_ids": [[1, 2], [3]], "labels": [[1, 2], [3]]}), true),
            (json!({"question": {"0": "a", "1": "b"}, "answer": {"0": "c", "1": "d"}}), true),
            (json!({"0": {"question": "a"}, "1": {"question": "b"}}), true),
            (json!({"input_ids": [1, 2], "labels": [1, 2]}), false),
            (json!({"messages": [{"role": "user", "content": "a"}]}), false),
            (json!({"messages": [{"role": "user"}], "tools": ["{}"]}), false),
            (json!({"prompt": "a", "completion": "b"}), false),
            (json!({"prompt": [{"role": "user"}], "completion": [{"role": "assistant"}]}), false),
            (json!({"question": ["a"], "answer": "b"}), false),
            (json!({}), false),
        ] {
            assert_eq!(columns_for_rows(value.as_object().unwrap()).is_some(), found, "{value}");
        }
    }
}
