//! Answers to chats and texts: whole, or while they come.

use super::{Asker, Result, not_ready, side};
use crate::clock::since_1970;
use crate::infer::Prompt;
use crate::model::Inputs;
use crate::random::{Label, Rng};
use crate::serve::body::{Body, Events, event};
use crate::serve::client::Client;
use crate::serve::grammar::{Call, Hold};
use crate::serve::limits::Charge;
use crate::serve::refusal::Refusal;
use crate::serve::scored::Scored;
use crate::serve::wire::{Asked, Form, Kind, Texts, object};
use crate::serve::worker::{Ask, Command, Said, checked};
use crate::serve::{Host, Shared, Side};
use crate::text::ToolCall;
use crate::text::called::{Called, calls};
use hyper::body::Bytes;
use hyper::{Response, StatusCode};
use jsonschema::Validator;
use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::Sleep;

/// Why an answer ended that calls tools.
const CALLS: &str = "tool_calls";

/// Goes on with texts.
///
/// # Errors
/// A request that is wrong, or that cannot be answered.
pub async fn texts(body: &[u8], asker: Asker, shared: &Arc<Shared>) -> Result<Response<Body>> {
    let (asked, texts) = Asked::texts(&object(body)?, &shared.options)?;
    let side = side(shared, &asker.owner, &asked.model)?;
    let prompts = prompts(texts, shared).await.map_err(|refusal| refusal.of("prompt"))?;
    let asking = Asking { asked, kind: Kind::Text, side, asker, prompts, held: Held::default() };
    begin(asking, false, shared).await?.give().await
}

/// What a request asks for, as it is read.
pub struct Asking {
    /// How it is to be answered.
    pub asked: Asked,
    /// What it is.
    pub kind: Kind,
    /// What runs beside the model.
    pub side: Arc<Side>,
    /// Who asks.
    pub asker: Asker,
    /// What is read; of a chat it is one.
    pub prompts: Vec<Prompt>,
    /// What answers are held to, and measured by.
    pub held: Held,
}

/// What answers are held to, as they are asked for.
#[derive(Default)]
pub struct Held {
    hold: Option<Hold>,
    /// The schemas of tools whose calls may not have been held to them, by their names.
    loose: Loose,
}

/// Validators of schemas by the names of tools; none of a schema that is none.
type Loose = Vec<(String, Option<Validator>)>;

/// What the answers of a request are held to, made on a thread of its own: schemas are as large as a request.
///
/// # Errors
/// A shape of all of an answer that no grammar is made of.
pub async fn hold(asked: &mut Asked, shared: &Arc<Shared>) -> Result<Held> {
    let (known, shape, calls) = (shared.clone(), asked.shape.take(), asked.calls.take());
    if shape.is_none() && calls.is_none() {
        return Ok(Held::default());
    }
    let held = move |host: &dyn Host| {
        let validator = |call: &Call| jsonschema::options().offline().build(&call.parameters).ok();
        let all = calls.iter().flat_map(|shape| &shape.calls);
        let loose = all.map(|call| (call.name.clone(), validator(call))).collect();
        let hold = match (shape, &calls) {
            (Some(shape), _) => known.grammars.of(&shape, host).map(Some),
            (None, calls) => Ok(calls.as_ref().and_then(|calls| known.grammars.of_calls(calls, host))),
        };
        Ok(hold.map(|hold| Held { hold, loose }))
    };
    read(shared, held).await?
}

/// The prompts that texts or tokens are.
///
/// # Errors
/// What cannot be spelt, and tokens that the model does not have.
pub async fn prompts(texts: Texts, shared: &Arc<Shared>) -> Result<Vec<Prompt>> {
    match texts {
        Texts::Texts(texts) => {
            read(shared, move |host| texts.iter().map(|text| host.text(text)).collect::<crate::Result<Vec<_>>>()).await
        }
        Texts::Tokens(lists) => {
            let words = shared.host().map_or(0, |host| host.vocab_size());
            match lists.iter().flatten().find(|id| **id as usize >= words) {
                Some(id) => Err(Refusal::bad(format!("token {id} is not among the model's {words}"))),
                None => Ok(lists.into_iter().map(|ids| Prompt::of(Inputs::of(ids))).collect()),
            }
        }
    }
}

