//! Questions with choices, in the words and by the rules of lm-evaluation-harness.
//!
//! # Source
//! lm-evaluation-harness 0.4.13: `tasks/arc`, `tasks/hellaswag`, `tasks/mmlu/default`, `tasks/piqa`, without examples;
//! `scripts/check_choices.py` compares whole evaluations.

use crate::error::{Error, Kind, Result};
use regex::Regex;
use serde_json::{Map, Value};
use std::sync::LazyLock;

/// Whose questions they are, which decides how they are put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Task {
    /// ARC, easy and challenge: `question`, `choices: {text, label}`, `answerKey`.
    Arc,
    /// HellaSwag: `activity_label`, `ctx_a`, `ctx_b`, `endings`, `label`.
    HellaSwag,
    /// MMLU: `question`, `choices`, `answer`, and the `subject`.
    Mmlu,
    /// PIQA: `goal`, `sol1`, `sol2`, `label`.
    Piqa,
}

/// A question as a model is asked it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// What stands before each choice.
    pub context: String,
    /// The choices; a space stands between the context and each.
    pub choices: Vec<String>,
    /// Which of them is right.
    pub right: usize,
    /// Two choices that say the same, by their numbers from 1: published sets have some.
    pub equal: Option<(usize, usize)>,
}

impl Task {
    /// Every task.
    pub const ALL: [Task; 4] = [Task::Arc, Task::HellaSwag, Task::Mmlu, Task::Piqa];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Task::Arc => "arc",
            Task::HellaSwag => "hellaswag",
            Task::Mmlu => "mmlu",
            Task::Piqa => "piqa",
        }
    }

    /// The columns that tell its questions from those of others.
    fn columns(self) -> &'static [&'static str] {
        match self {
            Task::Arc => &["question", "choices", "answerKey"],
            Task::HellaSwag => &["activity_label", "ctx_a", "ctx_b", "endings", "label"],
            Task::Mmlu => &["question", "choices", "answer"],
            Task::Piqa => &["goal", "sol1", "sol2", "label"],
        }
    }

    /// The columns that any of the tasks reads.
    pub fn every_column() -> Vec<&'static str> {
        let needed = Task::ALL.into_iter().flat_map(|task| task.columns().iter().copied());
        needed.chain(["subject"]).collect()
    }

    /// The task whose columns a row has.
    pub fn of(row: &Map<String, Value>) -> Option<Self> {
        Task::ALL.into_iter().find(|task| task.columns().iter().all(|column| row.contains_key(*column)))
    }

    /// Whether its choices are of different lengths, so that a longer one is at a disadvantage: then the accuracy is given by
    /// characters too.
    pub fn is_normalised(self) -> bool {
        self != Task::Mmlu
    }

    /// The question of a row.
    ///
    /// # Errors
    /// Columns that are missing or hold something else; nothing that is asked; an answer that is none of the choices, or labels
    /// that do not tell them apart.
    pub fn question(self, row: &Map<String, Value>) -> Result<Question> {
        let text = |key: &str| {
            let text = row.get(key).and_then(Value::as_str);
            text.ok_or_else(|| wrong(format!("`{key}` must be a text")))
        };
        let asked = |key: &str| match text(key)? {
            asked if asked.trim().is_empty() => Err(nothing_asked(&format!("`{key}` is"))),
            asked => Ok(asked),
        };
        let (context, said, right) = match self {
            Task::Arc => {
                let choices = row.get("choices").and_then(Value::as_object);
                let list = |key: &str| texts(choices.and_then(|choices| choices.get(key)), &format!("choices.{key}"));
                let (choices, labels) = (list("text")?, list("label")?);
                if labels.len() != choices.len() {
                    let what = format!("`choices.text` has {} items, `choices.label` {}", choices.len(), labels.len());
                    return Err(wrong(what));
                }
                if let Some((one, other)) = equal(&labels) {
                    return Err(wrong(format!("labels {one} and {other} are equal")));
                }
                let key = text("answerKey")?;
                let right = labels.iter().position(|label| label == key);
                (format!("Question: {}\nAnswer:", asked("question")?), choices, right)
            }
            Task::HellaSwag => {
                let [activity, first, second] = ["activity_label", "ctx_a", "ctx_b"].map(text);
                let (activity, first, second) = (activity?, first?, second?);
                if [first, second].iter().all(|part| part.trim().is_empty()) {
                    return Err(nothing_asked("`ctx_a` and `ctx_b` are"));
                }
                let context = format!("{activity}: {first} {}", capitalized(second));
                let endings = texts(row.get("endings"), "endings")?;
                let endings = endings.iter().map(|ending| tidied(ending)).collect();
                (tidied(&context), endings, number(row, "label")?)
            }
            Task::Mmlu => {
                let choices = texts(row.get("choices"), "choices")?;
                let listed = letters(choices.len()).into_iter().zip(&choices);
                let listed: String = listed.map(|(letter, choice)| format!("{letter}. {choice}\n")).collect();
                let about = match row.get("subject").and_then(Value::as_str) {
                    Some(subject) => format!(
                        "The following are multiple choice questions (with answers) about {}.\n\n",
                        subject.replace('_', " ")
                    ),
                    None => String::new(),
                };
                (format!("{about}{}\n{listed}Answer:", asked("question")?.trim()), choices, number(row, "answer")?)
            }
            Task::Piqa => {
                let choices = vec![text("sol1")?.to_owned(), text("sol2")?.to_owned()];
                (format!("Question: {}\nAnswer:", asked("goal")?), choices, number(row, "label")?)
            }
        };
        let said = whole(said)?;
        let equal = equal(&said);
        // Where letters stand before the choices, a letter is the answer.
        let choices = if self == Task::Mmlu { letters(said.len()) } else { said };
        match right.filter(|right| *right < choices.len()) {
            Some(right) => Ok(Question { context, choices, right, equal }),
            None => {
                Err(wrong("the answer is none of the choices".into()).hint("test sets without answers tell nothing"))
            }
        }
    }
}

