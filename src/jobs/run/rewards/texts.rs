//! Rewards that look at the words of an answer.

use super::Answered;
use crate::data;
use crate::error::{Error, Kind, Result, did_you_mean};
use crate::input;
use crate::recipe::{self, LengthUnit, RewardKind};
use regex::{Regex, RegexBuilder};
use serde_json::{Map, Value};
use std::path::Path;

/// A number in a text: with a sign (also the one of typographers, U+2212), with commas between thousands, with an exponent.
const NUMBER: &str = r"[-+\u{2212}]?(?:\d[\d,]*(?:\.\d+)?|\.\d+)(?:[eE][-+]?\d+)?";

/// A reward of words.
#[derive(Debug)]
pub enum Text {
    /// What a column says.
    Exact { column: String, of: Option<Regex>, ignore_case: bool },
    /// A pattern that is found in it.
    Found(Regex),
    /// JSON with these keys.
    Json(Vec<String>),
    /// JSON that is valid under a schema.
    Schema { of: Option<Regex>, schema: Box<jsonschema::Validator> },
    /// The number of a column.
    Number { column: String, of: Option<Regex>, number: Regex, tolerance: f64 },
    /// A length from `min` to `max`.
    Length { min: usize, max: usize, unit: LengthUnit },
}

impl Text {
    /// That of a recipe.
    ///
    /// # Errors
    /// When its pattern is none.
    pub fn of(keys: &recipe::Reward) -> Result<Self> {
        let regex = |pattern: &str| {
            // A point is any character, also the end of a line: answers have several.
            RegexBuilder::new(pattern).dot_matches_new_line(true).build().map_err(|error| {
                Error::new(Kind::Recipe, format!("reward `{}`: `pattern` is no regular expression: {error}", keys.name))
            })
        };
        let pattern = keys.pattern.as_deref();
        let column = || keys.column.clone().unwrap_or_default();
        Ok(match keys.kind {
            RewardKind::ExactMatch => Text::Exact {
                column: column(),
                of: pattern.map(regex).transpose()?,
                ignore_case: keys.ignore_case == Some(true),
            },
            RewardKind::Number => Text::Number {
                column: column(),
                of: pattern.map(regex).transpose()?,
                number: regex(NUMBER)?,
                tolerance: keys.tolerance.unwrap_or(0.0),
            },
            RewardKind::Regex => Text::Found(regex(pattern.unwrap_or_default())?),
            RewardKind::Format => Text::Found(regex(&format!(r"\A\s*(?:{})\s*\z", pattern.unwrap_or_default()))?),
            RewardKind::Json => Text::Json(keys.keys.clone().unwrap_or_default()),
            RewardKind::JsonSchema => {
                Text::Schema { of: pattern.map(regex).transpose()?, schema: Box::new(schema(keys)?) }
            }
            RewardKind::Length => Text::Length {
                min: keys.min.unwrap_or(0),
                max: keys.max.unwrap_or(usize::MAX),
                unit: keys.unit.unwrap_or(LengthUnit::Tokens),
            },
            RewardKind::Model | RewardKind::Program | RewardKind::Http => {
                return Err(Error::new(Kind::Run, "who is no part of this program looks at answers itself"));
            }
        })
    }

    /// The column that it reads.
    pub fn column(&self) -> Option<&str> {
        match self {
            Text::Exact { column, .. } | Text::Number { column, .. } => Some(column),
            _ => None,
        }
    }

    /// What a row's column says, where one is read.
    ///
    /// # Errors
    /// Why there is nothing to compare with, as the end of a sentence.
    pub fn expected(&self, columns: &Map<String, Value>) -> Result<Expected, String> {
        let Some(column) = self.column() else { return Ok(Expected::default()) };
        let text = match columns.get(column) {
            Some(Value::String(text)) => text.clone(),
            Some(Value::Number(number)) => number.to_string(),
            Some(Value::Bool(flag)) => flag.to_string(),
            Some(long) if data::digits(long).is_some() => data::digits(long).unwrap_or_default().to_owned(),
            Some(Value::Null) => return Err(format!("`{column}` is null")),
            None => return Err(format!("it has no column `{column}`{}", meant(column, columns))),
            Some(_) => return Err(format!("`{column}` is neither a text nor a number")),
        };
        let number = match self {
            Text::Number { number, .. } => last_number(number, &text),
            _ => None,
        };
        if matches!(self, Text::Number { .. }) && number.is_none() {
            return Err(format!("`{column}` holds no number"));
        }
        Ok(Expected { text, number })
    }

