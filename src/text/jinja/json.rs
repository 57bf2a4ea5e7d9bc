//! `tojson` as transformers has it: Python's `json.dumps(.., ensure_ascii=False)`, keys in the data's order.

use super::budget::refused;
use minijinja::value::ValueKind;
use minijinja::{Error, Value};

/// `value` as JSON: on one line with a space after each comma and colon, or with `indent` spaces a level.
pub(super) fn write(value: &Value, indent: Option<usize>) -> Result<String, Error> {
    let mut out = String::new();
    push(&mut out, value, indent, 0)?;
    Ok(out)
}

fn push(out: &mut String, value: &Value, indent: Option<usize>, depth: usize) -> Result<(), Error> {
    match value.kind() {
        ValueKind::None => out.push_str("null"),
        ValueKind::Bool => out.push_str(if value.is_true() { "true" } else { "false" }),
        ValueKind::Number => out.push_str(&value.to_string()),
        ValueKind::String => push_text(out, value.as_str().unwrap_or_default()),
        ValueKind::Seq | ValueKind::Iterable => {
            let items: Vec<Value> = value.try_iter()?.collect();
            list(out, '[', ']', items.len(), indent, depth, |out, i| push(out, &items[i], indent, depth + 1))?;
        }
        ValueKind::Map => {
            let keys: Vec<Value> = value.try_iter()?.collect();
            list(out, '{', '}', keys.len(), indent, depth, |out, i| {
                push_text(out, &keys[i].to_string());
                out.push_str(": ");
                push(out, &value.get_item(&keys[i])?, indent, depth + 1)
            })?;
        }
        other => return Err(refused(format!("{other} is no JSON"))),
    }
    Ok(())
}

/// The items of a list or object, between brackets.
fn list(
    out: &mut String,
    open: char,
    close: char,
    count: usize,
    indent: Option<usize>,
    depth: usize,
    mut item: impl FnMut(&mut String, usize) -> Result<(), Error>,
) -> Result<(), Error> {
    out.push(open);
    for i in 0..count {
        if i > 0 {
            out.push_str(if indent.is_some() { "," } else { ", " });
        }
        new_line(out, indent, depth + 1);
        item(out, i)?;
    }
    if count > 0 {
        new_line(out, indent, depth);
    }
    out.push(close);
    Ok(())
}

fn new_line(out: &mut String, indent: Option<usize>, depth: usize) {
    if let Some(indent) = indent {
        out.push('\n');
        out.extend(std::iter::repeat_n(' ', indent * depth));
    }
}

fn push_text(out: &mut String, text: &str) {
    out.push_str(&serde_json::Value::from(text).to_string());
}