impl Question {
    /// Whether the most likely choice is the right one, and whether it is by log-likelihood per character.
    pub fn verdict(&self, loglikelihoods: &[f64]) -> [bool; 2] {
        let characters = |at: usize| self.choices[at].chars().count() as f64;
        let plain = first_best(loglikelihoods.iter().copied());
        let by_length = first_best(loglikelihoods.iter().enumerate().map(|(at, sum)| sum / characters(at)));
        [plain, by_length].map(|best| best == Some(self.right))
    }
}

/// The place of the highest; the first of equals.
fn first_best(values: impl Iterator<Item = f64>) -> Option<usize> {
    let better = |best: Option<(usize, f64)>, next: (usize, f64)| match best {
        Some(best) if next.1 <= best.1 => Some(best),
        _ => Some(next),
    };
    values.enumerate().fold(None, better).map(|(at, _)| at)
}

fn wrong(what: String) -> Error {
    Error::new(Kind::Data, what)
}

fn nothing_asked(columns: &str) -> Error {
    wrong(format!("{columns} empty, so nothing is asked"))
}

/// Choices of which one can be the right one.
fn whole(choices: Vec<String>) -> Result<Vec<String>> {
    match choices.len() < 2 || choices.iter().any(|choice| choice.trim().is_empty()) {
        true => Err(wrong("a question needs at least two choices, none of them empty".into())),
        false => Ok(choices),
    }
}

/// What so many choices are called, as far as there are letters.
fn letters(count: usize) -> Vec<String> {
    ('A'..='Z').take(count).map(String::from).collect()
}

/// The first two texts that say the same, by their numbers from 1.
fn equal(texts: &[String]) -> Option<(usize, usize)> {
    let before = |(at, text): (usize, &String)| {
        Some((texts[..at].iter().position(|other| other.trim() == text.trim())? + 1, at + 1))
    };
    texts.iter().enumerate().find_map(before)
}

fn texts(value: Option<&Value>, name: &str) -> Result<Vec<String>> {
    let items = value.and_then(Value::as_array);
    let texts = items.and_then(|items| items.iter().map(|item| item.as_str().map(str::to_owned)).collect());
    texts.ok_or_else(|| wrong(format!("`{name}` must be a list of texts")))
}

/// A number, which may be written as a text; `None` where it is none, as in test sets.
fn number(row: &Map<String, Value>, key: &str) -> Result<Option<usize>> {
    match row.get(key) {
        Some(Value::Number(number)) => Ok(number.as_u64().map(|number| number as usize)),
        Some(Value::String(text)) => Ok(text.trim().parse().ok()),
        _ => Err(wrong(format!("`{key}` must be the number of the right choice"))),
    }
}

/// As Python's `str.capitalize`: the first letter large, the others small.
fn capitalized(text: &str) -> String {
    let mut letters = text.chars();
    let mut first = letters.next().map(char::to_uppercase).into_iter().flatten();
    let large = first.next().map(String::from).unwrap_or_default();
    // Of a letter that becomes two only the first is large: `ß` becomes `Ss`.
    format!("{large}{}{}", first.collect::<String>().to_lowercase(), letters.as_str().to_lowercase())
}

