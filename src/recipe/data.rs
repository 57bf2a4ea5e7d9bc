//! `data`: the rows that are learnt from.

use super::diagnose::Diagnosis;
use super::kinds::{FromNode, each, mismatch};
use super::or_auto::OrAuto;
use super::preference::Task;
use super::raw::{Node, Shape};
use super::rows::{EvalFraction, Renames};
use super::rules::{Verdict, not_blank};
use super::section::{Expand, Section};
use crate::data::MAX_ROW_BYTES;
use crate::data::options::{OnBadRow, OnLong, OnLongAudio, RowFormat};
use crate::text::TrainOn;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Serialize;
use std::ops::Bound::{Excluded, Included};

/// Eight times the longest context of any Gemma 3.
const MAX_LENGTH: usize = 1 << 20;
/// What the readers of rows count in.
const LARGEST_ROW_BYTES: usize = 1 << 30;
/// The most tokens where the recipe does not say.
const LENGTH: usize = 2048;
/// The same of an answer with its prompt where preferences are learnt, as in TRL.
const PREFERENCE_LENGTH: usize = 1024;
/// More passes over the same rows are a slip of the pen.
const MAX_WEIGHT: f64 = 10_000.0;

/// The rows that are learnt from.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Data {
    /// Where training rows come from: a path, or a list of paths and `{path, format, split, weight}`.
    #[schemars(schema_with = "sources")]
    pub train: Vec<Source>,
    /// Where evaluation rows come from, in the same form; or see `eval_fraction`.
    #[schemars(schema_with = "sources")]
    pub eval: Vec<Source>,
    /// The share of the training rows that is held back for evaluation. `auto`: about a twentieth of them, at most 500, from
    /// 100 rows on, where there is no `eval`.
    pub eval_fraction: EvalFraction,
    /// How the rows of sources that do not say so themselves are laid out; `auto`: seen from the columns, and said.
    pub format: RowFormat,
    /// What columns are called, by what the format calls them: `{prompt: question, completion: answer}`.
    pub columns: Renames,
    /// Puts prompts and completions that are texts through the chat template, as `chat` and `generate` will; `false`
    /// trains them as plain text.
    pub template: bool,
    /// What the user asks in rows of an answer without a prompt, such as sounds and their transcripts or pictures and their
    /// captions: `Transcribe this recording.`
    pub prompt: Option<String>,
    /// The most tokens of a sequence: of a row (of a pair, of each answer with its prompt; of a prompt that the model answers itself, with
    /// that answer), and of the bin that rows are packed into; `auto` suits the longest row,
    /// up to 2,048.
    #[schemars(with = "OrAuto<usize>")]
    pub max_length: usize,
    /// What happens to a row of more than `max_length` tokens; without it text is split and other rows are truncated.
    pub on_long: Option<OnLong>,
    /// What happens to a sound of more than the 30 seconds that a model hears at once.
    pub on_long_audio: OnLongAudio,
    /// Shows long pictures also in pieces; without it as the model's processor file says.
    pub do_pan_and_scan: Option<bool>,
    /// What happens to a row that cannot be used.
    pub on_bad_row: OnBadRow,
    /// The most bytes of a row, as it stands in its file (for Parquet and Arrow: as JSON). A larger one cannot be used.
    pub max_row_bytes: usize,
    /// Puts several rows into one sequence, where each sees only itself; pairs of answers only where it says so.
    pub packing: bool,
    /// Which tokens are learnt. Rows of `text` and `tokens` are learnt as they are, whatever this says.
    pub train_on: TrainOn,
    /// Draws a new order of the rows for each epoch.
    pub shuffle: bool,
    /// A system message for conversations without one.
    pub system: Option<String>,
}

/// Files of rows that are laid out alike.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Source {
    /// A file, a glob (`data/*.jsonl`), or a Hub data set (`hf://datasets/owner/name[@revision][/path]`).
    pub path: String,
    /// How its rows are laid out.
    pub format: RowFormat,
    /// What its columns are called, by what the format calls them.
    pub columns: Renames,
    /// Puts prompts and completions that are texts through the chat template.
    pub template: bool,
    /// What the user asks in its rows, where they have no prompt.
    pub prompt: Option<String>,
    /// The split of a Hub data set.
    pub split: Option<String>,
    /// How often each of its rows is seen per epoch; may be a fraction.
    pub weight: f64,
}

impl Data {
    /// Whether its rows are pairs of answers to this task: none of them is judged by itself.
    pub(super) fn has_pairs(&self, task: Task) -> bool {
        task.has_pairs() && self.train.iter().chain(&self.eval).all(|source| source.format != RowFormat::Unpaired)
    }

