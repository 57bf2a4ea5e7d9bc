//! `rewards`: how answers are judged.

use super::diagnose::Diagnosis;
use super::http::{Headers, good_url};
use super::json_schema::InlineSchema;
use super::kinds::{FromNode, choices, mismatch};
use super::raw::{Node, Shape};
use super::rules::{Verdict, not_blank};
use super::section::Section;
use super::yaml;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::ops::Bound::{Excluded, Included};

/// The column that answers are compared with where none is named.
const COLUMN: &str = "answer";
/// Seconds that a program or a server has for the answers of a step where nothing is said.
const TIMEOUT_SECS: f64 = 60.0;
/// Who takes longer is waited for in vain.
const LONGEST_TIMEOUT_SECS: f64 = 86_400.0;

/// One way of judging answers: a number for each, the more the better.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Reward {
    /// How it judges.
    pub kind: RewardKind,
    /// What it is called in logs; its kind where nothing is said.
    pub name: String,
    /// What its numbers are multiplied by before they are added up.
    pub weight: f64,
    /// The column that answers are compared with; of `exact_match` and `number`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub column: Option<String>,
    /// A regular expression: of `regex` what is to be found in the answer, of `format` what the whole answer is to be, of
    /// `exact_match`, `number` and `json_schema` what of the answer is looked at (its first group, where it has one; its last
    /// occurrence).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pattern: Option<String>,
    /// Whether capital letters are small ones; of `exact_match`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ignore_case: Option<bool>,
    /// How far from the column's number the answer's may be; of `number`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tolerance: Option<f64>,
    /// The keys that the object must have; of `json`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keys: Option<Vec<String>>,
    /// A JSON Schema; of `json_schema`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schema: Option<InlineSchema>,
    /// The file of a JSON Schema; of `json_schema`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schema_file: Option<String>,
    /// The least that gets the whole reward; of `length`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min: Option<usize>,
    /// The most that does; of `length`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max: Option<usize>,
    /// What is counted; of `length`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unit: Option<LengthUnit>,
    /// The adapter of a reward model, or the `output.dir` of the run that trained it; of `model`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub adapter: Option<String>,
    /// The base that it stands on, where that is another than the one it names; of `model`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base: Option<String>,
    /// A program and its arguments; of `program`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<Vec<String>>,
    /// The address of a server; of `http`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// What it is told beside the answers: `$NAME` is a variable of the environment; of `http`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub headers: Option<Headers>,
    /// The seconds that it has for the answers of a step; of `program` and `http`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<f64>,
}

/// How a reward judges an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RewardKind {
    /// 1 where it is what a column says, but for white space around it, else 0.
    ExactMatch,
    /// 1 where `pattern` is found in it, else 0.
    #[default]
    Regex,
    /// 1 where `pattern` is all of it, but for white space around it, else 0.
    Format,
    /// 1 where it is JSON, and an object with `keys` where these are given, else 0.
    Json,
    /// 1 where it is JSON that is valid under a schema, else 0.
    JsonSchema,
    /// 1 where its last number is that of a column, within `tolerance`, else 0.
    Number,
    /// 1 where it is from `min` to `max` long, and less the further it is from there.
    Length,
    /// What a reward model says of prompt and answer.
    Model,
    /// What a program says, which reads a line of JSON for each answer and writes a line with a number.
    Program,
    /// What a server says, which is sent a line of JSON for each answer and answers with a list of numbers.
    Http,
}

/// What a length counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LengthUnit {
    /// Tokens, the one that ends the answer too.
    Tokens,
    /// Characters.
    Characters,
}

choices!(RewardKind, LengthUnit);

impl RewardKind {
    /// The word for it in a recipe.
    pub fn name(self) -> &'static str {
        match self {
            RewardKind::ExactMatch => "exact_match",
            RewardKind::Regex => "regex",
            RewardKind::Format => "format",
            RewardKind::Json => "json",
            RewardKind::JsonSchema => "json_schema",
            RewardKind::Number => "number",
            RewardKind::Length => "length",
            RewardKind::Model => "model",
            RewardKind::Program => "program",
            RewardKind::Http => "http",
        }
    }

    /// The keys that it has beside `kind`, `name` and `weight`; those that it must have end in `!`.
    fn keys(self) -> &'static [&'static str] {
        match self {
            RewardKind::ExactMatch => &["column", "pattern", "ignore_case"],
            RewardKind::Regex | RewardKind::Format => &["pattern!"],
            RewardKind::Json => &["keys"],
            RewardKind::JsonSchema => &["schema", "schema_file", "pattern"],
            RewardKind::Number => &["column", "pattern", "tolerance"],
            RewardKind::Length => &["min", "max", "unit"],
            RewardKind::Model => &["adapter!", "base"],
            RewardKind::Program => &["command!", "timeout"],
            RewardKind::Http => &["url!", "headers", "timeout"],
        }
    }
}

