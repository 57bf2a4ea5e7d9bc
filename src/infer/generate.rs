//! Batched generation with a kv cache.

use crate::error::{Error, Kind, Result};
use crate::infer::Sampling;
use crate::model::{Inputs, LanguageModel};
use crate::nn::{KvCache, Segments, SidePath};
use crate::random::{Label, Rng, Stream};
use burn::tensor::Tensor;
use std::ops::{ControlFlow, Range};
use std::sync::atomic::{AtomicBool, Ordering};

/// Prompt tokens that run at once: bounds the memory of attention scores over a long prompt.
const PREFILL_TOKENS: usize = 512;

/// How answers are generated.
#[derive(Debug, Clone)]
pub struct GenerationSettings {
    /// At most this many new tokens per answer.
    pub max_new_tokens: usize,
    /// How each is chosen.
    pub sampling: Sampling,
    /// Tokens that end an answer; they are not part of it.
    pub stop: Vec<u32>,
    /// Decides what is sampled. Each prompt has its own numbers, whatever it is batched with.
    pub seed: u64,
    /// The number of the first prompt among all that share the seed.
    pub first_prompt: usize,
}

/// Why an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FinishReason {
    /// A stop token came.
    Stop,
    /// `max_new_tokens` were generated.
    Length,
    /// The model computed a logit that is not finite, so that there was no next token; see [`Generated::checked`].
    NotFinite,
}

/// One answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Generated {
    /// Its tokens, without the stop token.
    pub tokens: Vec<u32>,
    /// Why it ended.
    pub finish_reason: FinishReason,
}

impl Generated {
    /// The answer, unless the model broke down over it.
    ///
    /// # Errors
    /// [`Kind::NonFinite`] where it ended with [`FinishReason::NotFinite`].
    pub fn checked(self) -> Result<Self> {
        if self.finish_reason != FinishReason::NotFinite {
            return Ok(self);
        }
        let what =
            format!("the model computed numbers that are not finite after {} tokens of its answer", self.tokens.len());
        Err(Error::new(Kind::NonFinite, what).hint("the model or its adapter is damaged, or had diverged in training"))
    }
}

/// Continues several prompts at once. `on_token(prompt, token)` sees each token as it comes and may end everything
/// early. The answers do not depend on how prompts are batched, but for rounding.
pub fn generate(
    model: &dyn LanguageModel,
    side: &dyn SidePath,
    prompts: &[Inputs],
    settings: &GenerationSettings,
    mut on_token: impl FnMut(usize, u32) -> ControlFlow<()>,
) -> Vec<Generated> {
    let never = AtomicBool::new(false);
    generate_cached(model, side, prompts, &mut model.cache(prompts.len()), settings, &never, &mut on_token)
}

