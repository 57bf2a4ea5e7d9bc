//! Who runs the engine: takes what is asked, and says what comes of it, until there will be nothing more.

use super::Host;
use super::answer::{AnswerText, Brought};
use super::figures::Counts;
use super::grammar::{Broken, Hold};
use super::models::{Side, Sides};
use super::scored::{Scored, Scoring};
use crate::error::{Error, Kind, Result};
use crate::fence::fenced;
use crate::infer::{
    Adjusted, AnswerId, Choose, Engine, EngineOptions, Event, FinishReason, Prompt, Refusal, Request, Sampler,
    Sampling, score,
};
use crate::model::Inputs;
use crate::random::{Label, Rng};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::oneshot;

/// What the threads of HTTP ask for.
pub enum Command {
    /// Answers.
    Ask(Box<Ask>),
    /// A place in the space of texts.
    Embed(Box<Embed>),
    /// What a head makes of a prompt.
    Judge(Box<Judge>),
    /// A look at what no name means any more.
    Tidy,
    /// Nothing more.
    End,
}

/// A prompt, and how it is to be answered.
pub struct Ask {
    /// What is read.
    pub prompt: Prompt,
    /// What runs beside the model.
    pub side: Arc<Side>,
    /// How many answers are wanted.
    pub answers: usize,
    /// New tokens of each, at most.
    pub max_tokens: usize,
    /// How they are chosen.
    pub sampling: Sampling,
    /// Decides what is drawn.
    pub seed: u64,
    /// As of [`Adjusted`].
    pub bias: Vec<(u32, f32)>,
    /// As of [`Adjusted`].
    pub presence_penalty: f32,
    /// As of [`Adjusted`].
    pub frequency_penalty: f32,
    /// What answers are held to; where there is nothing, they are any text.
    pub hold: Option<Hold>,
    /// Texts that end an answer, and are no part of it.
    pub stops: Vec<String>,
    /// Those of a higher one are begun first.
    pub priority: i32,
    /// With how many of the most likely tokens beside each; `None` where nobody asks how likely they were.
    pub logprobs: Option<usize>,
    /// The number of the first of them among all that the reply is for.
    pub first: usize,
    /// Who waits. What an answer has said is held here until it is sent, and it is never longer than `max_tokens`.
    pub reply: UnboundedSender<Said>,
}

/// A text that is to be placed.
pub struct Embed {
    /// Its tokens.
    pub inputs: Inputs,
    /// Those of them that count.
    pub of: Vec<usize>,
    /// What runs beside the model.
    pub side: Arc<Side>,
    /// Who waits: for `None` where there are no finite numbers.
    pub reply: oneshot::Sender<Option<Vec<f32>>>,
}

/// A prompt that is to be judged.
pub struct Judge {
    /// Its tokens.
    pub inputs: Inputs,
    /// The head, and what runs beside the model with it.
    pub side: Arc<Side>,
    /// Who waits: for `None` where there is no finite number.
    pub reply: oneshot::Sender<Option<f64>>,
}

/// What comes of it.
#[derive(Debug)]
pub enum Said {
    /// It will be answered.
    Taken,
    /// It will not.
    Refused(Refusal),
    /// An answer cannot be held to what it has to be any longer.
    Failed(String),
    /// More of an answer.
    Piece {
        /// Which answer.
        answer: usize,
        /// Text that goes on with it.
        text: String,
        /// The tokens that were chosen since the last piece, where somebody asked how likely they were.
        scored: Vec<Scored>,
    },
    /// An answer has ended.
    Done {
        /// Which answer.
        answer: usize,
        /// Why.
        reason: FinishReason,
        /// How many tokens the model has said.
        tokens: usize,
    },
}

/// A request whose answers are being given.
struct Live {
    /// The engine's number of what runs beside the model.
    side: usize,
    reply: UnboundedSender<Said>,
    /// Those that have not ended.
    answers: BTreeMap<usize, Answer>,
}

