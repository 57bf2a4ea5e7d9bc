//! Values as Python prints them: `[{'role': 'user', 'content': "It's late"}]`, which `str()` and pandas' `to_csv` put
//! into cells where JSON was meant.

use crate::data::object::{Object, not_a_number};
use serde_json::{Number, Value};

/// Lists and mappings within each other, as deep as JSON is read.
const MAX_DEPTH: usize = 100;

/// Reads a list, a mapping or a scalar of Python; says what cannot be read, and at which byte (from 1).
pub(super) fn parse(text: &str) -> Result<Value, String> {
    let mut reader = Reader { text, at: 0 };
    let value = reader.value(0).and_then(|value| {
        reader.skip_blank();
        if reader.at == text.len() { Ok(value) } else { Err("something follows its end".into()) }
    });
    value.map_err(|what| format!("{what} (byte {})", reader.at + 1))
}

/// Whether a text looks like Python's form rather than like JSON.
pub(super) fn is_likely(text: &str) -> bool {
    let inside = text.trim_start_matches(|c: char| "[{(".contains(c) || c.is_whitespace());
    inside.starts_with('\'')
        || text.contains(": '")
        || text.contains("None")
        || text.contains("True")
        || text.contains("False")
}

struct Reader<'t> {
    text: &'t str,
    at: usize,
}