/// The keys that some kind has, each with an example.
const KEYS: [(&str, &str); 16] = [
    ("column", "column: answer"),
    ("pattern", "pattern: '<answer>.+</answer>'"),
    ("ignore_case", "ignore_case: true"),
    ("tolerance", "tolerance: 0.01"),
    ("keys", "keys: [name]"),
    ("schema", "schema: {type: object, required: [name]}"),
    ("schema_file", "schema_file: answer.schema.json"),
    ("min", "min: 10"),
    ("max", "max: 100"),
    ("unit", "unit: tokens"),
    ("adapter", "adapter: out/reward"),
    ("base", "base: google/gemma-3-270m-it"),
    ("command", "command: [python3, judge.py]"),
    ("url", "url: 'http://127.0.0.1:8000/judge'"),
    ("headers", "headers: {Authorization: 'Bearer $JUDGE_TOKEN'}"),
    ("timeout", "timeout: 60"),
];

impl Reward {
    pub(super) fn read(section: &mut Section<'_>) -> Self {
        let kind: RewardKind = section.key("kind").required("kind: regex");
        let given = Reward {
            kind,
            name: section.key("name").check(|name: &String| good_name(name)).or_derived(kind.name().to_owned()),
            weight: section.key("weight").or(1.0),
            column: section.key("column").check(not_blank).optional(),
            pattern: section.key("pattern").check(|pattern: &String| good_pattern(pattern)).optional(),
            ignore_case: section.key("ignore_case").optional(),
            tolerance: section.key("tolerance").within(0.0..).optional(),
            keys: section.key("keys").optional(),
            schema: section.key("schema").optional(),
            schema_file: section.key("schema_file").check(not_blank).expanded().optional(),
            min: section.key("min").within(1..).optional(),
            max: section.key("max").within(1..).optional(),
            unit: section.key("unit").optional(),
            adapter: section.key("adapter").check(not_blank).optional(),
            base: section.key("base").check(not_blank).optional(),
            command: section.key("command").check(good_command).optional().map(|Command(words)| words),
            url: section.key("url").check(|url: &String| good_url(url)).optional(),
            headers: section.key("headers").optional(),
            timeout: section.key("timeout").within((Excluded(0.0), Included(LONGEST_TIMEOUT_SECS))).optional(),
        };
        given.with_defaults()
    }

    fn with_defaults(mut self) -> Self {
        let is = |kind| self.kind == kind;
        let compares = is(RewardKind::ExactMatch) || is(RewardKind::Number);
        let (is_exact, is_number, is_length) =
            (is(RewardKind::ExactMatch), is(RewardKind::Number), is(RewardKind::Length));
        let is_waited_for = is(RewardKind::Program) || is(RewardKind::Http);
        self.column = self.column.or(compares.then(|| COLUMN.to_owned()));
        self.ignore_case = self.ignore_case.or(is_exact.then_some(false));
        self.tolerance = self.tolerance.or(is_number.then_some(0.0));
        self.unit = self.unit.or(is_length.then_some(LengthUnit::Tokens));
        self.timeout = self.timeout.or(is_waited_for.then_some(TIMEOUT_SECS));
        self
    }
}

/// A program and its arguments, each an item of its own: no shell looks at them.
#[derive(Debug, Serialize)]
struct Command(Vec<String>);

impl FromNode for Command {
    fn from_node(node: &Node, path: &str, diagnosis: &mut Diagnosis) -> Option<Self> {
        if let Shape::Scalar { text, .. } = &node.shape {
            let hint = (!text.trim().is_empty()).then(|| format!("write `{}`", in_words(text)));
            return mismatch(node, path, "a list: a program and its arguments", hint, diagnosis);
        }
        Vec::from_node(node, path, diagnosis).map(Command)
    }
}

/// How a command is written as a list: its words, or as a shell's where it has what only a shell understands.
pub fn in_words(command: &str) -> String {
    let is_shells = command.contains(|c: char| "|&;<>()$`\\\"'*?~#{}\n".contains(c));
    let words = if is_shells { vec!["sh", "-c", command.trim()] } else { command.split_whitespace().collect() };
    yaml::inline(&words.into())
}

/// The rewards of a recipe, as they may be written.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub(super) struct Rewards(pub Vec<Reward>);

