//! Losses on the data of a run.

use crate::adapter::Adapter;
use crate::data::Dataset;
use crate::error::{Error, Kind, Result};
use crate::infer::score;
use crate::jobs::run::batches::{Wanted, evaluation_batches, evaluation_rows};
use crate::jobs::run::data::Data;
use crate::jobs::run::reference::Reference;
use crate::jobs::run::samples::Prompts;
use crate::model::LanguageModel;
use crate::nn::SidePath;
use crate::progress::Progress;
use crate::train::backprop;
use crate::train::event::{Doing, Underway};
use crate::train::micro_batch::MicroBatch;
use crate::train::objective::{Counts, Goal, Metrics, Objective, Sft};
use crate::train::run::Evaluation;
use crate::train::step::Watch;
use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;

/// Times the loss of guessing: a model whose loss is higher is not one that was trained, whatever the text.
const SUSPICIOUS: f64 = 3.0;

/// Times the loss of guessing that no model reaches whose weights are its own: the numbers that it computes mean nothing.
const HOPELESS: f64 = 100.0;

/// Times the loss of the base that an adapter does not reach which was trained on it, on whatever rows.
const MUCH_WORSE: f64 = 1.5;

/// What to say of a base whose `loss` is far worse than that of guessing among so many `words`; `None` where it may be
/// right, or is no number, which a step will say.
///
/// # Errors
/// A loss that no working model has.
pub fn suspicion(loss: f64, words: usize) -> Result<Option<String>> {
    let guessing = (words as f64).ln();
    if !loss.is_finite() || loss <= SUSPICIOUS * guessing {
        return Ok(None);
    }
    let shown = if loss < 1e6 { format!("{loss:.1}") } else { format!("{loss:.1e}") };
    let what = format!("the loss of the base model on the first rows is {shown}, and {guessing:.1} would be guessing");
    let why = "its weights are damaged, or its tokenizer and they are of different models";
    if loss > HOPELESS * guessing {
        return Err(Error::new(Kind::Weights, format!("{what}: no working model has such a loss")).hint(why));
    }
    Ok(Some(format!("warning: {what}: {why}")))
}

/// What to say of an adapter that is continued, and with which the first loss is worse than guessing, and far worse than
/// that of the base alone: norms keep the loss of the wildest adapter low.
pub fn suspicion_of_adapter(loss: f64, base_loss: f64, words: usize) -> Option<String> {
    let is_wild = loss.is_finite() && loss > (words as f64).ln() && loss > MUCH_WORSE * base_loss;
    is_wild.then(|| {
        format!(
            "warning: the loss with the adapter that is continued is {loss:.1} on the first rows, and {base_loss:.1} without \
             it: it is damaged, or was trained on another base"
        )
    })
}

/// A model's loss on the first training rows, beside which `side` runs: other than expected, the model or the template is
/// wrong.
///
/// # Errors
/// When a row cannot be read.
pub fn first_loss(model: &dyn LanguageModel, side: &dyn SidePath, data: &Data) -> Result<f64> {
    // Enough to tell a right model from a wrong one, little enough to wait for.
    const TOKENS: usize = 256;
    const SUPERVISED: usize = 16;
    let first = evaluation_batches(&data.train, data.features.as_ref(), data.binning)?.take(1);
    // Of rows that are prompts alone, how well these are known.
    let all = |batch: MicroBatch| if batch.supervised() == 0 { batch.with_prompts() } else { batch };
    let first = first.map(|batch| Ok(all(batch?).beginning(TOKENS, SUPERVISED)));
    Ok(mean(&Sft, model, side, first, &backprop::NEVER)?.loss.unwrap_or(f64::NAN))
}

