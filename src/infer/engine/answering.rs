//! Requests, from when they come until their answers have ended.

use crate::infer::request::{AnswerId, Choose, Event, FinishReason, Prompt};
use crate::model::Inputs;
use crate::nn::Segments;
use burn::tensor::Tensor;
use std::sync::Arc;

/// A request that has not begun.
pub struct Waiting {
    pub number: u64,
    pub request: Arc<Asked>,
    pub choosers: Vec<(usize, Box<dyn Choose>)>,
}

/// One answer that is given, or whose prompt is being read.
pub struct Answering {
    pub id: AnswerId,
    pub request: Arc<Asked>,
    pub chooser: Box<dyn Choose>,
    /// The request's other answers, which begin when the prompt has been read.
    pub others: Vec<(usize, Box<dyn Choose>)>,
    pub said: Vec<u32>,
    /// Guesses at what follows the last token that was said.
    pub drafts: Vec<u32>,
    /// The rows whose logits choose the next tokens: one, and one for each guess.
    pub ready: Option<Tensor<2>>,
    /// Where the prompt parts from others, until that is read.
    pub parting: Option<usize>,
    /// Bytes set aside for each answer.
    pub each_bytes: u64,
}

/// What the answers of a request have in common.
pub struct Asked {
    pub prompt: Prompt,
    pub side: usize,
    pub stop: Vec<u32>,
    pub max_new_tokens: usize,
    pub priority: i32,
    pub drafts: usize,
}

impl Asked {
    /// The most tokens that are ever read of prompt and answer.
    pub fn most_tokens(&self) -> usize {
        self.prompt.tokens().saturating_add(self.max_new_tokens - 1)
    }
}

impl Answering {
    /// How many answers it stands for: itself, and those that begin when its prompt has been read.
    pub fn answers(&self) -> usize {
        1 + self.others.len()
    }

    /// Its next `rows` rows, of which there is one for each guess beside the last token; of its prompt `read` have been read.
    pub fn next_inputs(&self, read: usize, rows: usize) -> Inputs {
        match self.said.last() {
            Some(&last) => {
                let ids: Vec<u32> = [last].into_iter().chain(self.drafts.iter().copied()).collect();
                Inputs::text(ids, Segments::from_lengths([rows]))
            }
            None => self.request.prompt.inputs.slice(read..read + rows),
        }
    }

    /// Another answer to the same prompt, which begins where this one does.
    pub fn beside(&self, answer: usize, chooser: Box<dyn Choose>) -> Self {
        Answering {
            id: AnswerId { answer, ..self.id },
            request: self.request.clone(),
            chooser,
            others: Vec::new(),
            said: Vec::new(),
            drafts: Vec::new(),
            ready: None,
            parting: None,
            each_bytes: self.each_bytes,
        }
    }

    /// Chooses tokens from the logits of the rows, as long as they were guessed. Says how many rows were used, and whether the
    /// answer has ended.
    pub fn go_on<'l>(&mut self, rows: impl Iterator<Item = &'l [f32]>, events: &mut Vec<Event>) -> (usize, bool) {
        let mut drafts = std::mem::take(&mut self.drafts).into_iter();
        let mut used = 0;
        for logits in rows {
            used += 1;
            if !logits.iter().fold(true, |all, logit| all & logit.is_finite()) {
                events.push(Event::Done(self.id, FinishReason::NotFinite));
                return (used, true);
            }
            let token = self.chooser.choose(logits, &self.said);
            if self.request.stop.contains(&token) {
                events.push(Event::Done(self.id, FinishReason::Stop));
                return (used, true);
            }
            self.said.push(token);
            events.push(Event::Token(self.id, token));
            if self.said.len() == self.request.max_new_tokens {
                events.push(Event::Done(self.id, FinishReason::Length));
                return (used, true);
            }
            if drafts.next() != Some(token) {
                break;
            }
        }
        (used, false)
    }
}
