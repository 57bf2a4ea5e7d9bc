//! Answers to chats, here or elsewhere.

use super::answers::{Asking, begin, ending, hold, read};
use super::{Asker, Result, not_ready, side};
use crate::model::Inputs;
use crate::nn::sigmoid;
use crate::serve::Shared;
use crate::serve::body::Body;
use crate::serve::client::Client;
use crate::serve::refusal::Refusal;
use crate::serve::routing::{By, Choice, HEADER, Routing};
use crate::serve::upstream::Silence;
use crate::serve::wire::{Asked, Kind, object};
use crate::serve::worker::{Command, Judge};
use hyper::header::HeaderValue;
use hyper::{Response, StatusCode};
use serde_json::{Map, Value};
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::oneshot;

/// Answers a conversation.
///
/// # Errors
/// A request that is wrong, or that cannot be answered.
pub async fn chat(body: &[u8], asker: Asker, shared: &Arc<Shared>) -> Result<Response<Body>> {
    let mut row = object(body)?;
    let mut asked = Asked::chat(&row, &shared.options)?;
    let side = side(shared, &asker.owner, &asked.model)?;
    let held = hold(&mut asked, shared).await?;
    let routing = shared.options.routing.as_ref().filter(|routing| routing.is_for(&asked.model));
    let routing = routing.map(|routing| (routing, row.clone()));
    let has_tools = !asked.tools.is_empty();
    row.retain(|name, _| name == "messages" || (has_tools && name == "tools"));
    let prompt = read(shared, move |host| host.conversation(&row)).await.map_err(|refusal| refusal.of("messages"))?;
    let asking = Asking { asked, kind: Kind::Chat, side, asker, prompts: vec![prompt], held };
    match routing {
        Some((routing, said)) => chosen(asking, said, routing, shared).await,
        None => begin(asking, false, shared).await?.give().await,
    }
}

/// Answers a chat, of which `said` is all that its client sent, by whom the rules choose. Where that is the other server and it does
/// not answer, it is answered here; and what is too large for this model is answered there, whatever the rules would choose.
async fn chosen(
    asking: Asking,
    said: Map<String, Value>,
    routing: &Routing,
    shared: &Arc<Shared>,
) -> Result<Response<Body>> {
    let host = shared.host().ok_or_else(not_ready)?;
    let (model, key) = (asking.asked.model.clone(), asking.asker.key);
    let elsewhere =
        Elsewhere { routing, model: &model, said, client: asking.asker.client.clone(), began: Instant::now() };
    // As many tokens as if they were said here: what the other has said is not counted.
    let read: usize = asking.prompts.iter().map(|prompt| prompt.tokens()).sum();
    let tokens = read.saturating_add(asking.asked.most_tokens(shared.options.max_tokens));
    if let Err(too_long) = asking.asked.room(read, (host.context_tokens(), shared.options.max_tokens)) {
        return elsewhere.instead(too_long.of("messages"), (key, tokens), shared).await;
    }
    let weighed = match routing.by {
        By::Score { .. } => {
            let inputs = asking.prompts.first().map(|prompt| prompt.inputs.clone());
            let score = score(inputs, shared).await?;
            if routing.choose(&model, score) == Choice::Remote {
                let mut charge = shared.limits.tokens(key, tokens)?;
                charge.begin();
                if let Some(answer) = elsewhere.ask(shared).await {
                    return Ok(by(Choice::Remote, answer, shared));
                }
                charge.settle(0);
                drop(charge);
                let answer = begin(asking, false, shared).await?.give().await?;
                return Ok(by(Choice::Local, answer, shared));
            }
            false
        }
        By::Confidence { .. } => true,
    };
    let mut given = match begin(asking, weighed, shared).await {
        Err(refusal) if refusal.is_too_large() => return elsewhere.instead(refusal, (key, tokens), shared).await,
        begun => begun?,
    };
    if weighed {
        let mean = given.hold().await?;
        if routing.choose(&model, mean) == Choice::Remote
            && let Some(answer) = elsewhere.ask(shared).await
        {
            return Ok(by(Choice::Remote, answer, shared));
        }
    }
    Ok(by(Choice::Local, given.give().await?, shared))
}

