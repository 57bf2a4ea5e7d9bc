//! Answers to a fixed batch of prompts.

use crate::infer::Sampling;
use crate::infer::engine::{CacheDtype, Engine, EngineOptions, Pace};
use crate::infer::request::{Event, Generated, Prompt, Refusal, Request, Sampler};
use crate::model::{Inputs, LanguageModel};
use crate::nn::SidePath;
use crate::random::{Label, Rng};
use std::ops::ControlFlow;

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
    /// See [`Request::drafts`]; a batch of several prompts guesses nothing.
    pub drafts: usize,
    /// See [`EngineOptions::cache_dtype`].
    pub cache_dtype: CacheDtype,
}

impl GenerationSettings {
    /// Asks for one answer to a prompt, by its number after the first.
    pub fn request(&self, prompt: Prompt, number: usize) -> Request {
        let number = (self.first_prompt + number) as u64;
        let random = Rng::new(self.seed).stream(&[Label::Purpose("sample"), Label::Step(number)]);
        Request {
            prompt,
            side: 0,
            choosers: vec![Box::new(Sampler { sampling: self.sampling, random })],
            stop: self.stop.clone(),
            max_new_tokens: self.max_new_tokens,
            priority: 0,
            drafts: self.drafts,
        }
    }
}

/// Continues several prompts at once, as one batch from the first token to the last. `on_token(prompt, token)` sees each
/// token as it comes and may end everything early. The answers do not depend on how prompts are batched, but for rounding; the
/// same batch has the same answers.
pub fn generate(
    model: &dyn LanguageModel,
    side: &dyn SidePath,
    prompts: &[Inputs],
    settings: &GenerationSettings,
    mut on_token: impl FnMut(usize, u32) -> ControlFlow<()>,
) -> Vec<Generated> {
    let pace = if prompts.len() > 1 { Pace::Together } else { Pace::Mixed };
    let most_running = prompts.len();
    let options = EngineOptions { most_running, pace, cache_dtype: settings.cache_dtype, ..EngineOptions::default() };
    let mut engine = Engine::new(model, options);
    let mut answers = vec![Generated::nothing(); prompts.len()];
    // A prompt to which there is nothing to say has said it.
    let asked: Vec<usize> = (0..prompts.len())
        .filter(|&number| {
            let request = settings.request(Prompt::of(prompts[number].clone()), number);
            engine.submit(request) != Err(Refusal::Nothing)
        })
        .collect();
    while !engine.is_idle() {
        for event in engine.step(&[side]) {
            match event {
                Event::Token(id, token) => {
                    let prompt = asked[id.request as usize];
                    answers[prompt].tokens.push(token);
                    if on_token(prompt, token).is_break() {
                        return answers;
                    }
                }
                Event::Done(id, reason) => answers[asked[id.request as usize]].finish_reason = reason,
            }
        }
    }
    answers
}
