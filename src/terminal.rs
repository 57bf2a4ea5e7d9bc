//! What comes from files, without power over the terminal it is shown on.

use crate::progress::count;
use regex::Regex;
use std::borrow::Cow;
use std::fmt::Write;
use std::sync::LazyLock;

/// `text` without the power to control a terminal: control characters other than newline and tab become visible, and so
/// do the characters that make a text read in another order than it is written.
///
/// Files come from anywhere; an escape sequence in the name of a tensor, a message of a chat template or a row of data may
/// not recolour, rename or clear the user's terminal, nor hide what the line says.
pub fn printable(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_commanding) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            c if !is_commanding(c) => shown.push(c),
            '\0'..'\x20' => shown.push(char::from_u32(0x2400 + c as u32).unwrap_or('\u{FFFD}')), // their Unicode pictures
            '\x7f' => shown.push('\u{2421}'),
            c if c.is_control() => shown.push('\u{FFFD}'),
            c => drop(write!(shown, "<U+{:04X}>", c as u32)),
        }
    }
    Cow::Owned(shown)
}

/// `text` without what nobody who reads a log may know: the logins of addresses, and values of keys that are called as secrets are. They
/// are written into the wrong place by mistake, and what is said of that mistake is kept for long.
pub fn discreet(text: &str) -> Cow<'_, str> {
    static LOGIN: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r#"://[^\s/"'`<>]+@"#).ok());
    static VALUE: LazyLock<Option<Regex>> = LazyLock::new(|| {
        let keys = "api[_-]?key|password|secret|access_token|hf_token";
        Regex::new(&format!(r#"(?i)((?:{keys})["']*\s*[:=])\s*[^\s,}}&][^,}}&\n]+"#)).ok()
    });
    let (Some(login), Some(value)) = (&*LOGIN, &*VALUE) else { return Cow::Borrowed(text) };
    let text = login.replace_all(text, "://…@");
    let shown = value.replace_all(&text, "$1 …").into_owned();
    if *text == shown { text } else { Cow::Owned(shown) }
}

/// `text` as one word of a shell's command line.
pub fn shell_word(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-@:+".contains(c);
    if !text.is_empty() && text.chars().all(plain) { text.into() } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

/// The first `most` characters of `text`, with what is left out counted.
pub fn excerpt(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}… ({} characters more)", &text[..end], count(text[end..].chars().count() as u64)),
    }
}

/// Whether a terminal would obey `c` instead of showing it.
fn is_commanding(c: char) -> bool {
    let reorders = matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let breaks = matches!(c, '\u{2028}' | '\u{2029}');
    (c.is_control() && c != '\n' && c != '\t') || reorders || breaks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_excerpt_counts_what_it_leaves_out() {
        assert_eq!(excerpt("añb", 3), "añb");
        assert_eq!(excerpt("añbcd", 2), "añ… (3 characters more)");
    }

    #[test]
    fn what_is_secret_is_not_shown() {
        for (text, shown) in [
            ("found the text `http://me:pw@a.example/v1`", "found the text `http://…@a.example/v1`"),
            ("postgres://u:s3@cret@host/db and ftp://b", "postgres://…@host/db and ftp://b"),
            ("https://a.example/@me", "https://a.example/@me"),
            ("  4 |   api_key: sk-123", "  4 |   api_key: …"),
            ("upstream: {url: x, password: 'two words', model: l}", "upstream: {url: x, password: …, model: l}"),
            ("`http://a/v1?api_key=sk-123&b=1`", "`http://a/v1?api_key= …&b=1`"),
            ("api_key_env: NAME", "api_key_env: NAME"),
            ("unknown key `api_key`", "unknown key `api_key`"),
            ("api_key:", "api_key:"),
            (
                "password=ab&password=cd, https://a:b@c and https://d:e@f",
                "password= …&password= …, https://…@c and https://…@f",
            ),
        ] {
            assert_eq!(discreet(text), shown);
        }
    }

    #[test]
    fn a_text_cannot_control_the_terminal() {
        assert_eq!(printable("a\x1b]0;title\x07\tb\r\n\u{9b}31m\x7f"), "a␛]0;title␇\tb␍\n\u{FFFD}31m␡");
        assert_eq!(printable("\u{202e}gpj.exe\u{2066}\u{2069}\u{2028}"), "<U+202E>gpj.exe<U+2066><U+2069><U+2028>");
        let harmless = "Grüße 👋🏽 עברית\u{200f} \u{200d}\n\t";
        assert!(matches!(printable(harmless), Cow::Borrowed(text) if text == harmless));
    }
}
