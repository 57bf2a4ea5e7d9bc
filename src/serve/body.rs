//! What goes back: a whole text, or events while they come.

use hyper::body::{Bytes, Frame, SizeHint};
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};
use serde_json::Value;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

/// The body of an answer.
pub enum Body {
    /// All of it, until it is sent.
    Whole(Option<Bytes>),
    /// Pieces of it as they come.
    Events(Box<dyn Events>),
}

/// Gives the pieces of a stream.
pub trait Events: Send {
    /// The next one; `None` after the last.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Bytes>>;
}

impl Body {
    /// A whole text of a type.
    pub fn text(status: StatusCode, kind: &'static str, text: String) -> Response<Self> {
        let mut response = Response::new(Body::Whole(Some(text.into())));
        *response.status_mut() = status;
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        response
    }

    /// A value as JSON.
    pub fn json(status: StatusCode, value: &Value) -> Response<Self> {
        Body::text(status, "application/json", value.to_string())
    }

    /// Server-sent events.
    pub fn events(events: impl Events + 'static) -> Response<Self> {
        let mut response = Body::stream("text/event-stream; charset=utf-8", events);
        response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        response
    }

    /// Pieces of a type.
    pub fn stream(kind: &'static str, pieces: impl Events + 'static) -> Response<Self> {
        let mut response = Response::new(Body::Events(Box::new(pieces)));
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        response
    }
}

/// A value as one event.
pub fn event(value: &Value) -> String {
    format!("data: {value}\n\n")
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match &mut *self {
            Body::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Body::Events(events) => events.poll(context).map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Body::Whole(None))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Body::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Body::Events(_) => SizeHint::default(),
        }
    }
}