/// Continues the sequences of `cache` by one input each, which may hold soft tokens, and then by an answer. A sequence
/// leaves the cache with its answer, but for the last: what the cache holds of that one, `cache.lengths[0]` tokens, can be
/// continued again. Once `stop` is set, everything ends.
pub fn generate_cached(
    model: &dyn LanguageModel,
    side: &dyn SidePath,
    inputs: &[Inputs],
    cache: &mut KvCache,
    settings: &GenerationSettings,
    stop: &AtomicBool,
    on_token: &mut dyn FnMut(usize, u32) -> ControlFlow<()>,
) -> Vec<Generated> {
    let mut answers = vec![Generated { tokens: Vec::new(), finish_reason: FinishReason::Length }; inputs.len()];
    let keep: Vec<bool> =
        inputs.iter().map(|input| !input.input_ids.is_empty() && settings.max_new_tokens > 0).collect();
    let rng = Rng::new(settings.seed);
    let mut rows: Vec<Row> = (0..inputs.len())
        .filter(|&i| keep[i])
        .map(|i| {
            let number = (settings.first_prompt + i) as u64;
            Row { prompt: i, random: rng.stream(&[Label::Purpose("sample"), Label::Step(number)]) }
        })
        .collect();
    if rows.is_empty() {
        return answers;
    }
    cache.retain(&keep);
    let inputs: Vec<&Inputs> = rows.iter().map(|row| &inputs[row.prompt]).collect();
    let Some(mut logits) = prefill(model, side, &inputs, cache, stop) else { return answers };
    loop {
        let mut next = Vec::with_capacity(rows.len());
        let mut keep = Vec::with_capacity(rows.len());
        for (row, logits) in rows.iter_mut().zip(logits.chunks(model.config().vocab_size())) {
            if !logits.iter().fold(true, |all, logit| all & logit.is_finite()) {
                answers[row.prompt].finish_reason = FinishReason::NotFinite;
                keep.push(false);
                continue;
            }
            let token = settings.sampling.choose(logits, &mut row.random);
            let answer = &mut answers[row.prompt];
            let stopped = settings.stop.contains(&token);
            if stopped {
                answer.finish_reason = FinishReason::Stop;
            } else {
                answer.tokens.push(token);
                if on_token(row.prompt, token).is_break() {
                    return answers;
                }
            }
            let goes_on = !stopped && answer.tokens.len() < settings.max_new_tokens;
            keep.push(goes_on);
            next.extend(goes_on.then_some(token));
        }
        let mut kept = keep.iter();
        rows.retain(|_| kept.next().copied().unwrap_or(false));
        if rows.is_empty() {
            return answers;
        }
        cache.retain(&keep);
        if stop.load(Ordering::Relaxed) {
            return answers;
        }
        let lengths = vec![1; next.len()];
        let next = Inputs::text(next, Segments::from_lengths(lengths.iter().copied()));
        let hidden = model.hidden_cached(&next, &lengths, cache, side);
        logits = self::logits(model, hidden);
    }
}

struct Row {
    prompt: usize,
    random: Stream,
}

/// Runs the prompts piece by piece and returns the logits after the last token of each; `None` once `stop` is set.
fn prefill(
    model: &dyn LanguageModel,
    side: &dyn SidePath,
    prompts: &[&Inputs],
    cache: &mut KvCache,
    stop: &AtomicBool,
) -> Option<Vec<f32>> {
    let piece = (PREFILL_TOKENS / prompts.len().max(1)).max(1);
    let mut last: Vec<Option<Tensor<2>>> = vec![None; prompts.len()];
    let mut read = vec![0; prompts.len()];
    while last.iter().any(Option::is_none) {
        if stop.load(Ordering::Relaxed) {
            return None;
        }
        let pieces: Vec<Range<usize>> =
            prompts.iter().zip(&read).map(|(prompt, &start)| start..prompt.piece_end(start, piece)).collect();
        let lengths: Vec<usize> = pieces.iter().map(Range::len).collect();
        let inputs = Inputs::joined(prompts.iter().zip(&pieces).map(|(prompt, piece)| prompt.slice(piece.clone())));
        let hidden = model.hidden_cached(&inputs, &lengths, cache, side);
        let mut end = 0;
        for (((piece, prompt), last), read) in pieces.iter().zip(prompts).zip(&mut last).zip(&mut read) {
            end += piece.len();
            if !piece.is_empty() && piece.end == prompt.input_ids.len() {
                *last = Some(hidden.clone().narrow(0, end - 1, 1));
            }
            *read = piece.end;
        }
    }
    let last: Vec<Tensor<2>> = last.into_iter().flatten().collect();
    Some(if last.is_empty() { Vec::new() } else { logits(model, Tensor::cat(last, 0)) })
}

/// The logits of each row, one after the other.
fn logits(model: &dyn LanguageModel, hidden: Tensor<2>) -> Vec<f32> {
    let logits = model.logits(hidden).into_data();
    logits.try_into_vec_as().unwrap_or_default()
}
