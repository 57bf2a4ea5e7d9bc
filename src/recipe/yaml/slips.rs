//! Slips of the pen in YAML: the line that is at fault, where the parser notices only in the next, and what causes it.

use super::super::raw::Mark;

/// Where a slip is that the parser noticed at `mark` with the words `info`.
pub(super) fn faulty(text: &str, mark: Mark, info: &str) -> Mark {
    let lines: Vec<&str> = text.lines().collect();
    let whole = |number: usize| {
        let line = lines[number - 1];
        let content = line.trim_start();
        let column = line.chars().count() - content.chars().count() + 1;
        Mark { line: number, column, width: content.trim_end().chars().count().max(1), ..mark }
    };
    let last = mark.line.min(lines.len());
    if info.contains("tab") {
        let with_tab = (last..=lines.len()).find(|&number| number > 0 && indent(lines[number - 1]).contains('\t'));
        return with_tab.filter(|number| *number != mark.line).map_or(mark, |number| Mark {
            column: 1,
            width: indent(lines[number - 1]).len(),
            ..whole(number)
        });
    }
    if let Some((line, column)) = open_bracket(&lines[..last], mark.column)
        && line < mark.line
    {
        return Mark { line, column, width: 1, ..mark };
    }
    if info.contains("simple key") || info.contains("mapping values") {
        let above = (1..last).rev().find(|&number| !is_empty(lines[number - 1]));
        if let Some(above) = above.filter(|&above| !has_key(lines[above - 1])) {
            return whole(above);
        }
    }
    mark
}

/// What usually causes the syntax error `info` in such a line.
pub(super) fn hint(text: &str, mark: &Mark, info: &str) -> Option<String> {
    let line = text.lines().nth(mark.line - 1)?;
    let at_bracket = line.chars().nth(mark.column - 1).is_some_and(|c| matches!(c, '[' | '{'));
    let hint = if indent(line).contains('\t') {
        "YAML is indented with spaces; this line has a tab"
    } else if at_bracket || info.contains("flow") {
        "a `[` or `{` is not closed, or a comma is missing"
    } else if line.matches(": ").count() > 1 {
        "put quotes around a text that contains `: `"
    } else if line.contains(": %") || line.contains(": @") || line.contains(": `") {
        "put quotes around a text that starts with a special character"
    } else if info.contains("trailing content") {
        "a quote stands inside of a text in such quotes: double it"
    } else if info.contains("quoted") {
        "a quote is not closed"
    } else if info.contains("block mapping") || info.contains("block collection") {
        "keys of one section start in the same column"
    } else if info.contains("simple key") || info.contains("mapping values") {
        match has_key(line) {
            true => "a line stands deeper than the one above only below a key without a value",
            false => "each key needs `:` and a space after it",
        }
    } else {
        return None;
    };
    Some(hint.into())
}

fn indent(line: &str) -> &str {
    &line[..line.len() - line.trim_start().len()]
}

/// Whether a line says nothing.
fn is_empty(line: &str) -> bool {
    let content = line.trim_start();
    content.is_empty() || content.starts_with('#')
}

fn has_key(line: &str) -> bool {
    let content = line.split(" #").next().unwrap_or_default().trim_end();
    content.ends_with(':') || content.contains(": ") || content.trim_start().starts_with("- ")
}

/// Line and column of the last bracket that is open at a column of the last of `lines`.
fn open_bracket(lines: &[&str], column: usize) -> Option<(usize, usize)> {
    let (mut open, mut quote) = (Vec::new(), None);
    for (number, line) in lines.iter().enumerate() {
        let is_last = number + 1 == lines.len();
        let mut before = ' ';
        for (at, c) in line.chars().enumerate().take_while(|(at, _)| !is_last || at + 1 < column) {
            match (quote, c) {
                (Some(open), c) if open == c => quote = None,
                (Some(_), _) => {}
                (None, '#') if before == ' ' => break,
                (None, '"' | '\'') if " [{,:".contains(before) => quote = Some(c),
                (None, '[' | '{') if " [{,:".contains(before) => open.push((number + 1, at + 1)),
                (None, ']' | '}') => drop(open.pop()),
                _ => {}
            }
            before = c;
        }
    }
    open.pop()
}