/// A chat that may be answered elsewhere.
struct Elsewhere<'a> {
    routing: &'a Routing,
    model: &'a str,
    said: Map<String, Value>,
    client: Option<Client>,
    began: Instant,
}

impl Elsewhere<'_> {
    /// What the other server says to it. That it says nothing is told and counted.
    async fn ask(self, shared: &Arc<Shared>) -> Option<Response<Body>> {
        let (routing, model) = (self.routing, self.model);
        let answer = self.answer(shared).await;
        answer.map_err(|Silence { why, .. }| routing.not_answered(model, false, &why)).ok()
    }

    /// The same of what is too large for this model, by what is refused here, and counts as so many tokens of a key.
    ///
    /// # Errors
    /// The refusal, where the other server gives no answer either.
    async fn instead(
        self,
        refusal: Refusal,
        (key, tokens): (usize, usize),
        shared: &Arc<Shared>,
    ) -> Result<Response<Body>> {
        let (routing, model) = (self.routing, self.model);
        let mut charge = shared.limits.tokens(key, tokens)?;
        charge.begin();
        routing.too_large(model, refusal.message());
        match self.answer(shared).await {
            Ok(answer) => Ok(by(Choice::Remote, answer, shared)),
            Err(Silence { why, status, .. }) => {
                charge.settle(0);
                routing.not_answered(model, true, &why);
                // Too large for both, or something that may be otherwise the next time.
                let status = match status {
                    Some(400 | 413 | 422) => StatusCode::BAD_REQUEST,
                    _ => StatusCode::BAD_GATEWAY,
                };
                Err(refusal.but(status, &format!("who is asked instead gave no answer: {why}")))
            }
        }
    }

    /// What the other server says. Whether it says anything, and all of it, is counted.
    async fn answer(self, shared: &Arc<Shared>) -> std::result::Result<Response<Body>, Silence> {
        let left = shared.options.request_time.saturating_sub(self.began.elapsed());
        let (others, model) = (shared.clone(), self.model.to_owned());
        let broken = move |silence: &Silence| {
            missed(silence, &others);
            others.options.routing.iter().for_each(|routing| routing.broke_off(&model, &silence.why));
        };
        let answer = self.routing.upstream.chat(self.said, left, self.client, broken).await;
        match &answer {
            Ok(_) => shared.counts.upstream(true),
            Err(silence) => missed(silence, shared),
        }
        answer
    }
}

/// Counts an answer that was to come from elsewhere, and did not, or not to its end.
fn missed(silence: &Silence, shared: &Shared) {
    shared.counts.not_routed();
    if silence.is_away() {
        shared.counts.upstream(false);
    }
}

/// The answer with who gave it, which is counted.
fn by(who: Choice, mut answer: Response<Body>, shared: &Shared) -> Response<Body> {
    shared.counts.routed(who);
    answer.headers_mut().insert(HEADER, HeaderValue::from_static(who.name()));
    answer
}

/// How likely it is that a prompt is one for here; `None` where nobody can tell.
async fn score(inputs: Option<Inputs>, shared: &Shared) -> Result<Option<f64>> {
    let host = shared.host().ok_or_else(not_ready)?;
    let is_readable = |inputs: &Inputs| (1..=host.context_tokens()).contains(&inputs.input_ids.len());
    let (Some(side), Some(inputs)) = (host.classifier().cloned(), inputs.filter(is_readable)) else { return Ok(None) };
    let (reply, waiting) = oneshot::channel();
    shared.work.send(Command::Judge(Box::new(Judge { inputs, side, reply }))).map_err(|_| ending())?;
    let reward = waiting.await.map_err(|_| ending())?;
    Ok(reward.map(sigmoid))
}
