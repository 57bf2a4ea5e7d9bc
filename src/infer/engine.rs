//! The generation engine: a loop that admits requests, runs a step of all that are answered at once, and cancels.
//!
//! Whoever drives it submits requests at any time and calls [`Engine::step`] until it is idle. A step is one pass through the
//! model: a token of every answer that has begun, and pieces of prompts that are being read. What a request's answers need
//! for keys and values is set aside for them when it is admitted, so that nothing that has begun is ever put off.
//!
//! # Numerics
//! What is sampled depends on a request's own random numbers alone. Its logits, in their last bits, depend on what else is in
//! a pass where that changes how many rows are multiplied at once: `docs/generation.md` says where.

mod answering;
pub mod options;

use crate::infer::draft;
use crate::infer::prefixes::{Known, Prefixes};
use crate::infer::request::{AnswerId, Event, Prompt, Refusal, Request};
use crate::model::{Carry, Inputs, LanguageModel};
use crate::nn::{ByRows, KvCache, Past, SidePath};
use crate::ops::{inference, values};
use answering::{Answering, Asked, Waiting};
use burn::tensor::Tensor;
use rayon::prelude::*;
use std::ops::Range;
use std::sync::Arc;

pub use options::{CacheDtype, EngineOptions, Figures, Memory, Pace};

/// Tokens less than this are not worth being kept for others.
const SHORTEST_PREFIX: usize = 16;

/// Rows that pass in little more than the time of one, so that guessing costs next to nothing.
const CHEAP_ROWS: usize = 8;

/// A loop that admits, steps and cancels requests to one model.
pub struct Engine<'a> {
    model: &'a dyn LanguageModel,
    options: EngineOptions,
    /// The next to be admitted first.
    waiting: Vec<Waiting>,
    /// In the order of the cache: those beside the same adapter together.
    running: Vec<Answering>,
    cache: KvCache,
    prefixes: Prefixes,
    /// How many rows there may be in a pass in which something is guessed: [`LanguageModel::rows_alone`] of the model, no more than
    /// are cheap.
    guessing_rows: usize,
    submitted: u64,
    figures: Figures,
}

impl<'a> Engine<'a> {
    /// An engine that has nothing to do.
    pub fn new(model: &'a dyn LanguageModel, options: EngineOptions) -> Self {
        let cache = model.cache(0).held_in(options.cache_dtype.of_tensors());
        Engine {
            model,
            options,
            waiting: Vec::new(),
            running: Vec::new(),
            cache,
            prefixes: Prefixes::default(),
            guessing_rows: model.rows_alone().min(CHEAP_ROWS),
            submitted: 0,
            figures: Figures::default(),
        }
    }

    /// Takes a request, and numbers it.
    ///
    /// # Errors
    /// One that will never be answered, and one too many.
    pub fn submit(&mut self, request: Request) -> Result<u64, Refusal> {
        let answers = request.choosers.len();
        if request.prompt.tokens() == 0 || request.max_new_tokens == 0 || answers == 0 {
            return Err(Refusal::Nothing);
        }
        if answers > self.options.most_running {
            return Err(Refusal::TooManyAnswers { most: self.options.most_running });
        }
        let budget_bytes = self.options.cache_bytes;
        let needed_bytes = self.bytes_of(&request.prompt, request.max_new_tokens).saturating_mul(answers as u64);
        if needed_bytes > budget_bytes {
            return Err(Refusal::NeedsMemory { needed_bytes, budget_bytes });
        }
        let at = self.waiting.partition_point(|other| other.request.priority >= request.priority);
        if !self.has_room(at, answers, needed_bytes) {
            return Err(Refusal::QueueFull);
        }
        let number = self.submitted;
        self.submitted += 1;
        let Request { prompt, side, choosers, stop, max_new_tokens, priority, drafts } = request;
        let request = Arc::new(Asked { prompt, side, stop, max_new_tokens, priority, drafts });
        self.waiting.insert(at, Waiting { number, request, choosers: choosers.into_iter().enumerate().collect() });
        Ok(number)
    }

