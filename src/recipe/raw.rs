//! What the user typed: a tree of nodes that know where they were written.

use crate::error::Place;
use std::path::PathBuf;

/// The longest piece of the user's text that a message quotes, in characters.
const QUOTED_CHARS: usize = 60;
/// The longest source line that an excerpt shows, in characters.
const EXCERPT_CHARS: usize = 110;

/// A text that nodes come from.
#[derive(Debug, Clone)]
pub(super) enum Origin {
    /// A recipe file or one that it extends.
    File {
        /// The file as the user named it.
        path: PathBuf,
        /// Its whole text.
        text: String,
    },
    /// One `--set` option, without the `--set`.
    Set(String),
    /// Another option, with its name.
    Option(String),
}

/// Where something was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Mark {
    /// Which of the origins, by number.
    pub origin: usize,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// Length in characters, at least 1.
    pub width: usize,
}

/// A value with its place.
#[derive(Debug, Clone)]
pub(super) struct Node {
    /// Where it was written.
    pub mark: Mark,
    /// What it is.
    pub shape: Shape,
}

/// What a node is. Scalars stay text until someone asks for a type.
#[derive(Debug, Clone)]
pub(super) enum Shape {
    /// One value; `plain` means without quotes, so that it may be a number, a boolean or null.
    Scalar { text: String, plain: bool },
    /// `[a, b]`.
    List(Vec<Node>),
    /// `{key: value}`, in the order written, each key once.
    Map(Vec<Entry>),
}

/// A key and its value.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    /// The key's text.
    pub key: String,
    /// Where the key was written.
    pub mark: Mark,
    /// Its value.
    pub value: Node,
}

/// How YAML 1.2 reads a scalar without quotes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Plain {
    /// Nothing, `~` or `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A whole number; `None` when no `i128` can hold it.
    Integer(Option<i128>),
    /// A number with a point or an exponent, or `.inf`, `.nan`.
    Float(f64),
    /// Anything else.
    Text,
}

impl Origin {
    /// How errors name a position in it.
    pub fn place(&self, mark: &Mark) -> Place {
        match self {
            Origin::File { path, .. } => Place::Text { path: path.clone(), line: mark.line, column: mark.column },
            Origin::Option(text) => Place::Named(text.replace(char::is_control, " ")),
            Origin::Set(text) => Place::Named(format!("--set {}", text.replace(char::is_control, " "))),
        }
    }

    /// The place after the name of `path`, whose value is at `mark`: on the same line, or on a line above where the value has
    /// lines of its own, as lists have, and texts in which a `#` begins no comment. An entry of a list is at its own mark.
    pub fn beside(&self, path: &str, mark: &Mark) -> Option<Mark> {
        let Origin::File { text, .. } = self else { return None };
        let lines: Vec<&str> = text.lines().take(mark.line).collect();
        let (line, above) = lines.split_last()?;
        let start = line.char_indices().nth(mark.column.checked_sub(1)?).map_or(line.len(), |(start, _)| start);
        let (before, value) = (line[..start].trim(), &line[start..]);
        if path.ends_with(']') {
            let is_entry = before.ends_with(['-', '[', ',']) || value.starts_with('{');
            return is_entry.then_some(*mark);
        }
        let key = path.rsplit('.').next()?;
        let names = |text: &str| text.trim_end().trim_end_matches(['"', '\'']).ends_with(key);
        // What has no value is where its key is.
        let is_key = value.split_once(':').is_some_and(|(name, _)| name.trim().trim_matches(['"', '\'']) == key);
        if is_key || before.strip_suffix(':').is_some_and(names) {
            return Some(*mark);
        }
        let is_said = |line: &str| !line.trim().is_empty() && !line.trim_start().starts_with('#');
        let (number, line) = above.iter().enumerate().rfind(|(_, line)| is_said(line)).filter(|_| before.is_empty())?;
        let (name, _) = line.split_once(':').filter(|(name, _)| names(name))?;
        Some(Mark { line: number + 1, column: name.chars().count() + 2, ..*mark })
    }

    /// The comment at the end of the line at `mark`, which is [`beside`](Self::beside) a name.
    pub fn comment(&self, mark: &Mark) -> Option<String> {
        let Origin::File { text, .. } = self else { return None };
        let line: Vec<char> = text.lines().nth(mark.line.checked_sub(1)?)?.chars().collect();
        let (mut quote, mut before) = (None, ' ');
        for (at, &c) in line.iter().enumerate().skip(mark.column.saturating_sub(1)) {
            match quote {
                Some('"') if before == '\\' => {}
                Some(open) if c == open => quote = None,
                Some(_) => {}
                None if c == '#' && before.is_whitespace() => {
                    let comment: String = line[at + 1..].iter().filter(|c| !c.is_control()).collect();
                    return Some(comment.trim().to_owned()).filter(|comment| !comment.is_empty());
                }
                None if matches!(c, '"' | '\'') && !before.is_alphanumeric() => quote = Some(c),
                None => {}
            }
            before = c;
        }
        None
    }

    /// The line at `mark` with carets below; `None` where the place itself already shows the text.
    pub fn excerpt(&self, mark: &Mark) -> Option<String> {
        let Origin::File { text, .. } = self else { return None };
        let line: Vec<char> = text.lines().nth(mark.line - 1)?.chars().collect();
        let start = (mark.column - 1).min(line.len());
        let first = start.saturating_sub(EXCERPT_CHARS / 2);
        let last = line.len().min(first + EXCERPT_CHARS);
        // What a terminal would act upon is not for showing.
        let shown: String =
            line[first..last].iter().map(|&c| if c.is_control() && c != '\t' { '\u{fffd}' } else { c }).collect();
        let number = mark.line.to_string();
        let margin = " ".repeat(number.len());
        // A tab in the pad keeps the carets aligned however wide the terminal draws it.
        let pad: String = line[first..start].iter().map(|&c| if c == '\t' { '\t' } else { ' ' }).collect();
        let carets = "^".repeat(mark.width.clamp(1, last.saturating_sub(start).max(1)));
        Some(format!("{number} | {}\n{margin} | {pad}{carets}", shown.trim_end()))
    }
}

