//! Places of texts.

use super::answers::{ending, prompts};
use super::{Asker, Result, not_ready, side};
use crate::serve::Shared;
use crate::serve::body::Body;
use crate::serve::refusal::{Refusal, TOO_LONG};
use crate::serve::wire::{Embeddings, object};
use crate::serve::worker::{Command, Embed};
use hyper::{Response, StatusCode};
use std::sync::Arc;
use tokio::sync::oneshot;

/// Places texts: the mean of what the model's last layer makes of their tokens, but for special ones, of length 1.
///
/// # Errors
/// A request that is wrong, and texts without such tokens or with too many.
pub async fn embeddings(body: &[u8], asker: Asker, shared: &Arc<Shared>) -> Result<Response<Body>> {
    let host = shared.host().ok_or_else(not_ready)?.clone();
    let mut asked = Embeddings::of(&object(body)?, host.hidden_size())?;
    let side = side(shared, &asker.owner, &asked.model)?;
    let input = std::mem::take(&mut asked.input);
    let prompts = prompts(input, shared).await.map_err(|refusal| refusal.of("input"))?;
    let (mut waits, mut tokens) = (Vec::new(), 0);
    for prompt in &prompts {
        let ids = &prompt.inputs.input_ids;
        let of: Vec<usize> = (0..ids.len()).filter(|&at| !host.is_special(ids[at])).collect();
        if of.is_empty() {
            return Err(Refusal::param("input", "a text without words has no place"));
        }
        if ids.len() > host.context_tokens() {
            let what = format!("a text has {} tokens: the model takes {}", ids.len(), host.context_tokens());
            return Err(Refusal::param("input", what).code(TOO_LONG));
        }
        tokens += ids.len();
        let (reply, waiting) = oneshot::channel();
        waits.push((Embed { inputs: prompt.inputs.clone(), of, side: side.clone(), reply }, waiting));
    }
    let mut charge = shared.limits.tokens(asker.key, tokens)?;
    charge.begin();
    let mut places = Vec::new();
    for (embed, waiting) in waits {
        shared.work.send(Command::Embed(Box::new(embed))).map_err(|_| ending())?;
        let place = waiting.await.map_err(|_| ending())?;
        let broken =
            || Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "the model computed numbers that are not finite");
        places.push(place.ok_or_else(broken)?);
    }
    Ok(Body::json(StatusCode::OK, &asked.reply(&places, tokens)))
}
