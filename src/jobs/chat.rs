//! Talking with a model entry by entry: what has been said, and the commands between the turns.

mod history;
pub mod input;

pub use self::history::Next;

use self::history::{End, Heard, History};
use self::input::Entry;
use crate::data::{MediaRules, Row};
use crate::error::{Error, Kind, Place, Result};
use crate::infer::{CacheDtype, Dialogue, FinishReason, GenerationSettings, Sampling};
use crate::jobs::base::peft_model::PeftModel;
use crate::jobs::media;
use crate::nn::BaseOnly;
use crate::progress::{Silent, counted};
use crate::text::{TokenStream, Tokenizer};
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};

/// The commands in a line, said at the beginning.
pub const HELP: &str =
    "/help lists the commands · /adapter off compares with the base · Ctrl-C stops an answer · Ctrl-D ends";

/// How a chat is held.
#[derive(Debug, Clone)]
pub struct ChatOptions {
    /// A system message.
    pub system: Option<String>,
    /// At most this many new tokens per answer.
    pub max_tokens: usize,
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// Decides what is sampled.
    pub seed: u64,
    /// The most tokens that are guessed at once; no answer depends on it.
    pub drafts: usize,
    /// What keys and values are held in.
    pub cache_dtype: CacheDtype,
}

/// A chat with a model, whose adapter can be switched off and on between the turns.
pub struct Chat<'a> {
    model: &'a PeftModel,
    tokenizer: &'a Tokenizer,
    options: ChatOptions,
    history: History,
    tuned_speaker: Dialogue<'a>,
    base_speaker: Dialogue<'a>,
}

impl<'a> Chat<'a> {
    /// A chat in which nothing has been said.
    ///
    /// # Errors
    /// When the model has no tokenizer.
    pub fn new(model: &'a PeftModel, options: ChatOptions) -> Result<Self> {
        let rules = MediaRules { processors: model.base.processors.clone(), ..MediaRules::default() };
        Ok(Chat {
            model,
            tokenizer: model.base.tokenizer()?,
            history: History::new(options.system.clone(), options.sampling.temperature, model.adapter.is_some(), rules),
            tuned_speaker: Dialogue::new(model.model.as_ref(), model.side(), options.cache_dtype),
            base_speaker: Dialogue::new(model.model.as_ref(), &BaseOnly, options.cache_dtype),
            options,
        })
    }

    /// Who answers next: `tuned` or `base`.
    pub fn speaker(&self) -> &'static str {
        if self.history.adapter_is_on { "tuned" } else { "base" }
    }

    /// Takes an entry: a command, or a message, whose answer goes to `show` piece by piece while it is made, until it
    /// ends or `stop` is set.
    ///
    /// # Errors
    /// A conversation that the model's template refuses, a file that cannot be written, and those of `show`. The chat can
    /// go on after each; a message that was refused has not been said.
    pub fn take(&mut self, entry: Entry, stop: &AtomicBool, show: &mut dyn FnMut(&str) -> Result<()>) -> Result<Next> {
        match self.history.take(entry)? {
            Heard::Done(next) => Ok(next),
            Heard::Message => {
                let answered = self.answer(stop, show);
                if answered.is_err() {
                    self.history.conversation.messages.pop();
                }
                let (answer, end, next) = answered?;
                self.history.answered(answer, end);
                Ok(next)
            }
        }
    }

    /// Answers the last message; says how the answer ended.
    fn answer(&mut self, stop: &AtomicBool, show: &mut dyn FnMut(&str) -> Result<()>) -> Result<(String, End, Next)> {
        let History { conversation, retries, temperature, .. } = &self.history;
        let mut row = Row::Conversation(conversation.clone());
        let named = Place::Named("/image, /audio".into());
        let features = media::rows::features([(&mut row, &named)].into_iter(), self.model, &Silent)?;
        let Row::Conversation(seen) = &row else { return Err(Error::new(Kind::Run, "a chat is a conversation")) };
        let (prompt, media) = self.model.base.encoder.prompt(seen)?;
        let contents: Vec<_> = media.iter().map(|medium| medium.content).collect();
        let prompt = media::inputs(prompt, &media, features.as_ref())?;
        // Each turn draws other numbers, and so does each try.
        let turn = conversation.messages.len() as u64 + (retries << 32);
        let generation = GenerationSettings {
            max_new_tokens: self.options.max_tokens,
            sampling: Sampling { temperature: *temperature, ..self.options.sampling },
            stop: self.model.base.stop_ids(),
            seed: self.options.seed.wrapping_add(turn),
            first_prompt: 0,
            drafts: self.options.drafts,
            cache_dtype: self.options.cache_dtype,
        };
        let mut stream = TokenStream::new(self.tokenizer.clone());
        let mut shown = Ok(());
        let speaker = if self.history.adapter_is_on { &mut self.tuned_speaker } else { &mut self.base_speaker };
        let answer = speaker.answer_unless(stop, &prompt, &contents, &generation, |token| {
            shown = stream.push(token).map_or(Ok(()), |text| show(&text));
            if shown.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        });
        shown?;
        show(&format!("{}\n", stream.finish().unwrap_or_default()))?;
        let answer = answer.checked().map_err(|e| e.or_at(Place::Named(self.model.base.name.clone())))?;
        let (tokens, most) =
            (prompt.input_ids.len() + answer.tokens.len(), self.model.base.config.max_position_embeddings());
        let end = match answer.finish_reason {
            FinishReason::Stop => End::Whole,
            _ if stop.load(Ordering::SeqCst) => End::Stopped,
            _ => End::CutOff,
        };
        let next = if end == End::Stopped {
            Next::Note("(stopped)".into())
        } else if tokens > most {
            Next::Note(format!(
                "The conversation has {}, more than the {most} that the model was made for; /clear starts anew.",
                counted(tokens, "token")
            ))
        } else if end == End::CutOff {
            Next::Note(format!("(cut off after {}, `--max-tokens`)", counted(self.options.max_tokens, "token")))
        } else {
            Next::Entry
        };
        Ok((self.tokenizer.decode(&answer.tokens, true), end, next))
    }
}