struct Answer {
    /// The number of its request's first answer.
    first: usize,
    text: AnswerText,
    scores: Option<Receiver<Scored>>,
    broken: Broken,
    /// Chosen, and part of no text that was said.
    scored: Vec<Scored>,
    tokens: usize,
}

/// Answers until [`Command::End`].
///
/// # Errors
/// When the device fails.
pub fn work(host: &dyn Host, commands: &Receiver<Command>, options: EngineOptions, counts: &Counts) -> Result<()> {
    let mut engine = Engine::new(host.model(), options);
    let mut live: BTreeMap<u64, Live> = BTreeMap::new();
    let mut sides = Sides::default();
    loop {
        if engine.is_idle() {
            free(&mut engine, &live, &mut sides);
            counts.set_engine(engine.figures());
        }
        let next = if engine.is_idle() { commands.recv().ok() } else { commands.try_recv().ok() };
        match next {
            Some(Command::Ask(ask)) => {
                forget_those_gone(&mut engine, &mut live);
                take(host, &mut engine, &mut live, &mut sides, *ask);
                continue; // the others that came meanwhile
            }
            // One at a time, so that no answer waits for many.
            Some(Command::Embed(embed)) => {
                let Embed { inputs, of, side, reply } = *embed;
                if !reply.is_closed() {
                    let placed = fenced("embedding", || score::embedding(host.model(), side.path(), &inputs, &of))?;
                    let _ = reply.send(placed);
                }
                if engine.is_idle() {
                    continue;
                }
            }
            Some(Command::Judge(judge)) => {
                let Judge { inputs, side, reply } = *judge;
                if !reply.is_closed() {
                    let rewards = fenced("judging", || score::rewards(host.model(), side.path(), &inputs))?;
                    let reward = rewards.and_then(|rewards| rewards.first().copied());
                    let _ = reply.send(reward.filter(|reward| reward.is_finite()));
                }
                if engine.is_idle() {
                    continue;
                }
            }
            Some(Command::Tidy) if engine.is_idle() => continue,
            Some(Command::Tidy) => {}
            Some(Command::End) => return Ok(()),
            None if engine.is_idle() => return Ok(()),
            None => {}
        }
        forget_those_gone(&mut engine, &mut live);
        let events = fenced("answering", || engine.step(&sides.paths()))?;
        // Before anybody hears of it: whoever has his answer and looks finds it ended.
        counts.set_engine(engine.figures());
        for event in events {
            said(&mut engine, &mut live, event);
        }
        free(&mut engine, &live, &mut sides);
        counts.set_engine(engine.figures()); // without those that a text has ended
    }
}

/// Ends what nobody waits for.
fn forget_those_gone(engine: &mut Engine<'_>, live: &mut BTreeMap<u64, Live>) {
    live.retain(|id, live| {
        let is_gone = live.reply.is_closed();
        if is_gone {
            engine.cancel(*id);
        }
        !is_gone
    });
}

/// Lets go of adapters that no name means any more, once the last answer with them has ended.
fn free(engine: &mut Engine<'_>, live: &BTreeMap<u64, Live>, sides: &mut Sides) {
    let freed = sides.free(|side| live.values().any(|live| live.side == side));
    freed.into_iter().for_each(|side| engine.forget(Some(side)));
}