impl FromNode for Rewards {
    fn from_node(node: &Node, path: &str, diagnosis: &mut Diagnosis) -> Option<Self> {
        let Shape::List(items) = &node.shape else {
            let hint = Some("for example `[{kind: regex, pattern: '[0-9]+'}]`".to_owned());
            return mismatch(node, path, "a list of rewards", hint, diagnosis);
        };
        let mut rewards: Vec<Reward> = Vec::new();
        for (i, item) in items.iter().enumerate() {
            let own = format!("{path}[{i}]");
            diagnosis.give(&own, item.mark);
            if !matches!(item.shape, Shape::Map(_)) {
                mismatch::<()>(item, &own, "`{kind: ..}`", None, diagnosis);
                continue;
            }
            let reward = Section::read(Some(item), Some(item.mark), own.clone(), diagnosis, Reward::read);
            if diagnosis.is_wrong(&format!("{own}.kind")) || diagnosis.given(&format!("{own}.kind")).is_none() {
                continue;
            }
            keys_of_its_kind(&reward, &own, item, diagnosis);
            if let Some(first) = rewards.iter().position(|other| other.name == reward.name) {
                let what = format!("`{path}[{first}]` and `{own}` are both called `{}` in logs", reward.name);
                diagnosis.wrong(&own, &item.mark, what, Some("give one of them another `name`".into()));
            }
            rewards.push(reward);
        }
        Some(Rewards(rewards))
    }
}

/// Reports keys that are not of a reward's kind, and those that are missing.
fn keys_of_its_kind(reward: &Reward, path: &str, node: &Node, diagnosis: &mut Diagnosis) {
    let kind = reward.kind.name();
    for (key, example) in KEYS {
        let own = format!("{path}.{key}");
        let needed = reward.kind.keys().iter().find(|known| known.trim_end_matches('!') == key);
        match (diagnosis.given(&own), needed) {
            (Some(mark), None) => {
                let known = reward.kind.keys().iter().map(|key| format!("`{}`", key.trim_end_matches('!')));
                let what = format!("`{own}` does nothing with `kind: {kind}`");
                let hint = format!("it has {}; leave this one out", known.collect::<Vec<_>>().join(", "));
                diagnosis.wrong(&own, &mark, what, Some(hint));
            }
            (None, Some(needed)) if needed.ends_with('!') && !diagnosis.is_wrong(&own) => {
                diagnosis.missing(&own, Some(node.mark), example);
            }
            _ => {}
        }
    }
    if reward.kind == RewardKind::JsonSchema {
        let (schema, file) = (format!("{path}.schema"), format!("{path}.schema_file"));
        if reward.schema.is_some() && reward.schema_file.is_some() {
            let what = format!("`{schema}` and `{file}` both say what is valid");
            diagnosis.wrong(path, &node.mark, what, Some("keep one of them".into()));
        } else if reward.schema.is_none() && reward.schema_file.is_none() && !diagnosis.is_wrong(path) {
            let what = format!("`{path}`: `kind: json_schema` needs `schema` or `schema_file`");
            let hint = "for example `schema: {type: object, required: [name]}`";
            diagnosis.wrong(path, &node.mark, what, Some(hint.into()));
        }
    }
    if reward.kind != RewardKind::Length {
        return;
    }
    match (reward.min, reward.max) {
        (None, None) => {
            let what = format!("`{path}`: `kind: length` needs `min` or `max`");
            diagnosis.wrong(path, &node.mark, what, Some("for example `max: 100`".into()));
        }
        (Some(min), Some(max)) if min > max => {
            let what = format!("`{path}.min` is {min}, and `max` is {max}");
            diagnosis.wrong(path, &node.mark, what, Some("no length is from `min` to `max`".into()));
        }
        _ => {}
    }
}

/// Names are parts of the names of metrics.
fn good_name(name: &str) -> Verdict {
    let is_good = |c: char| c.is_alphanumeric() || "_-.".contains(c);
    let wrong = name.is_empty() || !name.chars().all(is_good);
    wrong.then(|| ("must be of letters, digits, `_`, `-` and `.`".into(), None))
}

fn good_pattern(pattern: &str) -> Verdict {
    match regex::Regex::new(pattern) {
        Ok(_) => None,
        Err(error) => {
            let why = error.to_string();
            let why = why.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
            Some((format!("must be a regular expression ({why})"), Some("quotes of YAML: `'..'` keeps `\\`".into())))
        }
    }
}

fn good_command(Command(command): &Command) -> Verdict {
    let is_empty = command.first().is_none_or(|program| program.trim().is_empty());
    is_empty.then(|| ("must name a program".into(), Some("for example `[python3, judge.py]`".into())))
}
