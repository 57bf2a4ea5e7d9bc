//! YAML text to nodes, within limits, and values back to YAML text.
//!
//! A recipe needs little of YAML: mappings, lists and scalars. Anchors, tags and further documents are refused, so that
//! what a line says never depends on a line elsewhere, and no small file can stand for a huge one.

mod slips;

use super::diagnose::Diagnosis;
use super::raw::{Entry, Mark, Node, Plain, Shape, brief, plain};
use super::remarks::Remarks;
use saphyr_parser::{Event, Parser, ScalarStyle, Span};
use serde_json::Value;
use std::collections::HashMap;
use std::fmt::Write;

/// Mappings and lists within each other; a recipe needs five.
const MAX_DEPTH: usize = 32;
/// Values, lists and mappings in all; a recipe with a long list of files has hundreds.
const MAX_EVENTS: usize = 50_000;

/// Reads one document. Problems go to `diagnosis`; `None` when nothing can be made of the text, or it holds nothing.
pub(super) fn parse(text: &str, origin: usize, diagnosis: &mut Diagnosis) -> Option<Node> {
    // The parser takes NUL for the end of the text, so the rest would silently not count.
    if let Some(mark) = control_character(text, origin) {
        diagnosis.report(&mark, "the file contains a control character, so it is not YAML", None);
        return None;
    }
    let end = (text.lines().count().max(1), text.lines().last().map_or(0, |line| line.chars().count()) + 1);
    let mut builder = Builder { origin, end, open: Vec::new(), root: None };
    let mut documents = 0;
    for (number, event) in Parser::new_from_str(text).enumerate() {
        let (event, span) = match event {
            Ok(event) => event,
            Err(error) => {
                let mark = slips::faulty(text, builder.at(Span::empty(*error.marker())), error.info());
                let hint = slips::hint(text, &mark, error.info());
                diagnosis.report(&mark, format!("this is not valid YAML: {}", error.info()), hint);
                return None;
            }
        };
        let mark = builder.at(span);
        if let Event::DocumentStart(_) = event {
            documents += 1;
        }
        let refused = match &event {
            Event::DocumentStart(_) if documents > 1 => {
                Some(("a recipe is one YAML document, and a second one starts here", "remove the `---` line"))
            }
            Event::Alias(_) => Some(NO_ANCHORS),
            Event::Scalar(_, _, anchor, _) | Event::SequenceStart(anchor, _) | Event::MappingStart(anchor, _)
                if *anchor != 0 =>
            {
                Some(NO_ANCHORS)
            }
            Event::Scalar(.., Some(_)) | Event::SequenceStart(_, Some(_)) | Event::MappingStart(_, Some(_)) => Some((
                "YAML tags (`!`) are not part of recipes",
                "remove the tag, or put quotes around a text with `!`",
            )),
            Event::SequenceStart(..) | Event::MappingStart(..) if builder.open.len() >= MAX_DEPTH => {
                Some(("lists and mappings are nested too deeply", "a recipe is sections with keys and values"))
            }
            _ if number >= MAX_EVENTS => {
                Some(("the file holds too much for a recipe", "data goes into files of its own"))
            }
            _ => None,
        };
        if let Some((what, hint)) = refused {
            diagnosis.report(&mark, what, Some(hint.into()));
            return None;
        }
        builder.take(event, mark, diagnosis)?;
    }
    builder.root
}

/// What to say about `&name` and `*name`.
const NO_ANCHORS: (&str, &str) = (
    "YAML anchors and aliases (`&`, `*`) are not part of recipes",
    "share keys through `extends: file.yaml`, or put quotes around a text that starts with `&` or `*`",
);

/// Builds the tree from the parser's events, without recursion.
struct Builder {
    origin: usize,
    /// Line and column just after the text.
    end: (usize, usize),
    open: Vec<Open>,
    root: Option<Node>,
}

/// A list or mapping whose end has not been seen.
enum Open {
    List { items: Vec<Node>, mark: Mark },
    Map { entries: Vec<Entry>, seen: HashMap<String, usize>, key: Option<(String, Mark)>, mark: Mark },
}