impl Reader<'_> {
    fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    fn skip_blank(&mut self) {
        self.at = self.text.len() - self.rest().trim_start().len();
    }

    fn take(&mut self, word: &str) -> bool {
        let found = self.rest().starts_with(word);
        self.at += if found { word.len() } else { 0 };
        found
    }

    fn value(&mut self, depth: usize) -> Result<Value, String> {
        if depth > MAX_DEPTH {
            return Err(format!("it is nested more than {MAX_DEPTH} deep"));
        }
        self.skip_blank();
        match self.rest().chars().next() {
            Some('[') => self.list(']', depth),
            Some('(') => self.list(')', depth),
            Some('{') => self.mapping(depth),
            Some('\'' | '"') => self.string().map(Value::String),
            Some(c) if c.is_ascii_digit() || c == '-' || c == '.' => self.number(),
            _ => self.word(),
        }
    }

    fn list(&mut self, close: char, depth: usize) -> Result<Value, String> {
        self.at += 1;
        let mut items = Vec::new();
        loop {
            self.skip_blank();
            if self.take(close.encode_utf8(&mut [0; 4])) {
                return Ok(Value::Array(items));
            }
            items.push(self.value(depth + 1)?);
            self.skip_blank();
            if !self.take(",") && !self.rest().starts_with(close) {
                // NumPy prints arrays of objects so, and leaves out the middle of long ones.
                return Err("a comma is missing between two values, as where NumPy printed them".into());
            }
        }
    }

    fn mapping(&mut self, depth: usize) -> Result<Value, String> {
        self.at += 1;
        let mut object = Object::new();
        loop {
            self.skip_blank();
            if self.take("}") {
                return Ok(Value::Object(object));
            }
            if !self.rest().starts_with(['\'', '"']) {
                return Err("a key must be a text".into());
            }
            let key = self.string()?;
            self.skip_blank();
            if !self.take(":") {
                return Err("`:` must follow the key".into());
            }
            let value = self.value(depth + 1)?;
            object.insert(key, value);
            self.skip_blank();
            if !self.take(",") && !self.rest().starts_with('}') {
                return Err("a comma is missing between two keys".into());
            }
        }
    }

    fn string(&mut self) -> Result<String, String> {
        let quote = self.rest().chars().next().unwrap_or('"');
        self.at += 1;
        let mut text = String::new();
        loop {
            let Some(c) = self.rest().chars().next() else { return Err("a text is not closed".into()) };
            self.at += c.len_utf8();
            match c {
                '\\' => self.escape(&mut text)?,
                c if c == quote => return Ok(text),
                c => text.push(c),
            }
        }
    }

    fn escape(&mut self, text: &mut String) -> Result<(), String> {
        let Some(c) = self.rest().chars().next() else { return Err("a text is not closed".into()) };
        self.at += c.len_utf8();
        let digits = match c {
            'x' => 2,
            'u' => 4,
            'U' => 8,
            _ => 0,
        };
        text.push(match c {
            '\n' => return Ok(()),
            'n' => '\n',
            't' => '\t',
            'r' => '\r',
            'a' => '\x07',
            'b' => '\x08',
            'f' => '\x0c',
            'v' => '\x0b',
            '\\' | '\'' | '"' => c,
            'x' | 'u' | 'U' => {
                let code = self.rest().get(..digits).and_then(|hex| u32::from_str_radix(hex, 16).ok());
                code.and_then(char::from_u32).ok_or("an escape names no character")?
            }
            _ => return Err(format!("`\\{}` is no escape", c.escape_default())),
        });
        self.at += digits;
        Ok(())
    }

    fn number(&mut self) -> Result<Value, String> {
        let length = self.rest().bytes().take_while(|b| b.is_ascii_alphanumeric() || b"+-._".contains(b)).count();
        let word = &self.text[self.at..self.at + length];
        let is_whole = word.trim_start_matches('-').bytes().all(|b| b.is_ascii_digit());
        let value = if word == "-inf" {
            Some(Value::Object(not_a_number()))
        } else if is_whole {
            // Longer ones would lose digits.
            word.parse::<i64>().map(Value::from).or_else(|_| word.parse::<u64>().map(Value::from)).ok()
        } else {
            word.parse::<f64>().ok().and_then(Number::from_f64).map(Value::Number)
        };
        self.at += if value.is_some() { length } else { 0 };
        value.ok_or_else(|| "a number cannot be read".into())
    }

    fn word(&mut self) -> Result<Value, String> {
        let words = [
            ("None", Value::Null),
            ("True", Value::Bool(true)),
            ("False", Value::Bool(false)),
            ("null", Value::Null),
            ("true", Value::Bool(true)),
            ("false", Value::Bool(false)),
            ("nan", Value::Object(not_a_number())),
            ("NaN", Value::Object(not_a_number())),
            ("inf", Value::Object(not_a_number())),
        ];
        for (word, value) in words {
            if self.take(word) {
                return Ok(value);
            }
        }
        Err("what stands there is no value of Python".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn what_python_prints_is_read_back() {
        let text = r#"[{'role': 'user', 'content': "It's late\n\x41\u00e9"}, {"n": -1, 'f': 0.5, 'x': None, 'y': True,}, ('a',)]"#;
        let expected = json!([
            {"role": "user", "content": "It's late\nA\u{e9}"},
            {"n": -1, "f": 0.5, "x": null, "y": true},
            ["a"]
        ]);
        assert_eq!(parse(text).unwrap(), expected);
        for (text, expected) in [
            ("[{'a': 1} {'a': 2}]", "a comma is missing between two values, as where NumPy printed them (byte 11)"),
            ("[{'a': 1}", "a comma is missing between two values, as where NumPy printed them (byte 10)"),
            ("['a", "a text is not closed (byte 4)"),
            ("[1] x", "something follows its end (byte 5)"),
            ("[array([1])]", "what stands there is no value of Python (byte 2)"),
            ("{1: 2}", "a key must be a text (byte 2)"),
            ("['\\q']", "`\\q` is no escape (byte 5)"),
            ("[99999999999999999999999x]", "a number cannot be read (byte 2)"),
        ] {
            assert_eq!(parse(text).unwrap_err(), expected);
        }
        let deep = "[".repeat(100_000);
        assert!(parse(&deep).unwrap_err().starts_with("it is nested"));
        assert!(is_likely("[{'role'") && is_likely("{\"a\": None}") && !is_likely("[{\"role\": \"user\"}]"));
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "[\\[\\]{}(),:'\"\\\\aNone1.é -]{0,40}") {
            let _ = parse(&text);
        }

        #[test]
        fn a_printed_text_comes_back(text in "\\PC{0,40}") {
            let printed = format!("['{}']", text.replace('\\', "\\\\").replace('\'', "\\'"));
            prop_assert_eq!(parse(&printed).unwrap(), json!([text]));
        }
    }
}