    pub(super) fn read(section: &mut Section<'_>, task: Task) -> Self {
        let length = if task == Task::Sft { LENGTH } else { PREFERENCE_LENGTH };
        let format = section.key("format").or(RowFormat::Auto);
        let columns = section.key("columns").or(Renames::default());
        let template = section.key("template").or(true);
        let prompt: Option<String> = section.key("prompt").check(not_blank).optional();
        let Typed(train) = section.key("train").check(any_source).required("train: data/my_rows.jsonl");
        let Typed(eval) = section.key("eval").or(Typed(Vec::new()));
        let with_format = |sources: Vec<Draft>| {
            let with_defaults = |s: Draft| s.with_defaults(format, &columns, template, &prompt);
            sources.into_iter().map(with_defaults).collect()
        };
        let (train, eval): (Vec<Source>, Vec<Source>) = (with_format(train), with_format(eval));
        Data {
            train,
            eval,
            eval_fraction: section.key("eval_fraction").check(EvalFraction::wrong).or(EvalFraction::Of(0.0)),
            format,
            columns,
            template,
            prompt,
            // A sequence of one token predicts nothing.
            max_length: section
                .key("max_length")
                .auto_or_within(2..=MAX_LENGTH)
                .or_chosen(OrAuto::Value(length), length),
            on_long: section.key("on_long").optional(),
            on_long_audio: section.key("on_long_audio").or(OnLongAudio::Error),
            do_pan_and_scan: section.key("do_pan_and_scan").optional(),
            on_bad_row: section.key("on_bad_row").or(OnBadRow::Error),
            max_row_bytes: section.key("max_row_bytes").within(1..=LARGEST_ROW_BYTES).or(MAX_ROW_BYTES),
            packing: section.key("packing").or(task == Task::Sft),
            train_on: section.key("train_on").or(TrainOn::Assistant),
            shuffle: section.key("shuffle").or(true),
            system: section.key("system").check(not_blank).optional(),
        }
    }
}

/// A list of sources as the user may write it.
#[derive(Debug, Default, Serialize)]
struct Typed(Vec<Draft>);

/// A source whose format may still be the section's.
#[derive(Debug, Default, Serialize)]
pub(super) struct Draft {
    path: String,
    format: Option<RowFormat>,
    columns: Option<Renames>,
    template: Option<bool>,
    prompt: Option<String>,
    split: Option<String>,
    weight: f64,
}

impl Draft {
    pub(super) fn read(section: &mut Section<'_>) -> Self {
        Draft {
            path: section.key("path").check(not_blank).expanded().required("path: data/my_rows.jsonl"),
            format: section.key("format").optional(),
            columns: section.key("columns").optional(),
            template: section.key("template").optional(),
            prompt: section.key("prompt").check(not_blank).optional(),
            split: section.key("split").check(not_blank).optional(),
            weight: section.key("weight").within((Excluded(0.0), Included(MAX_WEIGHT))).or(1.0),
        }
    }

    fn with_defaults(self, format: RowFormat, columns: &Renames, template: bool, asked: &Option<String>) -> Source {
        let Draft { path, format: own, columns: renames, template: turns, prompt, split, weight } = self;
        let columns = renames.unwrap_or_else(|| columns.clone());
        let (format, template) = (own.unwrap_or(format), turns.unwrap_or(template));
        let prompt = prompt.or_else(|| asked.clone().filter(|_| takes_prompt(format)));
        Source { path, format, columns, template, prompt, split, weight }
    }
}

/// Whether there may be rows of this format that do not say what is asked.
pub(super) fn takes_prompt(format: RowFormat) -> bool {
    matches!(format, RowFormat::Auto | RowFormat::PromptCompletion)
}

fn any_source(Typed(sources): &Typed) -> Verdict {
    sources.is_empty().then(|| ("must name at least one source".into(), None))
}

impl FromNode for Typed {
    fn from_node(node: &Node, path: &str, diagnosis: &mut Diagnosis) -> Option<Self> {
        match &node.shape {
            // A wrong source leaves a gap without a path, so that the others are looked at under their own positions.
            Shape::List(items) => Some(Typed(each(items, path, diagnosis).map(Option::unwrap_or_default).collect())),
            // By the name that it would have among others: so its keys are looked for afterwards.
            Shape::Map(_) => {
                let path = format!("{path}[0]");
                diagnosis.give(&path, node.mark);
                Draft::from_node(node, &path, diagnosis).map(|source| Typed(vec![source]))
            }
            Shape::Scalar { .. } => Draft::from_node(node, path, diagnosis).map(|source| Typed(vec![source])),
        }
    }
}

impl FromNode for Draft {
    fn from_node(node: &Node, path: &str, diagnosis: &mut Diagnosis) -> Option<Self> {
        match &node.shape {
            Shape::Map(_) => Some(Section::read(Some(node), Some(node.mark), path.to_owned(), diagnosis, Draft::read)),
            Shape::List(_) => mismatch(node, path, "a path or `{path: ..}`", None, diagnosis),
            Shape::Scalar { .. } => {
                let text = String::from_node(node, path, diagnosis)?;
                if text.trim().is_empty() {
                    return mismatch(node, path, "a path or `{path: ..}`", None, diagnosis);
                }
                let text = match text.expand() {
                    Ok(text) => text,
                    Err(error) => {
                        diagnosis.wrong(path, &node.mark, error.what(), error.hint_text().map(Into::into));
                        return None;
                    }
                };
                Some(Draft { path: text, weight: 1.0, ..Draft::default() })
            }
        }
    }
}

/// The forms in which sources can be written.
fn sources(generator: &mut SchemaGenerator) -> Schema {
    let path = json_schema!({ "type": "string", "minLength": 1 });
    let source = Source::json_schema(generator);
    json_schema!({
        "anyOf": [path, source, { "type": "array", "items": { "anyOf": [path, source] } }]
    })
}