/// HellaSwag without the marks that its texts from WikiHow have left in them.
fn tidied(text: &str) -> String {
    static MARKS: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"\[.*?\]").ok());
    let text = text.trim().replace(" [title]", ". ");
    let text = MARKS.as_ref().map_or(text.clone(), |marks| marks.replace_all(&text, "").into_owned());
    text.replace("  ", " ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testkit::golden::folder;
    use serde_json::json;

    fn question(row: Value) -> Result<Question> {
        let row = row.as_object().unwrap();
        Task::of(row).expect("a task").question(row)
    }

    #[test]
    fn each_task_is_put_in_its_own_words() {
        let arc = json!({"id": "x", "question": "Why?", "choices": {"text": ["a", "b c"], "label": ["1", "2"]}, "answerKey": "2"});
        let asked = question(arc).unwrap();
        assert_eq!((asked.context.as_str(), asked.right), ("Question: Why?\nAnswer:", 1));
        let hellaswag = json!({"activity_label": "Cleaning", "ctx_a": "A man [header] wipes  it.", "ctx_b": "THE man",
            "endings": ["goes [title] on.", " stops [step] there. "], "label": "1"});
        let asked = question(hellaswag).unwrap();
        assert_eq!(asked.context, "Cleaning: A man wipes it. The man");
        assert_eq!((asked.choices, asked.right), (vec!["goes. on.".to_owned(), "stops there.".to_owned()], 1));
        let mmlu = json!({"question": " What? ", "subject": "high_school_physics", "choices": ["w", "x", "y", "z"], "answer": 2});
        let asked = question(mmlu).unwrap();
        assert_eq!(
            asked.context,
            "The following are multiple choice questions (with answers) about high school physics.\n\n\
             What?\nA. w\nB. x\nC. y\nD. z\nAnswer:"
        );
        assert_eq!((asked.choices.concat(), asked.right), ("ABCD".into(), 2));
        let piqa = json!({"goal": "To sit", "sol1": "stand", "sol2": "sit", "label": 1});
        assert_eq!(question(piqa).unwrap().choices, ["stand", "sit"]);
    }

    /// As lm-evaluation-harness puts them.
    #[test]
    fn questions_are_put_as_the_reference_puts_them() {
        let golden: Value =
            serde_json::from_slice(&std::fs::read(folder("eval").join("choices.json")).unwrap()).unwrap();
        for case in golden["cases"].as_array().unwrap() {
            let Question { context, choices, right, .. } = question(case["row"].clone()).unwrap();
            assert_eq!(
                json!({"context": context, "choices": choices, "right": right}),
                case["asked"],
                "{}",
                case["row"]
            );
        }
    }

    #[test]
    fn longer_choices_are_weighed_by_their_characters() {
        let asked =
            Question { context: String::new(), choices: vec!["é".into(), "long one".into()], right: 1, equal: None };
        assert_eq!(asked.verdict(&[-2.0, -4.0]), [false, true]);
        assert_eq!(asked.verdict(&[-4.0, -4.0]), [false, true], "the first of equals");
        assert_eq!(asked.verdict(&[-40.0, -4.0]), [true, true]);
    }

    #[test]
    fn choices_that_say_the_same_are_known() {
        for (row, pair) in [
            (json!({"goal": "g", "sol1": "a", "sol2": "a ", "label": 0}), Some((1, 2))),
            (json!({"goal": "g", "sol1": "a", "sol2": "b", "label": 0}), None),
            (json!({"question": "q", "choices": ["a", "b", "c", "b"], "answer": 0}), Some((2, 4))),
            (
                json!({"question": "q", "choices": {"text": ["a", "a"], "label": ["A", "B"]}, "answerKey": "A"}),
                Some((1, 2)),
            ),
            (
                json!({"activity_label": "x", "ctx_a": "y", "ctx_b": "", "endings": ["a [x]", "a"], "label": 0}),
                Some((1, 2)),
            ),
        ] {
            assert_eq!(question(row.clone()).unwrap().equal, pair, "{row}");
        }
    }

    #[test]
    fn questions_that_nothing_answers_are_refused() {
        for (row, said) in [
            (json!({"goal": "g", "sol1": "a", "sol2": "b", "label": -1}), "none of the choices"),
            (json!({"goal": "g", "sol1": "a", "sol2": "", "label": 0}), "none of them empty"),
            (json!({"goal": 3, "sol1": "a", "sol2": "b", "label": 0}), "`goal` must be a text"),
            (
                json!({"question": "q", "choices": {"text": ["a", "b"], "label": ["A", "B"]}, "answerKey": "C"}),
                "none of",
            ),
            (json!({"question": "q", "choices": ["a", 1], "answer": 0}), "`choices` must be a list of texts"),
            (json!({"goal": " ", "sol1": "a", "sol2": "b", "label": 0}), "`goal` is empty, so nothing is asked"),
            (json!({"question": "\n", "choices": ["a", "b"], "answer": 0}), "`question` is empty"),
            (
                json!({"question": "", "choices": {"text": ["a", "b"], "label": ["A", "B"]}, "answerKey": "A"}),
                "`question` is empty",
            ),
            (
                json!({"activity_label": "x", "ctx_a": "", "ctx_b": " ", "endings": ["a", "b"], "label": 0}),
                "`ctx_a` and `ctx_b` are empty",
            ),
            (
                json!({"question": "q", "choices": {"text": ["a", "b"], "label": ["A", "A"]}, "answerKey": "A"}),
                "labels 1 and 2 are equal",
            ),
            (
                json!({"question": "q", "choices": {"text": ["a", "b"], "label": ["A"]}, "answerKey": "A"}),
                "`choices.text` has 2 items, `choices.label` 1",
            ),
        ] {
            assert!(question(row.clone()).unwrap_err().what().contains(said), "{row}");
        }
        assert_eq!(Task::of(json!({"question": "q"}).as_object().unwrap()), None);
    }
}