    /// Whether one more may come, as the one at this place among those that wait: where the next step begins it, it waits for
    /// nobody, and neither do those before it that are begun then.
    fn has_room(&self, place: usize, answers: usize, bytes: u64) -> bool {
        if self.waiting.len() < self.options.most_waiting {
            return true;
        }
        let answers_left = self.options.most_running.saturating_sub(self.answers());
        let mut left = (answers_left, self.options.cache_bytes.saturating_sub(self.reserved_bytes()));
        let mut begins = |answers: usize, bytes: u64| {
            let rest = left.0.checked_sub(answers).zip(left.1.checked_sub(bytes));
            left = rest.unwrap_or((0, 0)); // nobody overtakes
            rest.is_some()
        };
        let of = |waiting: &Waiting| {
            let (request, answers) = (&waiting.request, waiting.choosers.len());
            (answers, self.bytes_of(&request.prompt, request.max_new_tokens).saturating_mul(answers as u64))
        };
        let begun =
            self.waiting[..place].iter().map(of).take_while(|(answers, bytes)| begins(*answers, *bytes)).count();
        (begun == place && begins(answers, bytes)) || self.waiting.len() - begun < self.options.most_waiting
    }

    /// The bytes of keys and values that are set aside for one answer of at most `max_new_tokens`.
    pub fn bytes_of(&self, prompt: &Prompt, max_new_tokens: usize) -> u64 {
        let tokens = prompt.tokens().saturating_add(max_new_tokens);
        self.cache.bytes_of(tokens, prompt.longest_piece(self.options.step_tokens))
    }

    /// Ends a request at once, without a word; what was read of it is kept as that of others.
    pub fn cancel(&mut self, request: u64) {
        self.cancel_where(|id| id.request == request);
        self.waiting.retain(|waiting| waiting.number != request);
    }

    /// Ends one answer at once.
    pub fn cancel_answer(&mut self, answer: AnswerId) {
        for waiting in self.waiting.iter_mut().filter(|waiting| waiting.number == answer.request) {
            waiting.choosers.retain(|(other, _)| *other != answer.answer);
        }
        self.waiting.retain(|waiting| !waiting.choosers.is_empty());
        for running in self.running.iter_mut().filter(|running| running.id.request == answer.request) {
            running.others.retain(|(other, _)| *other != answer.answer);
            // The first of several reads the prompt for the others.
            if running.id == answer && !running.others.is_empty() {
                (running.id.answer, running.chooser) = running.others.remove(0);
                return;
            }
        }
        self.cancel_where(|id| id == answer);
    }

    fn cancel_where(&mut self, is_cancelled: impl Fn(AnswerId) -> bool) {
        let ended: Vec<bool> = self.running.iter().map(|running| is_cancelled(running.id)).collect();
        self.end(&ended);
        self.shrink_memory();
    }

