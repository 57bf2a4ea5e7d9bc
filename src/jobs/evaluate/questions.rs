//! Questions with choices: which choice a model holds for the most likely.

use crate::data::{self, MAX_ROW_BYTES};
use crate::error::{Error, Kind, Place, Result};
use crate::eval::choice::{Question, Task};
use crate::jobs::base::Base;
use crate::model::{Inputs, LanguageModel};
use crate::nn::cross_entropy::token_nll;
use crate::nn::{Segments, SidePath};
use crate::progress::{Progress, counted};
use burn::tensor::{Int, Tensor, TensorData};
use std::path::{Path, PathBuf};

/// The questions of a file.
#[derive(Debug, Clone)]
pub struct Questions {
    /// The file.
    pub path: PathBuf,
    /// Whose questions they are.
    pub task: Task,
    /// Each with its row's number.
    pub rows: Vec<(usize, Question)>,
}

impl Questions {
    /// Reads the first `most` questions of a file of rows (Parquet, JSON lines, JSON, CSV), of this task, or of the one whose
    /// columns they have.
    ///
    /// # Errors
    /// A file that cannot be read or has no rows, and every row that is no question of the task.
    pub fn read(path: &Path, task: Option<Task>, most: Option<usize>) -> Result<Self> {
        let mut rows = Vec::new();
        let mut task = task;
        let mut problems = Vec::new();
        let all = data::read_any(path, &Task::every_column(), MAX_ROW_BYTES)?;
        for (number, row) in all.into_iter().take(most.unwrap_or(usize::MAX)) {
            let at = |error: Error| error.or_at(Place::Row { path: path.into(), row: number });
            let row = row.map_err(at)?;
            let asked = match task.or_else(|| Task::of(&row)) {
                Some(found) => {
                    task = Some(found);
                    found.question(&row)
                }
                None => return Err(at(unknown(row.keys()))),
            };
            match asked {
                Ok(question) => rows.push((number, question)),
                Err(error) => problems.push(at(error)),
            }
        }
        match (Error::many(problems), task) {
            (Some(error), _) => Err(error),
            (None, Some(task)) => Ok(Questions { path: path.into(), task, rows }),
            (None, None) => Err(Error::new(Kind::Data, "the file has no rows").at_path(path)),
        }
    }
}

impl Questions {
    /// What to say of questions of which two choices say the same: published sets have some, and count like the others.
    pub(super) fn warning(&self) -> Option<String> {
        let same = || self.rows.iter().filter_map(|(row, question)| Some((row, question.equal?)));
        let (row, (one, other)) = same().next()?;
        let (all, count) = (counted(self.rows.len(), "question"), same().count());
        Some(format!(
            "of {all}, {count} with two choices that say the same, the first in row {row} ({one} and {other}): which of the two \
             is preferred says nothing"
        ))
    }
}

fn unknown<'k>(columns: impl Iterator<Item = &'k String>) -> Error {
    let found: Vec<&str> = columns.map(String::as_str).collect();
    let what = format!("these are no columns of questions with choices that are known: `{}`", found.join("`, `"));
    Error::new(Kind::Data, what).hint("ARC, HellaSwag, MMLU and PIQA are, with the columns that they have on the Hub")
}

/// A question in tokens: of each choice all that is read, and where the choice begins in it.
struct Encoded {
    sequences: Vec<Vec<u32>>,
    starts: Vec<usize>,
}

/// The tokens of a question. Context and choice are cut into tokens together; those of the choice are what the context alone
/// does not have.
fn encode(base: &Base, question: &Question) -> Result<Encoded> {
    let tokenizer = base.tokenizer()?;
    let ids =
        |text: &str| -> Result<Vec<u32>> { Ok(tokenizer.bos().into_iter().chain(tokenizer.encode(text)?).collect()) };
    // Spaces at its end belong to the choice, or its first word would be cut otherwise.
    let context = question.context.trim_end();
    let spaces = &question.context[context.len()..];
    let start = ids(context)?.len();
    let sequence = |choice: &String| ids(&format!("{context}{spaces} {choice}"));
    let sequences: Vec<Vec<u32>> = question.choices.iter().map(sequence).collect::<Result<_>>()?;
    let starts = sequences.iter().map(|ids| start.min(ids.len().saturating_sub(1)).max(1)).collect();
    Ok(Encoded { sequences, starts })
}

/// The log-likelihood of each choice of each question, in nats.
///
/// # Errors
/// A model without a tokenizer; numbers that are not finite.
pub fn loglikelihoods(
    base: &Base,
    model: &dyn LanguageModel,
    side: &dyn SidePath,
    questions: &Questions,
    progress: &dyn Progress,
) -> Result<Vec<Vec<f64>>> {
    progress.start("Asking", Some(questions.rows.len() as u64), "questions");
    let mut all = Vec::with_capacity(questions.rows.len());
    for (row, question) in &questions.rows {
        let sums = of_question(model, side, &encode(base, question)?);
        if sums.iter().any(|sum| !sum.is_finite()) {
            let place = Place::Row { path: questions.path.clone(), row: *row };
            return Err(Error::new(Kind::NonFinite, "the log-likelihood of a choice is not finite")
                .at(place)
                .hint("the model or its adapter is damaged, or had diverged in training"));
        }
        all.push(sums);
        progress.advance(1);
    }
    progress.finish();
    Ok(all)
}

/// All choices at once, each a sequence of its own.
fn of_question(model: &dyn LanguageModel, side: &dyn SidePath, encoded: &Encoded) -> Vec<f64> {
    let Encoded { sequences, starts } = encoded;
    let inputs = Inputs::text(sequences.concat(), Segments::from_lengths(sequences.iter().map(Vec::len)));
    let hidden = model.norm().forward(model.hidden(&inputs, side));
    let (mut rows, mut targets, mut first) = (Vec::new(), Vec::new(), 0);
    for (ids, &start) in sequences.iter().zip(starts) {
        rows.extend((start..ids.len()).map(|at| (first + at - 1) as i64));
        targets.extend_from_slice(&ids[start..]);
        first += ids.len();
    }
    let count = rows.len();
    let rows: Tensor<1, Int> = Tensor::from_data(TensorData::new(rows, [count]), model.device());
    let losses = token_nll(&hidden.select(0, rows), model.head(), &targets);
    let mut losses = losses.into_iter();
    let lengths = sequences.iter().zip(starts).map(|(ids, start)| ids.len() - start);
    lengths.map(|length| -losses.by_ref().take(length).sum::<f64>()).collect()
}