    /// What it says of an answer.
    ///
    /// # Errors
    /// As [`Text::expected`].
    pub fn judge(&self, answer: &Answered) -> Result<f64, String> {
        let expected = self.expected(answer.columns)?;
        let text = answer.completion;
        let is_right = match self {
            Text::Found(pattern) => pattern.is_match(text),
            Text::Exact { of, ignore_case, .. } => {
                let folded = |text: &str| if *ignore_case { text.to_lowercase() } else { text.to_owned() };
                part(of.as_ref(), text).is_some_and(|text| folded(text.trim()) == folded(expected.text.trim()))
            }
            Text::Number { of, number, tolerance, .. } => {
                let said = part(of.as_ref(), text).and_then(|text| last_number(number, text));
                said.zip(expected.number).is_some_and(|(said, expected)| (said - expected).abs() <= *tolerance)
            }
            Text::Schema { of, schema } => part(of.as_ref(), text)
                .and_then(|text| serde_json::from_str(text.trim()).ok())
                .is_some_and(|value: Value| schema.is_valid(&value)),
            Text::Json(keys) => serde_json::from_str::<Value>(text.trim()).is_ok_and(|value| {
                keys.is_empty()
                    || value.as_object().is_some_and(|object| keys.iter().all(|key| object.contains_key(key)))
            }),
            Text::Length { min, max, unit } => {
                let length = match unit {
                    LengthUnit::Tokens => answer.tokens,
                    LengthUnit::Characters => text.chars().count(),
                };
                return Ok(of_length(length, *min, *max));
            }
        };
        Ok(f64::from(u8::from(is_right)))
    }
}

/// The schema of a reward: its own, or that of its file.
fn schema(keys: &recipe::Reward) -> Result<jsonschema::Validator> {
    let wrong = |what: String| Error::new(Kind::Recipe, what);
    let schema = match (&keys.schema, &keys.schema_file) {
        (Some(schema), _) => schema.validator(),
        (None, None) => return Err(wrong(format!("reward `{}` has no schema", keys.name))),
        (None, Some(file)) => {
            let path = Path::new(file);
            let bytes = input::read(path).map_err(|e| Error::input(Kind::Recipe, "reading the schema", path, e))?;
            let schema = serde_json::from_slice(without_mark(&bytes))
                .map_err(|error| wrong(format!("`{file}` is not valid JSON: {error}")).at_path(path))?;
            recipe::validator(&schema).map_err(|broken| recipe::Broken {
                what: format!(
                    "`{file}`, at `{}`: {}",
                    if broken.at.is_empty() { "/" } else { &broken.at },
                    broken.what
                ),
                ..broken
            })
        }
    };
    schema.map_err(|broken| wrong(format!("reward `{}` has no JSON Schema: {}", keys.name, broken.what)))
}

/// What a column that is not there was meant to be, or those that are.
fn meant(column: &str, columns: &Map<String, Value>) -> String {
    let names = || columns.keys().map(String::as_str);
    match did_you_mean(column, names()) {
        Some(close) => format!("; did you mean `{close}`?"),
        None => format!("; it has {}", names().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")),
    }
}

/// A text without the mark of its encoding, which some editors write before it.
fn without_mark(bytes: &[u8]) -> &[u8] {
    bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes)
}

/// What an answer is compared with.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Expected {
    text: String,
    number: Option<f64>,
}

/// The part of an answer that is compared: the first group of a pattern's last occurrence, or all of that; without a pattern the whole
/// answer.
fn part<'t>(pattern: Option<&Regex>, text: &'t str) -> Option<&'t str> {
    let Some(pattern) = pattern else { return Some(text) };
    let found = pattern.captures_iter(text).last()?;
    found.get(1).or_else(|| found.get(0)).map(|part| part.as_str())
}

/// The last number of a text. What stands right after a digit or a letter is no sign: `3-5`, `B-2`.
fn last_number(number: &Regex, text: &str) -> Option<f64> {
    let found = number.find_iter(text).last()?;
    let follows = text[..found.start()].chars().next_back().is_some_and(char::is_alphanumeric);
    let said = found.as_str();
    let said = if follows { said.trim_start_matches(['-', '+', '\u{2212}']) } else { said };
    said.replace(',', "").replace('\u{2212}', "-").parse().ok().filter(|number: &f64| number.is_finite())
}

