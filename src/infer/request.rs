//! What is asked of an engine, and what it says to that.

use crate::error::{Error, Kind, Result};
use crate::infer::Sampling;
use crate::model::Inputs;
use crate::random::Stream;
use std::fmt;

/// Chooses the tokens of one answer.
pub trait Choose: Send {
    /// The next token, given the logits of every word and what has been said. It is asked once for each token, in their
    /// order; a stop token ends the answer. All logits are finite.
    fn choose(&mut self, logits: &[f32], said: &[u32]) -> u32;
}

/// Draws tokens from the model's probabilities, with random numbers of its own.
#[derive(Debug, Clone)]
pub struct Sampler {
    /// How.
    pub sampling: Sampling,
    /// Decides what is drawn.
    pub random: Stream,
}

impl Choose for Sampler {
    fn choose(&mut self, logits: &[f32], _: &[u32]) -> u32 {
        self.sampling.choose(logits, &mut self.random)
    }
}

/// Something to answer: one sequence.
#[derive(Debug, Clone)]
pub struct Prompt {
    /// Its tokens.
    pub inputs: Inputs,
    /// A hash of what each of its soft tokens show. What has none is never taken for what another prompt showed.
    pub contents: Vec<[u8; 32]>,
}

impl Prompt {
    /// A prompt without soft tokens, or whose soft tokens are its own.
    pub fn of(inputs: Inputs) -> Self {
        Prompt { inputs, contents: Vec::new() }
    }

    /// How many tokens it has.
    pub fn tokens(&self) -> usize {
        self.inputs.input_ids.len()
    }

    /// How many tokens at its beginning are those of `ids`, whose soft tokens show `contents`. It ends within no soft tokens.
    pub(super) fn shared_with(&self, ids: &[u32], contents: &[[u8; 32]]) -> usize {
        let same = self.inputs.input_ids.iter().zip(ids).take_while(|(a, b)| a == b).count();
        let soft = self.inputs.soft_tokens.iter().enumerate().take_while(|(_, soft)| soft.rows.start < same);
        let shows_another = |at: usize| self.contents.get(at).is_none_or(|own| contents.get(at) != Some(own));
        let mut differs = soft.filter(|(at, soft)| soft.rows.end > same || shows_another(*at));
        differs.next().map_or(same, |(_, soft)| soft.rows.start)
    }

    /// What the soft tokens among the first `tokens` tokens show.
    pub(super) fn contents_of(&self, tokens: usize) -> Vec<[u8; 32]> {
        let read = self.inputs.soft_tokens.iter().take_while(|soft| soft.rows.end <= tokens).count();
        self.contents.iter().take(read).copied().collect()
    }

    /// The most tokens of it that are read at once where pieces of about `piece` are.
    pub(super) fn longest_piece(&self, piece: usize) -> usize {
        let soft = self.inputs.soft_tokens.iter().map(|soft| soft.rows.len()).max();
        (piece + soft.unwrap_or(0)).min(self.tokens())
    }
}

/// A prompt, and how it is answered.
pub struct Request {
    /// What is read.
    pub prompt: Prompt,
    /// What runs beside the model: its place among those that each step is given.
    pub side: usize,
    /// One for each answer. The prompt is read once for all of them.
    pub choosers: Vec<Box<dyn Choose>>,
    /// Tokens that end an answer; they are not part of it.
    pub stop: Vec<u32>,
    /// At most this many new tokens per answer.
    pub max_new_tokens: usize,
    /// Those of a higher one come first; among equals, those that came first.
    pub priority: i32,
    /// The most tokens that are guessed at once, from what follows the same words earlier on, and then checked; 0 for none.
    /// No token of an answer depends on it.
    pub drafts: usize,
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (tokens, answers) = (self.prompt.tokens(), self.choosers.len());
        write!(f, "Request({tokens} tokens, {answers} answers of at most {})", self.max_new_tokens)
    }
}

/// Which answer: that of a request, by the number that the engine gave it, and of which of its choosers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AnswerId {
    /// The number of the request; they count up from 0.
    pub request: u64,
    /// The number of the answer among the request's.
    pub answer: usize,
}

/// What happened to an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// The next token of an answer.
    Token(AnswerId, u32),
    /// An answer has ended.
    Done(AnswerId, FinishReason),
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
    /// An answer of which nothing has been said.
    pub fn nothing() -> Self {
        Generated { tokens: Vec::new(), finish_reason: FinishReason::Length }
    }

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

/// Why a request is not taken. It would be answered neither now nor later, but for [`Refusal::QueueFull`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// There is nothing to read, or nothing to say.
    Nothing,
    /// The keys and values of its prompt and answers would need more memory than there is for all.
    NeedsMemory {
        /// What it would need.
        needed_bytes: u64,
        /// What there is.
        budget_bytes: u64,
    },
    /// It wants more answers than are ever given at once.
    TooManyAnswers {
        /// As many are.
        most: usize,
    },
    /// As many requests as may wait are waiting.
    QueueFull,
}

impl Refusal {
    /// The same in words.
    pub fn error(self) -> Error {
        match self {
            Refusal::Nothing => Error::new(Kind::Data, "there is nothing to read, or nothing to say"),
            Refusal::NeedsMemory { needed_bytes, budget_bytes } => {
                let what = format!(
                    "prompt and answers would need {needed_bytes} bytes of keys and values, of {budget_bytes} that there are"
                );
                Error::new(Kind::OutOfMemory, what).hint("a shorter prompt, or fewer new tokens, need less")
            }
            Refusal::TooManyAnswers { most } => {
                Error::new(Kind::Data, format!("no more than {most} answers are given at once"))
            }
            Refusal::QueueFull => Error::new(Kind::Run, "too many requests are waiting").hint("try again later"),
        }
    }
}
