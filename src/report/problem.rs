//! Problems in colour, where a terminal shows colours.

use super::style::{CONTEXT, HINT, PLACE, PROBLEM, WARNING};
use crate::error::Error;
use anstyle::Style;

/// A problem as it is written, its parts told apart by colour.
pub fn problem(error: &Error) -> String {
    let lines: Vec<String> = error.to_string().lines().map(line).collect();
    lines.join("\n")
}

/// What stands before each line of somebody else's words.
const QUOTED: &str = "  | ";

/// Words of somebody else, to be shown among the program's own.
pub fn quoted(words: &str) -> String {
    words.lines().map(|line| format!("{QUOTED}{line}")).collect::<Vec<_>>().join("\n")
}

/// A line of talk; a warning stands out, and somebody else's words stand back.
pub fn remark(text: &str) -> String {
    if text.starts_with(QUOTED) {
        return format!("{CONTEXT}{text}{CONTEXT:#}");
    }
    begun(text, "warning:", WARNING).or_else(|| begun(text, "Warning:", WARNING)).unwrap_or_else(|| text.to_owned())
}

fn line(text: &str) -> String {
    [("error:", PROBLEM), ("  -->", PLACE), ("  hint:", HINT)]
        .into_iter()
        .find_map(|(word, style)| begun(text, word, style))
        .unwrap_or_else(|| text.to_owned())
}

/// `text` with the word that it begins with in `style`.
fn begun(text: &str, word: &str, style: Style) -> Option<String> {
    text.strip_prefix(word).map(|rest| format!("{style}{word}{style:#}{rest}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    #[test]
    fn colours_add_nothing_and_lose_nothing() {
        let error = Error::new(Kind::Recipe, "wrong").at_path("a.yaml").excerpt("3 | r: x").hint("right\nerror: no");
        let shown = problem(&error);
        assert!(shown.starts_with("\u{1b}[1m\u{1b}[31merror:\u{1b}[0m wrong"), "{shown:?}");
        assert_eq!(anstream::adapter::strip_str(&shown).to_string(), error.to_string());
        assert_eq!(anstream::adapter::strip_str(&remark("warning: x")).to_string(), "warning: x");
        assert_eq!(remark("a warning: x"), "a warning: x");
        let words = quoted("warning: a\nb");
        assert_eq!(words, "  | warning: a\n  | b");
        assert_eq!(remark(words.lines().next().unwrap()), "\u{1b}[2m  | warning: a\u{1b}[0m");
    }
}
