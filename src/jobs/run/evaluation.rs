//! Losses on the data of a run.

use crate::adapter::Adapter;
use crate::data::{Binning, Dataset};
use crate::error::{Error, Kind, Result};
use crate::jobs::run::batches::evaluation_batches;
use crate::jobs::run::data::Data;
use crate::jobs::run::samples::Prompts;
use crate::model::LanguageModel;
use crate::nn::{BaseOnly, SidePath};
use crate::train::backprop;
use crate::train::micro_batch::MicroBatch;
use crate::train::run::Evaluation;
use std::sync::atomic::AtomicBool;

/// The frozen model's loss on the first training rows: other than expected, the model or the template is wrong.
///
/// # Errors
/// When a row cannot be read.
pub fn base_loss(model: &dyn LanguageModel, data: &Data) -> Result<f64> {
    // Enough to tell a right model from a wrong one, little enough to wait for.
    const TOKENS: usize = 256;
    let first = evaluation_batches(&data.train, data.binning)?.take(1);
    Ok(mean(model, &BaseOnly, first.map(|batch| Ok(batch?.truncated(TOKENS))), &backprop::NEVER)?.0)
}

/// An adapter on the evaluation data, with its answers to `prompts`; without such data it has no loss.
///
/// # Errors
/// When a row cannot be read; [`Kind::Interrupted`] once `stop` is set.
pub fn evaluate(
    model: &dyn LanguageModel,
    adapter: &Adapter,
    data: &Data,
    prompts: Option<&Prompts>,
    stop: &AtomicBool,
) -> Result<Evaluation> {
    let (loss, tokens) = match &data.eval {
        Some(eval) => mean(model, adapter, evaluation_batches(eval, data.binning)?, stop)?,
        None => (f64::NAN, 0),
    };
    let samples = match prompts {
        Some(prompts) => prompts.answer(model, adapter, stop).ok_or_else(interrupted)?,
        None => Vec::new(),
    };
    Ok(Evaluation { loss, tokens, samples })
}

/// The mean loss over a data set, and its supervised tokens.
///
/// # Errors
/// When a row cannot be read.
pub fn mean_loss(
    model: &dyn LanguageModel,
    side: &dyn SidePath,
    dataset: &Dataset,
    binning: Binning,
) -> Result<(f64, u64)> {
    mean(model, side, evaluation_batches(dataset, binning)?, &backprop::NEVER)
}

fn interrupted() -> Error {
    Error::new(Kind::Interrupted, "the evaluation was interrupted")
}

fn mean(
    model: &dyn LanguageModel,
    side: &dyn SidePath,
    batches: impl Iterator<Item = Result<MicroBatch>>,
    stop: &AtomicBool,
) -> Result<(f64, u64)> {
    let (mut sum, mut tokens) = (0.0, 0);
    for batch in batches {
        let batch = batch?;
        sum += backprop::loss_unless(stop, model, side, &batch).ok_or_else(interrupted)?;
        tokens += batch.supervised() as u64;
    }
    Ok((sum / (tokens as f64).max(1.0), tokens))
}