/// 1 within the bounds; below them the share of `min` that is there, above them less by as large a share as it is too long.
fn of_length(length: usize, min: usize, max: usize) -> f64 {
    let [length, min, max] = [length, min, max].map(|number| number as f64);
    if length < min {
        return length / min;
    }
    if length > max { (2.0 - length / max).max(0.0) } else { 1.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn reward(kind: RewardKind, json: Value) -> Text {
        let text = |key: &str| json.get(key).and_then(Value::as_str).map(str::to_owned);
        let number = |key: &str| json.get(key).and_then(Value::as_u64).map(|number| number as usize);
        Text::of(&recipe::Reward {
            kind,
            name: "r".into(),
            weight: 1.0,
            column: text("column"),
            pattern: text("pattern"),
            ignore_case: json.get("ignore_case").and_then(Value::as_bool),
            tolerance: json.get("tolerance").and_then(Value::as_f64),
            keys: json.get("keys").map(|keys| serde_json::from_value(keys.clone()).unwrap()),
            schema: json.get("schema").map(|schema| recipe::InlineSchema(schema.as_object().unwrap().clone())),
            schema_file: text("schema_file"),
            min: number("min"),
            max: number("max"),
            unit: Some(LengthUnit::Characters),
            adapter: None,
            base: None,
            command: None,
            url: None,
            headers: None,
            timeout: None,
        })
        .unwrap()
    }

    fn judged(text: &Text, row: Value, answers: &[&str]) -> Vec<f64> {
        let columns = row.as_object().unwrap();
        let judge = |completion: &str| {
            let answered = Answered { completion, tokens: 3, columns, origin: "a.jsonl, row 1" };
            text.judge(&answered).unwrap()
        };
        answers.iter().map(|answer| judge(answer)).collect()
    }

    #[test]
    fn words_are_compared_searched_and_measured() {
        let row = || json!({"answer": "Paris", "n": "#### 1,234.5"});
        let exact = reward(RewardKind::ExactMatch, json!({"column": "answer"}));
        assert_eq!(judged(&exact, row(), &[" Paris\n", "paris", "It is Paris"]), [1.0, 0.0, 0.0]);
        let within = json!({"column": "answer", "pattern": "<a>(.*?)</a>", "ignore_case": true});
        let exact = reward(RewardKind::ExactMatch, within);
        assert_eq!(judged(&exact, row(), &["<a>Rome</a> no: <a>PARIS</a>", "Paris"]), [1.0, 0.0]);
        let found = reward(RewardKind::Regex, json!({"pattern": "b.c"}));
        assert_eq!(judged(&found, row(), &["ab\ncd", "bc"]), [1.0, 0.0]);
        let whole = reward(RewardKind::Format, json!({"pattern": "<t>.*</t>|ok"}));
        assert_eq!(judged(&whole, row(), &["<t>a\nb</t>\n", "so <t></t>", "ok", "ok?"]), [1.0, 0.0, 1.0, 0.0]);
        let number = reward(RewardKind::Number, json!({"column": "n", "tolerance": 0.5}));
        assert_eq!(judged(&number, row(), &["3 and 1234", "1,235.1", "none", "1.2345e3"]), [1.0, 0.0, 0.0, 1.0]);
        let number = |expected: f64, answers: &[&str]| {
            let number = reward(RewardKind::Number, json!({"column": "n"}));
            assert_eq!(judged(&number, json!({"n": expected}), answers), vec![1.0; answers.len()], "{expected}");
        };
        number(5.0, &["3-5", "B-5", "3\u{2212}5", "pages 3 - 5", "+5", "é-5", "5.0", "1+5"]);
        number(-5.0, &["x=-5", "$-5", "\u{2212}5", "(-5)", "3 -5", "-5", ": -5."]);
        number(1e-5, &["1e-5", "x=1E-05", ".00001"]);
        number(1234.5, &["1,234.5", "$1,234.50", "2-1,234.5"]);
        let json = reward(RewardKind::Json, json!({"keys": ["a"]}));
        assert_eq!(judged(&json, row(), &["{\"a\": 1}", "{\"b\": 1}", "[1]", "{"]), [1.0, 0.0, 0.0, 0.0]);
        let any = reward(RewardKind::Json, json!({}));
        assert_eq!(judged(&any, row(), &["[1]", "[1"]), [1.0, 0.0]);
        let valid = json!({"schema": {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}});
        let valid = reward(RewardKind::JsonSchema, valid);
        assert_eq!(
            judged(&valid, row(), &[" {\"a\": 1}\n", "{\"a\": \"1\"}", "{}", "so {\"a\": 1}"]),
            [1.0, 0.0, 0.0, 0.0]
        );
        let within = json!({"schema": {"minItems": 2}, "pattern": "```json(.*?)```"});
        let within = reward(RewardKind::JsonSchema, within);
        assert_eq!(judged(&within, row(), &["```json [1] ``` no: ```json\n[1, 2]\n```", "[1, 2]"]), [1.0, 0.0]);
        let length = reward(RewardKind::Length, json!({"min": 2, "max": 4}));
        assert_eq!(judged(&length, row(), &["a", "ab", "abcd", "abcdef", "abcdefghij"]), [0.5, 1.0, 1.0, 0.5, 0.0]);
    }

    #[test]
    fn what_cannot_be_compared_with_is_named() {
        let why = |text: &Text, row: Value| text.expected(row.as_object().unwrap()).unwrap_err();
        let exact = reward(RewardKind::ExactMatch, json!({"column": "answer"}));
        assert_eq!(why(&exact, json!({"a": 1, "b": 2})), "it has no column `answer`; it has `a`, `b`");
        assert_eq!(why(&exact, json!({"a": 1, "anwser": 2})), "it has no column `answer`; did you mean `anwser`?");
        assert_eq!(why(&exact, json!({"answer": null})), "`answer` is null");
        assert_eq!(why(&exact, json!({"answer": [1]})), "`answer` is neither a text nor a number");
        let number = reward(RewardKind::Number, json!({"column": "answer"}));
        assert_eq!(why(&number, json!({"answer": "many"})), "`answer` holds no number");
        assert!(number.expected(json!({"answer": 4}).as_object().unwrap()).is_ok());
    }
}
