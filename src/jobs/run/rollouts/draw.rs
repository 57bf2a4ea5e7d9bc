//! Answers as a model gives them: several to each prompt, drawn at random.

use crate::error::{Error, Kind, Result};
use crate::infer::{AnswerId, Choose, Engine, EngineOptions, Event, FinishReason, Prompt, Request, Sampler, Sampling};
use crate::model::{Inputs, LanguageModel};
use crate::nn::SidePath;
use crate::random::{Label, Rng};
use crate::recipe::{Grpo, Training};
use crate::text::Encoder;
use crate::train::event::{Doing, Underway};
use crate::train::step::Watch;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

/// Answers that are given at once where a step has more.
const AT_ONCE: usize = 16;

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Its tokens, the one that ends it too.
    pub tokens: Vec<u32>,
    /// How many of them it says.
    pub said: usize,
    /// Whether it was cut off.
    pub is_cut: bool,
}

/// How answers are drawn.
pub struct Drawing<'a> {
    /// What the recipe says of them.
    pub keys: &'a Grpo,
    /// Answers to a prompt.
    pub group: usize,
    /// Answers that are given at once.
    pub at_once: usize,
    /// Tokens that end an answer.
    pub stop_ids: &'a [u32],
    /// Reads answers, for texts that end them.
    pub encoder: &'a Arc<Encoder>,
    /// Decides what is drawn.
    pub rng: Rng,
}

/// Answers that a run gives at once: of a step's all, or as many as there is no harm in, but never less than a group, which shares
/// its prompt.
pub fn at_once(keys: &Grpo, training: &Training) -> usize {
    let answers = training.per_device_train_batch_size.saturating_mul(training.gradient_accumulation_steps);
    answers.min(AT_ONCE).max(keys.num_generations)
}

/// Chooses tokens, and takes them down: which of several tokens ends an answer, the engine does not say.
struct Taking {
    sampler: Sampler,
    taken: Arc<Mutex<Vec<u32>>>,
    ends: Option<Ends>,
}

/// Texts that end an answer.
#[derive(Clone)]
struct Ends {
    encoder: Arc<Encoder>,
    texts: Vec<String>,
    /// A token at which the engine ends an answer.
    token: u32,
}

impl Ends {
    /// Whether what was said last has one of the texts in it.
    fn are_in(&self, said: &[u32]) -> bool {
        let longest = self.texts.iter().map(String::len).max().unwrap_or(0);
        let last = &said[said.len().saturating_sub(longest + 4)..]; // a token has a byte at least
        let text = self.encoder.decode(last);
        self.texts.iter().any(|end| text.contains(end.as_str()))
    }
}

impl Choose for Taking {
    fn choose(&mut self, logits: &[f32], said: &[u32]) -> u32 {
        if let Some(ends) = self.ends.as_ref().filter(|ends| ends.are_in(said)) {
            return ends.token;
        }
        let Sampler { sampling, random } = &mut self.sampler;
        let token = sampling.draw(logits, random);
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).push(token);
        token
    }
}

impl Drawing<'_> {
    /// Answers to each of these prompts, one prompt after the other; `None` where `watch` stopped it first. They are drawn by the numbers
    /// of a purpose, a step, counted from 0, and their own from `first` on.
    ///
    /// # Errors
    /// When the model computes numbers that are not finite.
    pub fn answers(
        &self,
        model: &dyn LanguageModel,
        side: &dyn SidePath,
        prompts: &[Inputs],
        (purpose, step, first): (&str, u64, usize),
        watch: &mut Watch<Underway>,
    ) -> Result<Option<Vec<Answer>>> {
        let group = self.group;
        let taken: Vec<Arc<Mutex<Vec<u32>>>> = (0..prompts.len() * group).map(|_| Arc::default()).collect();
        let options = EngineOptions { most_running: self.at_once.max(group), ..EngineOptions::default() };
        let mut engine = Engine::new(model, options);
        for (at, prompt) in prompts.iter().enumerate() {
            let choosers = (at * group..(at + 1) * group).map(|answer| {
                let number = (first + answer) as u64;
                let labels = [Label::Purpose(purpose), Label::Step(step), Label::Micro(number)];
                self.chooser(&labels, &taken[answer])
            });
            let request = Request {
                prompt: Prompt::of(prompt.clone()),
                side: 0,
                choosers: choosers.collect(),
                stop: self.stop_ids.to_vec(),
                max_new_tokens: self.keys.max_completion_length,
                priority: 0,
                drafts: 0,
            };
            engine.submit(request).map_err(|refusal| refusal.error())?;
        }
        let mut reasons = vec![FinishReason::Length; taken.len()];
        let mut underway = Underway { doing: Doing::Answering, done: 0, of: taken.len(), tokens: 0 };
        while !engine.is_idle() {
            if watch.stop.load(Ordering::SeqCst) {
                return Ok(None);
            }
            for event in engine.step(&[side]) {
                match event {
                    Event::Token(..) => underway.tokens += 1,
                    Event::Done(AnswerId { request, answer }, reason) => {
                        reasons[request as usize * group + answer] = reason;
                        underway.done += 1;
                    }
                }
            }
            (watch.on_progress)(underway);
        }
        let taken = taken.iter().map(|taken| taken.lock().unwrap_or_else(PoisonError::into_inner).clone());
        taken.zip(reasons).map(|(tokens, reason)| self.answer(tokens, reason)).collect::<Result<_>>().map(Some)
    }

    fn chooser(&self, labels: &[Label], taken: &Arc<Mutex<Vec<u32>>>) -> Box<dyn Choose> {
        let Grpo { temperature, top_p, top_k, .. } = *self.keys;
        let sampler = Sampler { sampling: Sampling { temperature, top_k, top_p }, random: self.rng.stream(labels) };
        Box::new(Taking { sampler, taken: taken.clone(), ends: self.ends() })
    }

    /// The texts that end an answer, where there are any.
    fn ends(&self) -> Option<Ends> {
        let token = *self.stop_ids.first().filter(|_| !self.keys.stop.is_empty())?;
        Some(Ends { encoder: self.encoder.clone(), texts: self.keys.stop.clone(), token })
    }

    fn answer(&self, tokens: Vec<u32>, reason: FinishReason) -> Result<Answer> {
        let said = match tokens.last() {
            Some(last) if reason == FinishReason::Stop && self.stop_ids.contains(last) => tokens.len() - 1,
            _ => tokens.len(),
        };
        let ends_in_text = || self.ends().is_some_and(|ends| ends.are_in(&tokens));
        match reason {
            FinishReason::NotFinite => {
                let what = format!("the model computed numbers that are not finite after {said} tokens of an answer");
                Err(Error::new(Kind::NonFinite, what).hint("lower `training.learning_rate`: the adapter has diverged"))
            }
            FinishReason::Stop => Ok(Answer { tokens, said, is_cut: false }),
            FinishReason::Length => Ok(Answer { is_cut: !ends_in_text(), said, tokens }),
        }
    }
}