/// Hands a request to the engine.
fn take(host: &dyn Host, engine: &mut Engine<'_>, live: &mut BTreeMap<u64, Live>, sides: &mut Sides, ask: Ask) {
    let Ask { prompt, side, max_tokens, stops, priority, reply, first, .. } = ask;
    let (mut answers, mut choosers): (_, Vec<Box<dyn Choose>>) = (BTreeMap::new(), Vec::new());
    for number in 0..ask.answers {
        let random = Rng::new(ask.seed).stream(&[Label::Purpose("serve"), Label::Micro(number as u64)]);
        let adjusted = Adjusted {
            sampler: Sampler { sampling: ask.sampling, random },
            bias: ask.bias.clone(),
            presence_penalty: ask.presence_penalty,
            frequency_penalty: ask.frequency_penalty,
        };
        let (mut scores, broken) = (None, Broken::default());
        let chooser: Box<dyn Choose> = match ask.hold.clone() {
            Some(hold) => hold.chooser(adjusted, broken.clone()),
            None => Box::new(adjusted),
        };
        choosers.push(match ask.logprobs {
            Some(top) => {
                let (says, hears) = mpsc::channel();
                scores = Some(hears);
                Box::new(Scoring { chooser, top, says })
            }
            None => chooser,
        });
        let text = AnswerText::new(host.stream(), stops.clone());
        answers.insert(number, Answer { first, text, scores, broken, scored: Vec::new(), tokens: 0 });
    }
    let (stop, side) = (host.stop().to_vec(), sides.number(&side));
    let request = Request { prompt, side, choosers, stop, max_new_tokens: max_tokens, priority, drafts: 0 };
    match engine.submit(request) {
        Ok(number) => {
            let _ = reply.send(Said::Taken);
            live.insert(number, Live { side, reply, answers });
        }
        Err(refusal) => drop(reply.send(Said::Refused(refusal))),
    }
}

/// Passes on what the engine says.
fn said(engine: &mut Engine<'_>, live: &mut BTreeMap<u64, Live>, event: Event) {
    let (Event::Token(id, _) | Event::Done(id, _)) = event;
    let Some(Live { reply, answers, .. }) = live.get_mut(&id.request) else { return };
    let Some(answer) = answers.get_mut(&id.answer) else { return };
    if let (Event::Done(..), Some(what)) = (event, answer.broken.get()) {
        let _ = reply.send(Said::Failed(what.clone())); // whoever hears it goes, and the others end with him
        return;
    }
    let ended = match event {
        Event::Token(_, token) => answer.push(id, token, reply).then(|| {
            engine.cancel_answer(id);
            FinishReason::Stop
        }),
        Event::Done(_, reason) => {
            let Brought { text, is_end } = answer.text.finish();
            answer.say(id, text, true, reply);
            Some(if is_end { FinishReason::Stop } else { reason })
        }
    };
    if let Some(reason) = ended {
        let (tokens, first) = (answer.tokens, answer.first);
        answers.remove(&id.answer);
        let _ = reply.send(Said::Done { answer: first + id.answer, reason, tokens });
        if answers.is_empty() {
            live.remove(&id.request);
        }
    }
}

impl Answer {
    /// Takes a token; says whether a text has come that ends the answer.
    fn push(&mut self, id: AnswerId, token: u32, reply: &UnboundedSender<Said>) -> bool {
        self.tokens += 1;
        // What a stop token was chosen with comes without a token, and after all others.
        self.scored.extend(self.scores.as_ref().and_then(|scores| scores.try_recv().ok()));
        let Brought { text, is_end } = self.text.push(token);
        self.say(id, text, is_end, reply);
        is_end
    }

    /// Says a text, with the tokens since the last one; some have no text, and are said with the next one or in the end.
    fn say(&mut self, id: AnswerId, text: String, is_last: bool, reply: &UnboundedSender<Said>) {
        if !text.is_empty() || (is_last && !self.scored.is_empty()) {
            let scored = std::mem::take(&mut self.scored);
            let _ = reply.send(Said::Piece { answer: self.first + id.answer, text, scored });
        }
    }
}

/// Why an answer ended, where it is no answer.
pub fn checked(reason: FinishReason) -> Result<&'static str> {
    match reason {
        FinishReason::Stop => Ok("stop"),
        FinishReason::Length => Ok("length"),
        FinishReason::NotFinite => Err(Error::new(Kind::NonFinite, "the model computed numbers that are not finite")
            .hint("the model or its adapter is damaged")),
    }
}