/// An adapter on the evaluation data, measured by the run's objective and what the policy that it starts from says of these
/// rows, with its answers to `prompts`; without such data it has no loss. `watch` is told of the rows that were read and
/// of the answers that were given.
///
/// # Errors
/// When a row cannot be read; [`Kind::Interrupted`] once `stop` is set.
pub fn evaluate(
    model: &dyn LanguageModel,
    adapter: &Adapter,
    data: &Data,
    (objective, reference): (&dyn Objective, Option<&Reference>),
    prompts: Option<&Prompts>,
    Watch { stop, on_progress }: Watch<Underway>,
) -> Result<Evaluation> {
    let mut evaluation = match &data.eval {
        Some(eval) => {
            let wanted = Wanted { needs: objective.needs(), reference, shares: true };
            let batches = evaluation_rows(eval, data.features.as_ref(), data.binning, wanted)?;
            // Of a pair there are two sequences.
            let (of, each, mut done) = (eval.len(), if eval.has_pairs() { 2 } else { 1 }, 0);
            let batches = batches.map(|batch| {
                let (batch, rows) = batch?;
                on_progress(Underway { doing: Doing::Reading, done, of, tokens: 0 });
                done += rows.len() / each;
                Ok(batch)
            });
            mean(objective, model, adapter, batches, stop)?
        }
        None => Evaluation { loss: None, tokens: 0, metrics: BTreeMap::new(), samples: Vec::new() },
    };
    if let Some(prompts) = prompts {
        let watch = Watch { stop, on_progress };
        evaluation.samples = prompts.answer(model, adapter, watch).ok_or_else(interrupted)?;
    }
    Ok(evaluation)
}

/// What a model makes of each row of a data set.
#[derive(Debug, Clone, PartialEq)]
pub struct RowLosses {
    /// The mean loss of a supervised token, as [`evaluate`] measures it.
    pub loss: f64,
    /// Supervised tokens.
    pub tokens: u64,
    /// Of each row the summed loss and the supervised tokens.
    pub rows: Vec<Vec<f64>>,
    /// Of each pair how much more likely its preferred answer is than the other, in nats; of other rows nothing.
    pub margins: Vec<f64>,
}

/// The losses of each row of a data set of a run's data; `progress` is told of each. Of pairs they are those of the preferred answers,
/// and of judged answers those of the good ones.
///
/// # Errors
/// When a row cannot be read.
pub fn row_losses(
    model: &dyn LanguageModel,
    side: &dyn SidePath,
    dataset: &Dataset,
    data: &Data,
    progress: &dyn Progress,
) -> Result<RowLosses> {
    let (mut sum, mut tokens) = (0.0, 0);
    let has_pairs = dataset.has_pairs();
    let mut rows = vec![vec![0.0, 0.0]; dataset.len()];
    let mut margins = vec![0.0; if has_pairs { dataset.len() } else { 0 }];
    for batch in evaluation_rows(dataset, data.features.as_ref(), data.binning, Wanted::default())? {
        let (batch, numbers) = batch?;
        let losses = backprop::losses(model, side, &batch);
        let is_counted = |segment: usize| match has_pairs {
            true => segment.is_multiple_of(2),
            false => batch.desirable.get(segment) != Some(&false),
        };
        if has_pairs {
            for (row, pair) in numbers.iter().step_by(2).zip(batch.log_probabilities(&losses).chunks_exact(2)) {
                margins.get_mut(*row as usize).into_iter().for_each(|margin| *margin = pair[0] - pair[1]);
            }
        }
        let ranges = batch.inputs.segments.ranges();
        let mut of_batch = 0.0;
        for (at, loss) in batch.rows.iter().zip(losses) {
            let segment = ranges.partition_point(|range| range.end <= *at as usize);
            if !is_counted(segment) {
                continue;
            }
            of_batch += loss;
            tokens += 1;
            if let Some(row) = numbers.get(segment).and_then(|row| rows.get_mut(*row as usize)) {
                row[0] += loss;
                row[1] += 1.0;
            }
        }
        sum += of_batch;
        progress.advance(if has_pairs { numbers.len() / 2 } else { numbers.len() } as u64);
    }
    Ok(RowLosses { loss: sum / (tokens as f64).max(1.0), tokens, rows, margins })
}

