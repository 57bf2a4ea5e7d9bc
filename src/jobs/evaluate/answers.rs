//! What a model answers to the prompts of evaluation rows, and how long that takes.

use crate::data::Dataset;
use crate::error::{Error, Kind, Result};
use crate::infer::{self, CacheDtype, GenerationSettings, Sampling};
use crate::jobs::base::Base;
use crate::jobs::media;
use crate::jobs::run::data::Data;
use crate::jobs::run::samples::cut;
use crate::model::{Inputs, LanguageModel};
use crate::nn::SidePath;
use crate::progress::Progress;
use crate::text::MediaRange;
use serde::Serialize;
use std::ops::ControlFlow;
use std::time::Instant;

/// How prompts are answered: with the most likely tokens.
#[derive(Debug, Clone, Copy)]
pub struct Asking {
    /// At most this many new tokens per answer.
    pub max_tokens: usize,
    /// Prompts that run at once.
    pub batch_size: usize,
    /// The first rows that have a prompt.
    pub limit: Option<usize>,
}

/// An answer beside the one that the data has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The number of the row in the data set.
    pub row: usize,
    /// What the model says.
    pub text: String,
    /// What the data says.
    pub reference: String,
}

/// How long answers took.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Latency {
    /// Seconds from a prompt to the first token of its answer, in the mean over batches.
    pub first_token_secs: f64,
    /// New tokens of all answers by all seconds.
    pub tokens_per_second: f64,
    /// New tokens.
    pub tokens: usize,
    /// Prompts that ran at once.
    pub batch_size: usize,
}

/// The number of a row, all before its last answer, the pictures and sounds in that, and the answer.
type Question = (usize, Vec<u32>, Vec<MediaRange>, Vec<u32>);

/// Answers the prompts of a data set's rows: all before the last answer.
///
/// # Errors
/// When no row has a prompt, a row cannot be read, or the model breaks down over one.
pub fn answer(
    base: &Base,
    model: &dyn LanguageModel,
    side: &dyn SidePath,
    (data, dataset): (&Data, &Dataset),
    asking: Asking,
    progress: &dyn Progress,
) -> Result<(Vec<Answer>, Latency)> {
    let tokenizer = base.tokenizer()?;
    let mut asked: Vec<Question> = Vec::new();
    for row in 0..dataset.len() {
        if asked.len() == asking.limit.unwrap_or(usize::MAX) {
            break;
        }
        let Some((prompt, media, reference)) = cut(dataset.get(row)?) else { continue };
        asked.push((row, prompt, media, reference));
    }
    if asked.is_empty() {
        let hint =
            "rows of prompts and answers do, such as `messages`; leave `--generate` and `--metrics` out for others";
        return Err(Error::new(Kind::Data, "no row has a prompt to answer").hint(hint));
    }
    let mut settings = GenerationSettings {
        max_new_tokens: asking.max_tokens,
        sampling: Sampling::GREEDY,
        stop: base.stop_ids(),
        seed: 0,
        first_prompt: 0,
        drafts: 0,
        cache_dtype: CacheDtype::F32,
    };
    progress.start("Answering", Some(asked.len() as u64), "prompts");
    let (mut answers, mut waited, mut tokens, mut secs) = (Vec::new(), Vec::new(), 0, 0.0);
    for batch in asked.chunks(asking.batch_size.max(1)) {
        // What towers say of pictures and sounds is large: of no more rows at a time than are answered.
        let inputs = |(_, prompt, media, _): &Question| media::inputs(prompt.clone(), media, data.features.as_ref());
        let prompts: Vec<Inputs> = batch.iter().map(inputs).collect::<Result<_>>()?;
        let (begun, mut first) = (Instant::now(), None);
        let on_token = |_, _| {
            first.get_or_insert_with(|| begun.elapsed().as_secs_f64());
            ControlFlow::Continue(())
        };
        let generated = infer::generate(model, side, &prompts, &settings, on_token);
        secs += begun.elapsed().as_secs_f64();
        waited.extend(first);
        settings.first_prompt += batch.len();
        for ((row, _, _, reference), generated) in batch.iter().zip(generated) {
            let place = || dataset.origin(*row).map(|origin| origin.to_string());
            let generated = generated.checked().map_err(|e| match place() {
                Ok(place) => e.at(crate::error::Place::Named(place)),
                Err(_) => e,
            })?;
            tokens += generated.tokens.len();
            let [text, reference] =
                [generated.tokens.as_slice(), reference].map(|ids| tokenizer.decode(ids, true).trim().to_owned());
            answers.push(Answer { row: *row, text, reference });
        }
        progress.advance(batch.len() as u64);
    }
    progress.finish();
    let latency = Latency {
        first_token_secs: waited.iter().sum::<f64>() / waited.len().max(1) as f64,
        tokens_per_second: if secs > 0.0 { tokens as f64 / secs } else { 0.0 },
        tokens,
        batch_size: asking.batch_size.max(1),
    };
    Ok((answers, latency))
}
