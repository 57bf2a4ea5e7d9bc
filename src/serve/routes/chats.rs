//! Answers to chats, here or elsewhere.

use super::answers::{Asking, begin, ending, grammar, read};
use super::{Asker, Result, not_ready, side};
use crate::model::Inputs;
use crate::nn::sigmoid;
use crate::serve::Shared;
use crate::serve::body::Body;
use crate::serve::client::Client;
use crate::serve::routing::{By, Choice, HEADER, Routing};
use crate::serve::wire::{Asked, Kind, object};
use crate::serve::worker::{Command, Judge};
use hyper::Response;
use hyper::header::HeaderValue;
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
    let grammar = grammar(asked.shape.take(), shared).await?;
    let routing = shared.options.routing.as_ref().filter(|routing| routing.is_for(&asked.model));
    let routing = routing.map(|routing| (routing, row.clone()));
    let has_tools = !asked.tools.is_empty();
    row.retain(|name, _| name == "messages" || (has_tools && name == "tools"));
    let prompt = read(shared, move |host| host.conversation(&row)).await.map_err(|refusal| refusal.of("messages"))?;
    let asking = Asking { asked, kind: Kind::Chat, side, asker, prompts: vec![prompt], grammar };
    match routing {
        Some((routing, said)) => chosen(asking, said, routing, shared).await,
        None => begin(asking, false, shared).await?.give().await,
    }
}

/// Answers a chat, of which `said` is all that its client sent, by whom the rules choose. Where that is the other server and it does
/// not answer, it is answered here.
async fn chosen(
    asking: Asking,
    said: Map<String, Value>,
    routing: &Routing,
    shared: &Arc<Shared>,
) -> Result<Response<Body>> {
    let model = asking.asked.model.clone();
    let elsewhere =
        Elsewhere { routing, model: &model, said, client: asking.asker.client.clone(), began: Instant::now() };
    match routing.by {
        By::Score { .. } => {
            let inputs = asking.prompts.first().map(|prompt| prompt.inputs.clone());
            let score = score(inputs, shared).await?;
            if routing.choose(&model, score) == Choice::Remote {
                // As many tokens as if they were said here: what the other has said is not counted.
                let read: usize = asking.prompts.iter().map(|prompt| prompt.tokens()).sum();
                let wanted = asking.asked.most_tokens(shared.options.max_tokens);
                let mut charge = shared.limits.tokens(asking.asker.key, read.saturating_add(wanted))?;
                charge.begin();
                if let Some(answer) = elsewhere.ask(shared).await {
                    return Ok(by(Choice::Remote, answer, shared));
                }
                charge.settle(0);
            }
            let answer = begin(asking, false, shared).await?.give().await?;
            Ok(by(Choice::Local, answer, shared))
        }
        By::Confidence { .. } => {
            let mut given = begin(asking, true, shared).await?;
            let mean = given.hold().await?;
            if routing.choose(&model, mean) == Choice::Remote
                && let Some(answer) = elsewhere.ask(shared).await
            {
                return Ok(by(Choice::Remote, answer, shared));
            }
            Ok(by(Choice::Local, given.give().await?, shared))
        }
    }
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
    async fn ask(self, shared: &Shared) -> Option<Response<Body>> {
        let left = shared.options.request_time.saturating_sub(self.began.elapsed());
        match self.routing.upstream.chat(self.said, left, self.client).await {
            Ok(answer) => Some(answer),
            Err(why) => {
                shared.counts.not_routed();
                let line = format!("routed: `{}` to local: the upstream gave no answer: {why}", self.model);
                (self.routing.told)(&line);
                None
            }
        }
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