/// What a reward model gives the two answers of each row of a data set of a run's data; `progress` is told of each.
///
/// # Errors
/// When a row cannot be read.
pub fn pair_rewards(
    model: &dyn LanguageModel,
    side: &dyn SidePath,
    dataset: &Dataset,
    data: &Data,
    progress: &dyn Progress,
) -> Result<Vec<[f64; 2]>> {
    let mut rewards = vec![[f64::NAN; 2]; dataset.len()];
    for batch in evaluation_rows(dataset, data.features.as_ref(), data.binning, Wanted::default())? {
        let (batch, numbers) = batch?;
        let said = score::rewards(model, side, &batch.inputs).unwrap_or_default();
        for (row, pair) in numbers.iter().step_by(2).zip(said.chunks_exact(2)) {
            rewards.get_mut(*row as usize).into_iter().for_each(|reward| *reward = [pair[0], pair[1]]);
        }
        progress.advance(numbers.len() as u64 / 2);
    }
    Ok(rewards)
}

/// What a reward model gives each row of a data set of a run's data that is judged by itself, and how it was judged; `progress` is told
/// of each.
///
/// # Errors
/// When a row cannot be read, or was judged by nobody.
pub fn row_rewards(
    model: &dyn LanguageModel,
    side: &dyn SidePath,
    dataset: &Dataset,
    data: &Data,
    progress: &dyn Progress,
) -> Result<Vec<(f64, bool)>> {
    let mut rewards = vec![(f64::NAN, false); dataset.len()];
    for batch in evaluation_rows(dataset, data.features.as_ref(), data.binning, Wanted::default())? {
        let (batch, numbers) = batch?;
        if batch.desirable.len() != numbers.len() {
            return Err(Error::new(Kind::Data, "the rows are no pairs of answers, and have no labels")
                .hint("a reward model is measured on rows that somebody has judged: `preference`, or `unpaired`"));
        }
        let said = score::rewards(model, side, &batch.inputs).unwrap_or_default();
        for ((row, reward), is_good) in numbers.iter().zip(said).zip(&batch.desirable) {
            rewards.get_mut(*row as usize).into_iter().for_each(|row| *row = (reward, *is_good));
        }
        progress.advance(numbers.len() as u64);
    }
    Ok(rewards)
}

/// What an evaluation fails with where the run is to stop first.
pub fn interrupted() -> Error {
    Error::new(Kind::Interrupted, "the evaluation was interrupted")
}

fn mean(
    objective: &dyn Objective,
    model: &dyn LanguageModel,
    side: &dyn SidePath,
    batches: impl Iterator<Item = Result<MicroBatch>>,
    stop: &AtomicBool,
) -> Result<Evaluation> {
    let (mut sum, mut token_sum, mut metrics) = (0.0, 0.0, Metrics::default());
    let (mut counts, mut tokens) = (Counts::default(), 0);
    for batch in batches {
        let batch = batch?;
        let goal = Goal::of(objective, std::slice::from_ref(&batch));
        let score = backprop::score_unless(stop, model, side, &batch, goal).ok_or_else(interrupted)?;
        sum += score.loss;
        token_sum += score.token_loss;
        metrics.add(&score.metrics);
        counts = counts + objective.counts(&batch);
        tokens += batch.supervised() as u64;
    }
    let loss = Some(counts.mean(sum, token_sum));
    Ok(Evaluation { loss, tokens, metrics: metrics.means(), samples: Vec::new() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_far_above_guessing_are_said_and_impossible_ones_refused() {
        let of = |loss| suspicion(loss, 262_144);
        for right in [0.0, 2.5, 12.5, 30.0, f64::NAN, f64::INFINITY] {
            assert_eq!(of(right).unwrap(), None, "{right}");
        }
        let said = of(64.0).unwrap().unwrap();
        assert!(
            said.starts_with(
                "warning: the loss of the base model on the first rows is 64.0, and 12.5 would be guessing"
            )
        );
        let refused = of(8.9e18).unwrap_err();
        assert!(refused.what().contains("is 8.9e18") && refused.exit_code() == 2, "{refused}");
        for (loss, base_loss, is_said) in
            [(14.0, 3.0, true), (11.0, 3.0, false), (14.0, 12.0, false), (f64::NAN, 3.0, false)]
        {
            assert_eq!(suspicion_of_adapter(loss, base_loss, 262_144).is_some(), is_said, "{loss}, {base_loss}");
        }
    }
}