    /// Whether there is nothing to do.
    pub fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.running.is_empty()
    }

    /// What it has to do, holds and has done.
    pub fn figures(&self) -> Figures {
        Figures {
            waiting: self.waiting.len(),
            running: self.answers(),
            reserved_bytes: self.reserved_bytes(),
            kept: self.prefixes.len(),
            kept_bytes: self.prefixes.bytes(),
            ..self.figures
        }
    }

    /// Forgets what was read beside one that is no longer there, or with `None` all that is kept.
    pub fn forget(&mut self, side: Option<usize>) {
        self.prefixes.forget(side);
    }

    /// Admits what there is room for, runs one pass, and says what comes of it. `sides` are what requests name by number;
    /// a number means the same from step to step, until it is forgotten.
    ///
    /// # Panics
    /// Where a request names one that is not there.
    pub fn step(&mut self, sides: &[&dyn SidePath]) -> Vec<Event> {
        // On a thread of the pool: it goes on with its part of each product at once, where another thread would hand all of it over
        // and sleep, some hundred times a step.
        rayon::scope(|_| inference(|| self.step_here(sides)))
    }

    fn step_here(&mut self, sides: &[&dyn SidePath]) -> Vec<Event> {
        self.admit();
        let takes = self.plan(sides);
        if takes.iter().any(|&rows| rows > 0) {
            self.run(&takes, sides);
        }
        let mut events = Vec::new();
        self.choose(&mut events);
        self.shrink_memory();
        events
    }

    fn reserved_bytes(&self) -> u64 {
        let of = |running: &Answering| running.each_bytes.saturating_mul(running.answers() as u64);
        self.running.iter().map(of).fold(0, u64::saturating_add)
    }

    /// Answers that are given, or whose prompts are being read.
    fn answers(&self) -> usize {
        self.running.iter().map(Answering::answers).sum()
    }

    /// Admits requests in their order, while there is room for all of the next one's answers.
    fn admit(&mut self) {
        while let Some(Waiting { request, choosers, .. }) = self.waiting.first() {
            let answers = choosers.len();
            let free_bytes = self.options.cache_bytes.saturating_sub(self.reserved_bytes());
            let each_bytes = self.bytes_of(&request.prompt, request.max_new_tokens);
            let fits = |each_bytes: u64| each_bytes.saturating_mul(answers as u64) <= free_bytes;
            if self.answers() + answers > self.options.most_running || !fits(each_bytes) {
                return;
            }
            let next = self.waiting.remove(0);
            let parting = self.parting(&next.request);
            // A beginning may lie in a room that is larger than this request needs.
            let past = self.remembered(&next.request).filter(|past| fits(past.bytes().max(each_bytes)));
            let past = past.unwrap_or_else(|| self.cache.nothing());
            let parting = parting.filter(|parting| *parting >= past.tokens + SHORTEST_PREFIX);
            let each_bytes = past.bytes().max(each_bytes);
            self.figures.tokens_known += past.tokens as u64;
            self.begin(next, past, parting, each_bytes);
            self.shrink_memory();
        }
    }

    /// What is known of a prompt's beginning.
    fn remembered(&mut self, request: &Asked) -> Option<Past> {
        let whole = self.options.memory == Memory::Conversation;
        let found = self.prefixes.find(&self.cache, request.side, &request.prompt, whole);
        if found.is_none() && whole {
            self.prefixes.forget(None); // another conversation
        }
        found.map(|found| self.prefixes.take(&self.cache, found))
    }

    /// Where a prompt parts from what is known and from those that are being read.
    fn parting(&self, request: &Asked) -> Option<usize> {
        let Memory::Prefixes(_) = self.options.memory else { return None };
        let beside = self.running.iter().filter(|running| running.request.side == request.side);
        let parting = beside.map(|running| {
            let other = &running.request.prompt;
            request.prompt.shared_with(&other.inputs.input_ids, &other.contents)
        });
        let parting = parting.chain([self.prefixes.parting(request.side, &request.prompt)]).max();
        parting.filter(|parting| *parting < request.prompt.tokens())
    }

    fn begin(&mut self, next: Waiting, past: Past, parting: Option<usize>, each_bytes: u64) {
        let Waiting { number, request, mut choosers } = next;
        if choosers.is_empty() {
            return;
        }
        let (answer, chooser) = choosers.remove(0);
        let at = self.running.partition_point(|other| other.request.side <= request.side);
        self.cache.insert(at, past, request.most_tokens());
        let answering = Answering {
            id: AnswerId { request: number, answer },
            request,
            chooser,
            others: choosers,
            said: Vec::new(),
            drafts: Vec::new(),
            ready: None,
            parting,
            each_bytes,
        };
        self.running.insert(at, answering);
    }

    /// Leaves to what is kept the room that nobody needs.
    fn shrink_memory(&mut self) {
        let most = match self.options.memory {
            Memory::Nothing => 0,
            Memory::Conversation => 1,
            Memory::Prefixes(most) => most,
        };
        self.prefixes.shrink(most, self.options.cache_bytes.saturating_sub(self.reserved_bytes()));
    }

    /// Whether the prompt of a running answer has not been read to its end.
    fn is_reading(&self, at: usize) -> bool {
        self.cache.lengths[at] < self.running[at].request.prompt.tokens()
    }

    /// How many rows of each running answer are in the next pass.
    fn plan(&mut self, sides: &[&dyn SidePath]) -> Vec<usize> {
        let mut takes = vec![0; self.running.len()];
        let (reading, answering): (Vec<usize>, Vec<usize>) =
            (0..self.running.len()).filter(|&at| self.running[at].ready.is_none()).partition(|&at| self.is_reading(at));
        if self.options.pace == Pace::Together {
            let piece = (self.options.step_tokens / self.running.len().max(1)).max(1);
            reading.iter().for_each(|&at| takes[at] = self.piece(at, piece));
            if reading.is_empty() {
                answering.iter().for_each(|&at| takes[at] = 1);
            }
            return takes;
        }
        self.guess(&reading, &answering, sides);
        answering.iter().for_each(|&at| takes[at] = 1 + self.running[at].drafts.len());
        let rows: usize = takes.iter().sum();
        // However many answers there are, prompts come forward too.
        let mut left = self.options.step_tokens.saturating_sub(rows).max(self.options.step_tokens / 4).max(1);
        let mut in_turn = reading;
        in_turn.sort_by_key(|&at| (-i64::from(self.running[at].request.priority), self.running[at].id));
        for at in in_turn {
            takes[at] = if left > 0 { self.piece(at, left) } else { 0 };
            left = left.saturating_sub(takes[at]);
        }
        takes
    }

    /// Of what is left of a prompt about `most` tokens, to where it parts from others.
    fn piece(&self, at: usize, most: usize) -> usize {
        let (running, read) = (&self.running[at], self.cache.lengths[at]);
        let most = running.parting.map_or(most, |parting| most.min(parting - read));
        running.request.prompt.inputs.piece_end(read, most) - read
    }

    /// Guesses what is said next, where checking that costs no bit of the answers: on the CPU, in a pass of few rows, without an
    /// adapter.
    fn guess(&mut self, reading: &[usize], answering: &[usize], sides: &[&dyn SidePath]) {
        let mut free = if reading.is_empty() { self.guessing_rows.saturating_sub(answering.len()) } else { 0 };
        for &at in answering {
            let Answering { request, said, drafts, .. } = &mut self.running[at];
            let exact = if sides[request.side].is_nothing() { free } else { 0 };
            let most = request.drafts.min(exact).min(request.max_new_tokens - said.len() - 1);
            *drafts = draft::guess(&request.prompt.inputs.input_ids, said, most);
            free -= drafts.len();
            self.figures.tokens_guessed += drafts.len() as u64;
            self.cache.look_one_by_one(at, !self.running[at].drafts.is_empty());
        }
    }

    /// Runs these rows of each running answer.
    fn run(&mut self, takes: &[usize], sides: &[&dyn SidePath]) {
        let mut runs: Vec<(usize, Vec<Inputs>)> = Vec::new();
        for (at, &rows) in takes.iter().enumerate().filter(|(_, rows)| **rows > 0) {
            let inputs = self.running[at].next_inputs(self.cache.lengths[at], rows);
            let side = self.running[at].request.side;
            match runs.last_mut() {
                Some((last, run)) if *last == side => run.push(inputs),
                _ => runs.push((side, vec![inputs])),
            }
        }
        let (mut carries, mut images, mut by_rows, mut start) = (Vec::new(), Vec::new(), Vec::new(), 0);
        for (side, run) in runs {
            let inputs = Inputs::joined(run);
            let rows = inputs.input_ids.len();
            images.extend(inputs.images().into_iter().map(|rows| rows.start + start..rows.end + start));
            carries.push(self.model.embed(&inputs, sides[side]));
            by_rows.push((rows, sides[side]));
            start += rows;
        }
        let carry = Carry::joined(carries);
        let hidden = match by_rows.as_slice() {
            [(_, side)] => self.model.next_hidden(carry, &images, takes, &mut self.cache, *side),
            _ => self.model.next_hidden(carry, &images, takes, &mut self.cache, &ByRows(by_rows)),
        };
        self.take_rows(takes, &hidden);
    }

    /// Takes down what the pass gave for each running answer.
    fn take_rows(&mut self, takes: &[usize], hidden: &Tensor<2>) {
        let mut end = 0;
        for (at, &rows) in takes.iter().enumerate().filter(|(_, rows)| **rows > 0) {
            end += rows;
            let (is_reading, read) = (self.is_reading(at), self.cache.lengths[at]);
            let running = &mut self.running[at];
            if running.said.is_empty() {
                self.figures.tokens_read += rows as u64;
            }
            if running.parting == Some(read) {
                running.parting = None;
                self.keep(at, read, false);
            }
            if !is_reading {
                let wanted = if self.running[at].said.is_empty() { 1 } else { rows };
                self.running[at].ready = Some(hidden.clone().narrow(0, end - wanted, wanted));
            }
        }
    }

    /// Keeps the first tokens of a running answer, all that have been read, for others.
    fn keep(&mut self, at: usize, tokens: usize, is_answer: bool) {
        if self.options.memory == Memory::Nothing || tokens == 0 {
            return;
        }
        let Answering { request, said, .. } = &self.running[at];
        let ids = request.prompt.inputs.input_ids.iter().chain(said).take(tokens).copied().collect();
        let contents = request.prompt.contents_of(tokens);
        self.prefixes.keep(Known { side: request.side, ids, contents, past: self.cache.past(at), is_answer });
    }

    /// Chooses the next tokens of all answers that wait for one.
    fn choose(&mut self, events: &mut Vec<Event>) {
        let together = self.options.pace == Pace::Together;
        if together && (0..self.running.len()).any(|at| self.is_reading(at)) {
            return;
        }
        let ready: Vec<Option<Tensor<2>>> = self.running.iter_mut().map(|running| running.ready.take()).collect();
        let rows = ready.iter().flatten().map(|rows| rows.dims()[0]);
        let mut ends = rows.scan(0, |end, rows| {
            *end += rows;
            Some(*end - rows..*end)
        });
        let mut rows: Vec<Option<Range<usize>>> =
            ready.iter().map(|ready| ready.as_ref().and_then(|_| ends.next())).collect();
        let mut ready: Vec<Tensor<2>> = ready.into_iter().flatten().collect();
        if ready.is_empty() {
            return;
        }
        let ready = if ready.len() == 1 { ready.remove(0) } else { Tensor::cat(ready, 0) };
        let logits = values(self.model.logits(ready));
        self.begin_answers(&mut rows);
        let (words, logits) = (self.model.config().vocab_size(), &*logits);
        // To draw from a quarter of a million words takes a core milliseconds, and each answer draws for itself.
        let go_on = |(running, rows): (&mut Answering, Option<Range<usize>>)| {
            let rows = rows?;
            let (given, before, mut events) = (rows.len(), running.said.len(), Vec::new());
            let logits = logits[rows.start * words..rows.end * words].chunks(words);
            let (used, has_ended) = running.go_on(logits, &mut events);
            Some(GoneOn { given, used, said: running.said.len() - before, has_ended, events })
        };
        let gone_on: Vec<Option<GoneOn>> = self.running.par_iter_mut().zip(rows).map(go_on).collect();
        let mut ended = vec![false; self.running.len()];
        for (at, gone_on) in gone_on.into_iter().enumerate() {
            let Some(GoneOn { given, used, said, has_ended, events: of_answer }) = gone_on else { continue };
            ended[at] = has_ended;
            events.extend(of_answer);
            self.figures.tokens_said += said as u64;
            self.figures.guessed_right += used as u64 - 1;
            self.cache.take_back(at, given - used);
        }
        self.end(&ended);
    }

    /// Where a prompt has just been read: keeps it, and begins the request's other answers beside the first, from the same
    /// logits.
    fn begin_answers(&mut self, rows: &mut Vec<Option<Range<usize>>>) {
        for at in (0..self.running.len()).rev() {
            if rows[at].is_none() || !self.running[at].said.is_empty() {
                continue;
            }
            if let Memory::Prefixes(_) = self.options.memory {
                self.keep(at, self.cache.lengths[at], false);
            }
            let others = std::mem::take(&mut self.running[at].others);
            for (answer, chooser) in others.into_iter().rev() {
                let other = self.running[at].beside(answer, chooser);
                let past = self.cache.past(at);
                self.cache.insert(at + 1, past, other.request.most_tokens());
                self.running.insert(at + 1, other);
                rows.insert(at + 1, rows[at].clone());
            }
        }
    }

    /// Takes answers that have ended out of the batch.
    fn end(&mut self, ended: &[bool]) {
        for at in (0..ended.len()).rev().filter(|&at| ended[at]) {
            self.keep(at, self.cache.lengths[at], true);
            self.running.remove(at);
            self.cache.remove(at);
        }
    }
}

/// What an answer made of the rows that were computed for it.
struct GoneOn {
    given: usize,
    used: usize,
    said: usize,
    has_ended: bool,
    events: Vec<Event>,
}

#[cfg(test)]
mod tests;