/// Reads a prompt on a thread of its own: templates and pictures take their time.
///
/// # Errors
/// Where it cannot be read, or too many wait for that.
pub async fn read<T: Send + 'static>(
    shared: &Arc<Shared>,
    act: impl FnOnce(&dyn Host) -> crate::Result<T> + Send + 'static,
) -> Result<T> {
    let host = shared.host().ok_or_else(not_ready)?.clone();
    let waiting = Waiting::of(shared)?;
    // Whoever goes away while he waits is not read.
    let place = shared.reading.clone().acquire_owned().await.map_err(|_| ending())?;
    drop(waiting);
    let read = tokio::task::spawn_blocking(move || {
        let read = act(host.as_ref());
        drop(place);
        read
    });
    let read = read.await;
    let broken = |_| Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "the prompt could not be read");
    read.map_err(broken)?.map_err(|error| Refusal::of_error(&error))
}

/// One that waits to be read, while this exists.
struct Waiting<'a>(&'a Shared);

impl<'a> Waiting<'a> {
    fn of(shared: &'a Shared) -> Result<Self> {
        let waiting = shared.waiting_to_be_read.fetch_add(1, Ordering::SeqCst);
        let own = Waiting(shared);
        match waiting < shared.options.most_waiting.max(1) {
            true => Ok(own),
            false => Err(Refusal::of_engine(crate::infer::Refusal::QueueFull)),
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting_to_be_read.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Asks for the answers to all prompts; those that are to be `weighed` with how likely their tokens are.
///
/// # Errors
/// A request that cannot be answered.
pub async fn begin(asking: Asking, weighed: bool, shared: &Arc<Shared>) -> Result<Given> {
    let Asking { asked, kind, side, asker: Asker { key, client, .. }, prompts, held } = asking;
    let host = shared.host().ok_or_else(not_ready)?.clone();
    asked.check_words(host.vocab_size())?;
    let most = shared.options.most_answers / asked.answers + shared.options.most_waiting;
    if prompts.len() > most {
        let what = format!("{} prompts at once, of which {most} are taken", prompts.len());
        return Err(Refusal::param("prompt", what));
    }
    let began = Instant::now();
    let (says, mut hears) = unbounded_channel();
    let (requests, mut prompt_tokens) = (prompts.len(), 0);
    let room = (host.context_tokens(), shared.options.max_tokens);
    let (number, created) = unique();
    let asks: Vec<_> = prompts
        .into_iter()
        .enumerate()
        .map(|(at, prompt)| {
            prompt_tokens += prompt.tokens();
            asked
                .ask(prompt, side.clone(), at * asked.answers, number.wrapping_add(at as u64), room, says.clone())
                .map(|ask| Ask { hold: held.hold.clone(), logprobs: ask.logprobs.or(weighed.then_some(0)), ..ask })
                .map_err(|refusal| refusal.of(if kind == Kind::Chat { "messages" } else { "prompt" }))
        })
        .collect::<Result<_>>()?;
    drop(says);
    let wanted: usize = asks.iter().map(|ask: &Ask| ask.answers * ask.max_tokens).sum();
    let mut charge = shared.limits.tokens(key, prompt_tokens + wanted)?;
    for ask in asks {
        shared.work.send(Command::Ask(Box::new(ask))).map_err(|_| ending())?;
    }
    // Whether each is taken, before anything is said.
    let mut early = VecDeque::new();
    let mut taken = 0;
    while taken < requests {
        match hears.recv().await.ok_or_else(ending)? {
            Said::Taken => taken += 1,
            Said::Refused(refusal) => return Err(Refusal::of_engine(refusal)),
            said => early.push_back(said),
        }
    }
    charge.begin();
    let answers = requests * asked.answers;
    let prefix = if kind == Kind::Chat { "chatcmpl" } else { "cmpl" };
    let id = format!("{prefix}-{number:016x}");
    let form = Form { kind, id, created, model: asked.model, with_logprobs: asked.logprobs.is_some() };
    let Asked { tools, stream, include_usage, .. } = asked;
    let (shared, streamed) = (shared.clone(), stream.then_some(include_usage));
    Ok(Given {
        early,
        hears,
        host,
        shared,
        form,
        tools,
        loose: held.loose,
        began,
        charge,
        prompt_tokens,
        answers,
        streamed,
        client,
    })
}

/// A number that no other request has, also of another start of the server, and the seconds since 1970.
fn unique() -> (u64, u64) {
    static REQUESTS: AtomicU64 = AtomicU64::new(0);
    let now = since_1970(SystemTime::now());
    let request = REQUESTS.fetch_add(1, Ordering::Relaxed);
    let labels = [Label::Purpose("request"), Label::Step(now.as_nanos() as u64), Label::Micro(request)];
    (Rng::new(u64::from(std::process::id())).stream(&labels).next_u64(), now.as_secs())
}

/// Nobody answers any more.
pub fn ending() -> Refusal {
    Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "the server is ending").code("ending").retry_after(5)
}

/// The answer has not come in time.
fn late(shared: &Shared) -> Refusal {
    let what = format!("the answer took longer than the {} s that it may take", shared.options.request_time.as_secs());
    Refusal::new(StatusCode::GATEWAY_TIMEOUT, what).code("timeout")
}

/// An answer could not be held to its form.
fn failed(what: &str) -> Refusal {
    let what = format!("the answer could not be held to its form any longer: {what}");
    Refusal::param("response_format", what).code("invalid_schema")
}

/// Answers that are being given.
pub struct Given {
    /// What came before all requests were taken.
    early: VecDeque<Said>,
    hears: UnboundedReceiver<Said>,
    host: Arc<dyn Host>,
    shared: Arc<Shared>,
    form: Form,
    /// Names of tools; where there are any, an answer is known when it has ended.
    tools: Vec<String>,
    /// As of [`Held`].
    loose: Loose,
    began: Instant,
    charge: Charge,
    prompt_tokens: usize,
    /// Those that have not ended.
    answers: usize,
    /// Whether they are wanted while they come: and whether with how many tokens there were in the end.
    streamed: Option<bool>,
    /// Who waits for them.
    client: Option<Client>,
}

/// An answer of a whole reply.
#[derive(Default)]
struct Whole {
    text: String,
    scored: Vec<Scored>,
    reason: &'static str,
}

impl Given {
    /// How long it may still take.
    fn left(&self) -> Duration {
        self.shared.options.request_time.saturating_sub(self.began.elapsed())
    }

    /// What is said next.
    async fn next(&mut self) -> Result<Said> {
        match self.early.pop_front() {
            Some(said) => Ok(said),
            None => {
                let said = tokio::time::timeout(self.left(), self.hears.recv()).await;
                said.map_err(|_| late(&self.shared))?.ok_or_else(ending)
            }
        }
    }

    /// Waits until all is said, and tells the mean log-probability of its tokens; `None` where there are none, or nothing that can be
    /// given.
    ///
    /// # Errors
    /// Where it takes too long.
    pub async fn hold(&mut self) -> Result<Option<f64>> {
        let (mut kept, mut left, mut is_good) = (VecDeque::new(), self.answers, true);
        let (mut sum, mut count) = (0.0, 0u64);
        while left > 0 {
            let mut said = self.next().await?;
            match &mut said {
                Said::Piece { text, scored, .. } => {
                    sum += scored.iter().map(|scored| scored.logprob).sum::<f64>();
                    count += scored.len() as u64;
                    if !self.form.with_logprobs {
                        scored.clear();
                    }
                    if text.is_empty() && scored.is_empty() {
                        continue; // which nobody would have heard
                    }
                }
                Said::Done { reason, .. } => {
                    is_good &= checked(*reason).is_ok();
                    left -= 1;
                }
                Said::Failed(_) => (is_good, left) = (false, 0),
                Said::Taken | Said::Refused(_) => {}
            }
            kept.push_back(said);
        }
        self.early = kept;
        Ok((is_good && count > 0).then(|| sum / count as f64))
    }

    /// The calls of tools that an answer ends with. Those that do not fit the schemas of their tools are counted.
    fn called(&self, text: &str) -> Option<Called> {
        let called = calls(text, &self.tools, self.host.call_form())?;
        let is_odd = |call: &&ToolCall| {
            let tool = self.loose.iter().find(|(name, _)| *name == call.name);
            let validator = tool.and_then(|(_, validator)| validator.as_ref());
            validator.is_some_and(|validator| !validator.is_valid(&call.arguments))
        };
        self.shared.counts.odd_calls(called.calls.iter().filter(is_odd).count());
        Some(called)
    }

    /// Gives them, whole or while they come.
    ///
    /// # Errors
    /// Where they cannot be given whole.
    pub async fn give(self) -> Result<Response<Body>> {
        match self.streamed {
            Some(_) => Ok(Body::events(Stream::new(self))),
            None => self.whole().await,
        }
    }

    async fn whole(mut self) -> Result<Response<Body>> {
        let mut wholes: Vec<Whole> = (0..self.answers).map(|_| Whole::default()).collect();
        let (mut left, mut answer_tokens, mut has_begun) = (self.answers, 0, false);
        while left > 0 {
            let said = self.next().await?;
            if !std::mem::replace(&mut has_begun, true) {
                self.shared.counts.first_token(self.began.elapsed());
            }
            match said {
                Said::Piece { answer, text, scored } => {
                    wholes[answer].text += &text;
                    wholes[answer].scored.extend(scored);
                }
                Said::Done { answer, reason, tokens } => {
                    wholes[answer].reason = checked(reason).map_err(|error| Refusal::of_error(&error))?;
                    answer_tokens += tokens;
                    left -= 1;
                }
                Said::Failed(what) => return Err(failed(&what)),
                Said::Taken | Said::Refused(_) => {}
            }
        }
        self.shared.counts.all_answers(self.began.elapsed());
        self.charge.settle(self.prompt_tokens + answer_tokens);
        let spelling = |token| self.host.token(token);
        let choice = |(index, whole): (usize, &Whole)| {
            let called = self.called(&whole.text);
            let reason = if called.is_some() { CALLS } else { whole.reason };
            self.form.choice(index, &whole.text, called.as_ref(), reason, &whole.scored, &spelling)
        };
        let choices = wholes.iter().enumerate().map(choice).collect();
        Ok(Body::json(StatusCode::OK, &self.form.whole(choices, self.prompt_tokens, answer_tokens)))
    }
}

/// Answers as events.
struct Stream {
    given: Given,
    include_usage: bool,
    /// Events that have not been sent.
    ready: String,
    /// What answers that may be calls of tools have said.
    held: Vec<(String, Vec<Scored>)>,
    answer_tokens: usize,
    has_begun: bool,
    is_over: bool,
    /// When it has taken too long.
    late: Pin<Box<Sleep>>,
    /// When nobody listens any more.
    gone: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl Stream {
    fn new(mut given: Given) -> Self {
        let (include_usage, client) = (given.streamed.unwrap_or_default(), given.client.take());
        let begins = (0..given.answers).filter_map(|index| given.form.begin(index));
        let ready = begins.map(|value| event(&value)).collect();
        let held = given.tools.first().map_or(Vec::new(), |_| vec![Default::default(); given.answers]);
        let late = Box::pin(tokio::time::sleep(given.left()));
        // The head of the answer is written before this is asked.
        let gone = Box::pin(async move {
            match client {
                Some(client) => client.gone(false).await,
                None => std::future::pending().await,
            }
        });
        Stream { given, include_usage, ready, held, answer_tokens: 0, has_begun: false, is_over: false, late, gone }
    }

    fn take(&mut self, said: Said) {
        let Given { form, host, shared, began, .. } = &self.given;
        if !std::mem::replace(&mut self.has_begun, true) {
            shared.counts.first_token(began.elapsed());
        }
        match said {
            Said::Piece { answer, text, scored } => match self.held.get_mut(answer) {
                Some((held, scores)) => {
                    *held += &text;
                    scores.extend(scored);
                }
                None => self.ready += &event(&form.piece(answer, &text, &scored, &|token| host.token(token))),
            },
            Said::Done { answer, reason, tokens } => {
                self.answer_tokens += tokens;
                let mut is_call = false;
                if let Some((text, scored)) = self.held.get(answer) {
                    let called = self.given.called(text);
                    is_call = called.is_some();
                    self.ready += &event(&match called {
                        Some(called) => form.calls(answer, &called),
                        None => form.piece(answer, text, scored, &|token| host.token(token)),
                    });
                }
                match checked(reason).map(|reason| if is_call { CALLS } else { reason }) {
                    Ok(reason) => self.ready += &event(&form.end(answer, reason)),
                    Err(error) => return self.fail(&Refusal::of_error(&error)),
                }
                self.given.answers -= 1;
                if self.given.answers == 0 {
                    self.end();
                }
            }
            Said::Failed(what) => self.fail(&failed(&what)),
            Said::Taken | Said::Refused(_) => {}
        }
    }

    fn end(&mut self) {
        let Given { form, shared, began, prompt_tokens, .. } = &self.given;
        shared.counts.all_answers(began.elapsed());
        let used = prompt_tokens + self.answer_tokens;
        if self.include_usage {
            self.ready += &event(&form.used(*prompt_tokens, self.answer_tokens));
        }
        self.ready += "data: [DONE]\n\n";
        self.given.charge.settle(used);
        self.is_over = true;
    }

    fn fail(&mut self, refusal: &Refusal) {
        self.ready += &event(&refusal.json());
        self.is_over = true;
    }
}

impl Events for Stream {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        while !self.is_over {
            let said = match self.given.early.pop_front() {
                Some(said) => Poll::Ready(Some(said)),
                None => self.given.hears.poll_recv(context),
            };
            match said {
                Poll::Ready(Some(said)) => self.take(said),
                Poll::Ready(None) => self.fail(&ending()),
                Poll::Pending if self.late.as_mut().poll(context).is_ready() => self.fail(&late(&self.given.shared)),
                Poll::Pending if self.gone.as_mut().poll(context).is_ready() => self.is_over = true,
                Poll::Pending if self.ready.is_empty() => return Poll::Pending,
                Poll::Pending => break,
            }
        }
        let ready = std::mem::take(&mut self.ready);
        Poll::Ready((!ready.is_empty()).then(|| ready.into()))
    }
}