impl Node {
    /// Whether it is null: nothing after the colon, `~` or `null`.
    pub fn is_null(&self) -> bool {
        matches!(&self.shape, Shape::Scalar { text, plain: true } if plain(text) == Plain::Null)
    }

    /// What it is, in words: ``the number `5` ``, `a list`.
    pub fn describe(&self) -> String {
        match &self.shape {
            Shape::List(items) if items.is_empty() => "an empty list".into(),
            Shape::List(_) => "a list".into(),
            Shape::Map(_) => "keys and values".into(),
            Shape::Scalar { text, plain: false } if text.trim().is_empty() => "an empty text".into(),
            Shape::Scalar { text, plain: false } => format!("the text `{}`", brief(text)),
            Shape::Scalar { text, plain: true } => match plain(text) {
                Plain::Null => "nothing".into(),
                Plain::Bool(_) | Plain::Text => format!("`{}`", brief(text)),
                Plain::Integer(_) | Plain::Float(_) => format!("the number `{}`", brief(text)),
            },
        }
    }
}

/// The beginning of `text`, on one line, short enough for a message.
pub(super) fn brief(text: &str) -> String {
    let mut chars = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    let mut short: String = chars.by_ref().take(QUOTED_CHARS).collect();
    if chars.next().is_some() {
        short.push_str("...");
    }
    short
}

/// Reads a scalar without quotes by YAML 1.2's core schema; `_` may group digits (`1_000`).
pub(super) fn plain(text: &str) -> Plain {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Plain::Null,
        "true" | "True" | "TRUE" => return Plain::Bool(true),
        "false" | "False" | "FALSE" => return Plain::Bool(false),
        ".nan" | ".NaN" | ".NAN" => return Plain::Float(f64::NAN),
        _ => {}
    }
    let (negative, digits) = match text.as_bytes()[0] {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let sign = if negative { -1 } else { 1 };
    if matches!(digits, ".inf" | ".Inf" | ".INF") {
        return Plain::Float(f64::INFINITY * f64::from(sign));
    }
    for (prefix, radix) in [("0x", 16), ("0o", 8)] {
        if let Some(rest) = digits.strip_prefix(prefix)
            && !rest.is_empty()
            && rest.chars().all(|c| c.is_digit(radix))
        {
            return Plain::Integer(i128::from_str_radix(rest, radix).ok().map(|n| n * i128::from(sign)));
        }
    }
    let Some(digits) = without_grouping(digits) else { return Plain::Text };
    if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) {
        return Plain::Integer(digits.parse::<i128>().ok().map(|n| n * i128::from(sign)));
    }
    // Rust's float syntax is YAML's, but for the words (`inf`, `nan`), which the first character rules out.
    let numeric = digits.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'E' | b'-' | b'+'))
        && digits.starts_with(|c: char| c.is_ascii_digit() || c == '.');
    match digits.parse::<f64>() {
        Ok(number) if numeric => Plain::Float(number * f64::from(sign)),
        _ => Plain::Text,
    }
}

/// `text` without the `_` between digits; `None` when a `_` stands anywhere else.
fn without_grouping(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    let digit = |i: Option<usize>| i.and_then(|i| bytes.get(i)).is_some_and(u8::is_ascii_digit);
    let grouped = (0..bytes.len()).all(|i| bytes[i] != b'_' || (digit(i.checked_sub(1)) && digit(i.checked_add(1))));
    grouped.then(|| text.replace('_', ""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_scalars_are_read_as_yaml_1_2_does() {
        for (text, expected) in [
            ("", Plain::Null),
            ("~", Plain::Null),
            ("True", Plain::Bool(true)),
            ("yes", Plain::Text),
            ("16", Plain::Integer(Some(16))),
            ("-3", Plain::Integer(Some(-3))),
            ("1_000", Plain::Integer(Some(1000))),
            ("0x2A", Plain::Integer(Some(42))),
            ("0o17", Plain::Integer(Some(15))),
            ("9999999999999999999999999999999999999999", Plain::Integer(None)),
            ("2e-4", Plain::Float(2e-4)),
            ("2.0e-4", Plain::Float(2e-4)),
            ("-.5", Plain::Float(-0.5)),
            ("1.", Plain::Float(1.0)),
            ("1e999", Plain::Float(f64::INFINITY)),
            ("-.inf", Plain::Float(f64::NEG_INFINITY)),
            ("inf", Plain::Text),
            ("nan", Plain::Text),
            ("_1", Plain::Text),
            ("1__0", Plain::Text),
            ("1e", Plain::Text),
            ("-", Plain::Text),
            ("--1", Plain::Text),
            (".", Plain::Text),
            ("1.2.3", Plain::Text),
            ("é", Plain::Text),
        ] {
            assert_eq!(plain(text), expected, "{text:?}");
        }
    }

    #[test]
    fn an_excerpt_shows_a_window_of_a_long_line() {
        let origin = Origin::File { path: "a".into(), text: format!("{}KEY{}", "x".repeat(500), "y".repeat(500)) };
        let excerpt = origin.excerpt(&Mark { origin: 0, line: 1, column: 501, width: 3 }).unwrap();
        let lines: Vec<&str> = excerpt.lines().collect();
        assert_eq!(lines[0].find("KEY"), lines[1].find("^^^"));
        assert!(lines[0].len() < 130, "{excerpt}");
    }
}