impl Builder {
    /// The mark of a span: its first line only.
    fn at(&self, Span { start, end }: Span) -> Mark {
        let origin = self.origin;
        if start.line() > self.end.0 {
            // At the very end of a text the parser stands on a line that does not exist.
            return Mark { origin, line: self.end.0, column: self.end.1, width: 1 };
        }
        let several_lines = end.line() != start.line();
        let width = if several_lines { usize::MAX } else { end.index().saturating_sub(start.index()).max(1) };
        Mark { origin, line: start.line().max(1), column: start.col() + 1, width }
    }

    /// Takes one event; `None` when the rest of the text cannot be understood.
    fn take(&mut self, event: Event<'_>, mark: Mark, diagnosis: &mut Diagnosis) -> Option<()> {
        match event {
            Event::Scalar(text, style, ..) => {
                let plain = style == ScalarStyle::Plain;
                self.add(Node { mark, shape: Shape::Scalar { text: text.into_owned(), plain } }, diagnosis)
            }
            Event::SequenceStart(..) => {
                self.open.push(Open::List { items: Vec::new(), mark });
                Some(())
            }
            Event::MappingStart(..) => {
                self.open.push(Open::Map { entries: Vec::new(), seen: HashMap::new(), key: None, mark });
                Some(())
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let node = match self.open.pop()? {
                    Open::List { items, mark } => Node { mark, shape: Shape::List(items) },
                    Open::Map { entries, mark, .. } => Node { mark, shape: Shape::Map(entries) },
                };
                self.add(node, diagnosis)
            }
            _ => Some(()),
        }
    }

    /// Puts a finished node where it belongs: into the list or mapping that is open, or at the root.
    fn add(&mut self, mut node: Node, diagnosis: &mut Diagnosis) -> Option<()> {
        match self.open.last_mut() {
            None => self.root = Some(node),
            Some(Open::List { items, .. }) => items.push(node),
            Some(Open::Map { entries, seen, key, .. }) => match (key.take(), node.shape) {
                (None, Shape::Scalar { text, .. }) => *key = Some((text, node.mark)),
                (None, _) => {
                    diagnosis.report(&node.mark, "a key must be a word, not a list or a mapping", None);
                    return None;
                }
                (Some((name, mark)), shape) => {
                    if let Some(first) = seen.get(&name) {
                        let what = format!("the key `{}` is given twice", brief(&name));
                        diagnosis.report(&mark, what, Some(format!("it is first given in line {first}; keep one")));
                        return Some(());
                    }
                    if matches!(&shape, Shape::Scalar { text, plain: true } if text.is_empty()) {
                        // Nothing is written, so the key is the place to show.
                        node.mark = mark;
                    }
                    seen.insert(name.clone(), mark.line);
                    entries.push(Entry { key: name, mark, value: Node { mark: node.mark, shape } });
                }
            },
        }
        Some(())
    }
}

/// The first character that YAML does not allow in a text.
fn control_character(text: &str, origin: usize) -> Option<Mark> {
    text.lines().enumerate().find_map(|(number, line)| {
        let bad = |c: char| c.is_control() && !matches!(c, '\t' | '\u{85}');
        let column = line.chars().position(bad)? + 1;
        Some(Mark { origin, line: number + 1, column, width: 1 })
    })
}

/// The column of remarks, where a line leaves room for that.
const REMARKS_AT: usize = 35;

/// Writes `value` as a YAML document that [`parse`] reads back as the same values, with `remarks` on its keys and
/// the entries of its lists.
pub(super) fn write(value: &Value, remarks: &Remarks) -> String {
    let mut text = String::new();
    block(value, "", remarks, &mut text);
    text
}

/// Writes `value` on one line.
pub(super) fn inline(value: &Value) -> String {
    let mut text = String::new();
    flow(value, &mut text);
    text
}

