//! Values of a Modelfile, written so that Ollama reads back what was meant.
//!
//! # Source
//! Ollama's `parser/parser.go`: a value goes on to the end of a line, or of the first line at whose end its quotes are
//! closed; characters that Go's `strconv.IsPrint` does not print are left out. There is no way to escape anything.

use crate::error::{Error, Kind, Place, Result};
use regex::Regex;
use std::sync::LazyLock;

/// What text of several lines stands between.
const QUOTES: &str = "\"\"\"";

/// `text` between quotes; it is what `option` gave.
///
/// # Errors
/// When Ollama would read something else.
pub(super) fn quoted(text: &str, option: &str) -> Result<String> {
    let written = format!("{QUOTES}{text}{QUOTES}");
    if as_read(&written).as_deref() == Some(text) { Ok(written) } else { Err(refused(text, option)) }
}

/// `text` as it is where Ollama reads that as it is, else between quotes.
///
/// # Errors
/// As [`quoted`].
pub(super) fn bare(text: &str, option: &str) -> Result<String> {
    if as_read(text).as_deref() == Some(text) { Ok(text.to_owned()) } else { quoted(text, option) }
}

/// What Ollama reads where a line goes on with `written`; `None` where it would not end there.
fn as_read(written: &str) -> Option<String> {
    let mut read = String::new();
    for character in written.chars() {
        // The first line at whose end nothing is open ends the value.
        if matches!(character, '\n' | '\r') && unquoted(read.trim()).is_some() {
            return None;
        }
        if !is_left_out(character) {
            read.push(character);
        }
    }
    unquoted(read.trim()).map(str::to_owned)
}

/// `text` without the quotes that it begins with; `None` where they are not closed.
fn unquoted(text: &str) -> Option<&str> {
    [QUOTES, "\""]
        .into_iter()
        .find_map(|quotes| Some((quotes, text.strip_prefix(quotes)?)))
        .map_or(Some(text), |(quotes, rest)| rest.strip_suffix(quotes))
}

/// Whether Ollama leaves a character out of values: letters, marks, numbers, punctuation and symbols stay, and of all white
/// space that of a keyboard.
fn is_left_out(character: char) -> bool {
    static KEPT: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"[\p{L}\p{M}\p{N}\p{P}\p{S} \t\r\n]").ok());
    let is_kept = |kept: &Regex| kept.is_match(character.encode_utf8(&mut [0; 4]));
    !character.is_ascii_graphic() && !KEPT.as_ref().is_some_and(is_kept)
}

/// Why Ollama would not read `text` as it is.
fn refused(text: &str, option: &str) -> Error {
    let error = match text.chars().find(|character| is_left_out(*character)) {
        Some(lost) => {
            let what =
                format!("the text holds the character U+{:04X}, which Ollama leaves out of a Modelfile", lost as u32);
            Error::new(Kind::Recipe, what).hint("write it without that character")
        }
        None => {
            let line = text.lines().position(|line| line.trim_end().ends_with(QUOTES)).unwrap_or_default() + 1;
            let what = format!(
                "line {line} of the text ends with `{QUOTES}`, where Ollama would take a Modelfile's text to end"
            );
            Error::new(Kind::Recipe, what).hint("put something behind those quotes, or the text into one line")
        }
    };
    error.at(Place::Named(option.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is wrong with a text, where something is.
    fn problem(text: &str) -> Option<String> {
        quoted(text, "--system").err().map(|error| error.what().to_owned())
    }

    #[test]
    fn what_ollama_reads_is_what_was_meant() {
        for text in [
            "",
            "Be brief.",
            " spaces \t",
            "\none\n\ntwo\r\n",
            "\"",
            "\"\"",
            "Say \"\"\" often.",
            "\"\"\"all of it\"\"\"",
            "it ends with \"\"\"",
            "\"\n\"\"\nstill",
            "Ünïcödé 世界 नमस्ते 🚀 e\u{301}",
            "# no comment\nFROM nothing\nPARAMETER x 1",
        ] {
            assert_eq!(as_read(&quoted(text, "--system").unwrap()).as_deref(), Some(text), "{text:?}");
        }
        assert_eq!(bare("/a b/c.gguf", "--model").unwrap(), "/a b/c.gguf");
        assert_eq!(bare("/a/c.gguf ", "--model").unwrap(), "\"\"\"/a/c.gguf \"\"\"");
        assert_eq!(bare("\"a", "--model").unwrap(), "\"\"\"\"a\"\"\"");
        assert_eq!(bare("a\nb", "--model").unwrap(), "\"\"\"a\nb\"\"\"");
    }

    #[test]
    fn what_a_modelfile_cannot_hold_is_refused() {
        let ends = "line 2 of the text ends with `\"\"\"`, where Ollama would take a Modelfile's text to end";
        assert_eq!(problem("a\nsay \"\"\" \nb").as_deref(), Some(ends));
        assert!(problem("\"\"\"\nb").unwrap().starts_with("line 1 "));
        for (text, lost) in
            [("a\u{a0}b", "U+00A0"), ("👩\u{200d}👧", "U+200D"), ("\u{7}", "U+0007"), ("\u{e000}", "U+E000")]
        {
            let what = format!("the text holds the character {lost}, which Ollama leaves out of a Modelfile");
            assert_eq!(problem(text), Some(what), "{text:?}");
        }
    }
}
