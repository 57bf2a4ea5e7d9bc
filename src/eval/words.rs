//! Texts cut into words as the reference programs of each metric cut them.

use regex::{Regex, Replacer};
use std::borrow::Cow;
use std::sync::LazyLock;

/// Whether Python's `str.split`, `str.strip` and `\s` take it for space: Unicode's, and the four separators of ASCII.
pub fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

/// The words between spaces, as Python's `str.split()`.
pub fn split(text: &str) -> impl Iterator<Item = &str> {
    text.split(is_space).filter(|word| !word.is_empty())
}

/// The words of a text as `mteval-v13a` cuts them, which BLEU is computed from.
///
/// # Source
/// sacrebleu 2.6, `tokenizers/tokenizer_13a.py`; `scripts/make_metric_goldens.py` checks it.
pub fn of_13a(text: &str) -> Vec<String> {
    // Punctuation apart; a period or comma apart unless between digits; a dash apart behind a digit.
    static RULES: LazyLock<Vec<(Regex, &str)>> = LazyLock::new(|| {
        [
            (r"([\x7b-\x7e\x5b-\x60\x20-\x26\x28-\x2b\x3a-\x40/])", " $1 "),
            (r"(?s)([^0-9])([.,])", "$1 $2 "),
            (r"(?s)([.,])([^0-9])", " $1 $2"),
            (r"([0-9])(-)", "$1 $2 "),
        ]
        .into_iter()
        .filter_map(|(rule, by)| Some((Regex::new(rule).ok()?, by)))
        .collect()
    });
    let text = text.trim_end_matches(is_space).replace("<skipped>", "").replace("-\n", "").replace('\n', " ");
    let text = match text.contains('&') {
        true => text.replace("&quot;", "\"").replace("&amp;", "&").replace("&lt;", "<").replace("&gt;", ">"),
        false => text,
    };
    let mut text = format!(" {text} ");
    for (rule, by) in RULES.iter() {
        text = replaced(rule, &text, *by).into_owned();
    }
    split(&text).map(str::to_owned).collect()
}

fn replaced<'t>(rule: &Regex, text: &'t str, by: impl Replacer) -> Cow<'t, str> {
    rule.replace_all(text, by)
}

/// Lower-case runs of ASCII letters and digits, which ROUGE is computed from.
///
/// # Source
/// rouge-score 0.1.2, `tokenize.py`, without stemming.
pub fn of_rouge(text: &str) -> Vec<String> {
    let lower = text.to_lowercase();
    let words = lower.split(|c: char| !c.is_ascii_lowercase() && !c.is_ascii_digit());
    words.filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

/// The words of a transcript: between spaces proper, of which several are one.
///
/// # Source
/// jiwer 4.0, `transformations.py`, `wer_default`.
pub fn of_transcript(text: &str) -> Vec<String> {
    let mut single = String::with_capacity(text.len());
    let mut spaces = String::new();
    for c in text.chars().chain(std::iter::once('\0')) {
        if is_space(c) {
            spaces.push(c);
            continue;
        }
        // Two or more of any kind are one space; a lone line break stays, and cuts no words.
        if spaces.chars().nth(1).is_some() {
            single.push(' ');
        } else {
            single.push_str(&spaces);
        }
        spaces.clear();
        single.push(c);
    }
    single.pop(); // the end's mark
    single.trim_matches(is_space).split(' ').filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

/// The characters of a transcript, without spaces around it.
///
/// # Source
/// jiwer 4.0, `transformations.py`, `cer_default`.
pub fn characters(text: &str) -> Vec<char> {
    text.trim_matches(is_space).chars().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_cut_as_each_program_cuts_them() {
        assert_eq!(
            of_13a("It's 3.5-4,000 km (or so), no? Yes.").join(" "),
            "It's 3.5 - 4,000 km ( or so ) , no ? Yes ."
        );
        assert_eq!(of_13a("a &quot;b&quot; &amp; c-\nd\ne ").join(" "), "a \" b \" & cd e");
        assert_eq!(of_rouge("It's Überall 3.5%"), ["it", "s", "berall", "3", "5"]);
        assert_eq!(of_transcript("  a  b\nc\t\td "), ["a", "b\nc", "d"]);
        assert_eq!(characters(" a b\u{1f}"), ['a', ' ', 'b']);
        assert_eq!(split("a\u{1c}b  c").collect::<Vec<_>>(), ["a", "b", "c"]);
    }
}
