//! What is not answered, and why, in OpenAI's words.

use super::body::Body;
use crate::error::{Error, Kind};
use crate::infer::Refusal as Engine;
use hyper::{Response, StatusCode};
use serde_json::json;

/// When what could not be reached is worth another try.
const RETRY_SECONDS: u64 = 5;
/// The code of a prompt that leaves no room for its answer.
pub const TOO_LONG: &str = "context_length_exceeded";
/// The code of a request that would need more memory than there is.
const NEEDS_MEMORY: &str = "needs_memory";

/// A request that is not answered.
#[derive(Debug)]
pub struct Refusal {
    status: StatusCode,
    message: String,
    param: Option<String>,
    code: Option<&'static str>,
    /// After so many seconds it may be asked again.
    retry_after: Option<u64>,
}

impl Refusal {
    /// One with this status.
    pub fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Refusal { status, message: message.into(), param: None, code: None, retry_after: None }
    }

    /// Something in the request is wrong.
    pub fn bad(message: impl Into<String>) -> Self {
        Refusal::new(StatusCode::BAD_REQUEST, message)
    }

    /// A field of the request is.
    pub fn param(name: &str, message: impl Into<String>) -> Self {
        Refusal { param: Some(name.to_owned()), ..Refusal::bad(message) }
    }

    /// With the field that is wrong.
    pub fn of(self, name: &str) -> Self {
        Refusal { param: Some(name.to_owned()), ..self }
    }

    /// With a word for programs.
    pub fn code(self, code: &'static str) -> Self {
        Refusal { code: Some(code), ..self }
    }

    /// With when to ask again.
    pub fn retry_after(self, seconds: u64) -> Self {
        Refusal { retry_after: Some(seconds), ..self }
    }

    /// What the engine does not take.
    pub fn of_engine(refusal: Engine) -> Self {
        match refusal {
            Engine::QueueFull => {
                let refused =
                    Refusal::new(StatusCode::TOO_MANY_REQUESTS, "too many requests are waiting; try again later");
                refused.code("queue_full").retry_after(1)
            }
            Engine::TooManyAnswers { most } => Refusal::param("n", format!("at most {most} answers are given at once")),
            Engine::NeedsMemory { .. } => Refusal::of_error(&refusal.error()).code(NEEDS_MEMORY),
            Engine::Nothing => Refusal::of_error(&refusal.error()),
        }
    }

    /// What the program finds wrong: in the request, or in itself.
    pub fn of_error(error: &Error) -> Self {
        let status = match error.kind() {
            Kind::Recipe | Kind::Data | Kind::Tokenizer | Kind::OutOfMemory => StatusCode::BAD_REQUEST,
            Kind::Unreachable => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        let hint = error.hint_text().map(|hint| format!(" ({hint})")).unwrap_or_default();
        let refusal = Refusal::new(status, format!("{}{hint}", error.what()));
        match error.kind() {
            Kind::Unreachable => refusal.retry_after(RETRY_SECONDS),
            _ => refusal,
        }
    }

    /// Whether the request is too large for this model, and may not be for another.
    pub fn is_too_large(&self) -> bool {
        matches!(self.code, Some(TOO_LONG | NEEDS_MEMORY))
    }

    /// Why, in words.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The same with another status, and more to say.
    pub fn but(self, status: StatusCode, and: &str) -> Self {
        Refusal { status, message: format!("{}; {and}", self.message), ..self }
    }

    /// The body of it.
    pub fn json(&self) -> serde_json::Value {
        let kind = match self.status.as_u16() {
            401 => "authentication_error",
            403 => "permission_error",
            429 => "rate_limit_error",
            500.. => "server_error",
            _ => "invalid_request_error",
        };
        json!({"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}})
    }

    /// The whole answer.
    pub fn response(&self) -> Response<Body> {
        let mut response = Body::json(self.status, &self.json());
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(hyper::header::RETRY_AFTER, seconds.into());
        }
        response
    }
}