/// Writes the mapping at `path` one key per line; what is not a mapping fits on its line.
fn block(value: &Value, path: &str, remarks: &Remarks, text: &mut String) {
    let Value::Object(entries) = value else { return flow(value, text) };
    let indent = if path.is_empty() { 0 } else { 2 + 2 * path.matches('.').count() };
    for (key, value) in entries {
        let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        let start = text.len();
        let _ = write!(text, "{:indent$}{key}:", "");
        match value {
            Value::Object(inner) if !inner.is_empty() => {
                end_line(start, remarks.get(&path), text);
                block(value, &path, remarks, text);
            }
            Value::Array(items) if items.iter().any(Value::is_object) => {
                end_line(start, remarks.get(&path), text);
                for (i, item) in items.iter().enumerate() {
                    let start = text.len();
                    let _ = write!(text, "{:indent$}  - ", "");
                    flow(item, text);
                    end_line(start, remarks.get(&format!("{path}[{i}]")), text);
                }
            }
            _ => {
                text.push(' ');
                flow(value, text);
                end_line(start, remarks.get(&path), text);
            }
        }
    }
}

/// Ends the line that begins at `start`, with the remark on what it says.
fn end_line(start: usize, remark: Option<&str>, text: &mut String) {
    if let Some(remark) = remark {
        let pad = REMARKS_AT.saturating_sub(text[start..].chars().count());
        let _ = write!(text, "{:pad$} # {}", "", remark.replace('\n', " "));
    }
    text.push('\n');
}

/// Writes a value on one line.
fn flow(value: &Value, text: &mut String) {
    let list =
        |open: char, close: char, text: &mut String, items: &mut dyn Iterator<Item = (Option<&String>, &Value)>| {
            text.push(open);
            for (i, (key, item)) in items.enumerate() {
                text.push_str(if i > 0 { ", " } else { "" });
                if let Some(key) = key {
                    scalar(key, text);
                    text.push_str(": ");
                }
                flow(item, text);
            }
            text.push(close);
        };
    match value {
        Value::Null => text.push_str("null"),
        Value::Bool(flag) => text.push_str(if *flag { "true" } else { "false" }),
        Value::Number(number) => text.push_str(&number_of_every_yaml(&number.to_string())),
        Value::String(string) => scalar(string, text),
        Value::Array(items) => list('[', ']', text, &mut items.iter().map(|item| (None, item))),
        Value::Object(entries) => list('{', '}', text, &mut entries.iter().map(|(key, item)| (Some(key), item))),
    }
}

/// A number as YAML 1.1 reads it too: an exponent needs a point before and a sign after (`1.0e-8`).
fn number_of_every_yaml(number: &str) -> String {
    let Some((mantissa, exponent)) = number.split_once('e') else { return number.to_owned() };
    let point = if mantissa.contains('.') { "" } else { ".0" };
    let sign = if exponent.starts_with(['-', '+']) { "" } else { "+" };
    format!("{mantissa}{point}e{sign}{exponent}")
}

/// Writes a string: bare where no reader could take it for anything else, otherwise in double quotes.
fn scalar(string: &str, text: &mut String) {
    let bare = string.starts_with(|c: char| c.is_ascii_alphabetic() || matches!(c, '_' | '/' | '.'))
        && string.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '/' | '.' | '-' | '@' | '+'))
        && plain(string) == Plain::Text
        // Booleans to readers of YAML 1.1.
        && !matches!(string.to_ascii_lowercase().as_str(), "yes" | "no" | "on" | "off" | "y" | "n");
    if bare {
        return text.push_str(string);
    }
    text.push('"');
    for c in string.chars() {
        match c {
            '"' | '\\' => text.extend(['\\', c]),
            '\n' => text.push_str("\\n"),
            '\t' => text.push_str("\\t"),
            '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}' => {
                let _ = write!(text, "\\u{:04x}", c as u32);
            }
            c if c.is_control() => {
                let _ = write!(text, "\\u{:04x}", c as u32);
            }
            c => text.push(c),
        }
    }
    text.push('"');
}
