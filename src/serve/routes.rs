//! What each path means.

mod answers;
mod embeddings;

use super::Shared;
use super::body::Body;
use super::refusal::Refusal;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::{Body as _, Bytes, Incoming};
use hyper::header::{AUTHORIZATION, CONTENT_LENGTH, HOST, ORIGIN};
use hyper::http::request::Parts;
use hyper::{HeaderMap, Method, Request, Response, StatusCode};
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

type Result<T> = std::result::Result<T, Refusal>;

/// How long a body may take to come.
const BODY_TIME: Duration = Duration::from_secs(60);
/// Bytes of a body that is not read are taken all the same, up to this,
const MOST_DROPPED: usize = 64 << 20;
/// and for so long.
const DROP_TIME: Duration = Duration::from_secs(2);

/// What a path asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Route {
    Health,
    Ready,
    Metrics,
    Models,
    Model,
    Chat,
    Texts,
    Embeddings,
    Unknown,
}

impl Route {
    /// Of a path, with what stands behind its beginning.
    fn of(path: &str) -> (Self, &str) {
        let route = match path {
            "/health" => Route::Health,
            "/ready" => Route::Ready,
            "/metrics" => Route::Metrics,
            "/v1/models" => Route::Models,
            "/v1/chat/completions" => Route::Chat,
            "/v1/completions" => Route::Texts,
            "/v1/embeddings" => Route::Embeddings,
            _ => match path.strip_prefix("/v1/models/") {
                Some(name) if !name.is_empty() => return (Route::Model, name),
                _ => Route::Unknown,
            },
        };
        (route, "")
    }

    /// As it is counted.
    fn name(self) -> &'static str {
        match self {
            Route::Health => "/health",
            Route::Ready => "/ready",
            Route::Metrics => "/metrics",
            Route::Models => "/v1/models",
            Route::Model => "/v1/models/{model}",
            Route::Chat => "/v1/chat/completions",
            Route::Texts => "/v1/completions",
            Route::Embeddings => "/v1/embeddings",
            Route::Unknown => "other",
        }
    }

    fn method(self) -> Method {
        match self {
            Route::Chat | Route::Texts | Route::Embeddings => Method::POST,
            _ => Method::GET,
        }
    }

    /// Whether everybody may ask.
    fn is_open(self) -> bool {
        matches!(self, Route::Health | Route::Ready)
    }
}

/// Answers a request, whatever it is.
pub async fn answer(request: Request<Incoming>, shared: Arc<Shared>) -> Response<Body> {
    let path = request.uri().path().to_owned();
    let (route, rest) = Route::of(&path);
    let (head, mut body) = request.into_parts();
    let response = respond(&head, &mut body, route, rest, &shared).await;
    let response = response.unwrap_or_else(|refusal| refusal.response());
    // Many clients read an answer only when all that they had to say was taken.
    if !body.is_end_stream() {
        let rest = Limited::new(&mut body, MOST_DROPPED).collect();
        let _ = tokio::time::timeout(DROP_TIME, rest).await;
    }
    shared.counts.answered(route.name(), response.status().as_u16());
    response
}

async fn respond(
    head: &Parts,
    body: &mut Incoming,
    route: Route,
    rest: &str,
    shared: &Arc<Shared>,
) -> Result<Response<Body>> {
    no_other_page(&head.headers, shared.is_local().then(|| shared.address.ip()))?;
    let method = &head.method;
    let allowed = route.method();
    if route != Route::Unknown && *method != allowed && !(*method == Method::HEAD && allowed == Method::GET) {
        let what = format!("{} takes {allowed}, not {method}", route.name());
        return Err(Refusal::new(StatusCode::METHOD_NOT_ALLOWED, what));
    }
    if !route.is_open() {
        authorise(&head.headers, shared)?;
    }
    match route {
        Route::Health => Ok(Body::json(StatusCode::OK, &json!({"status": "ok"}))),
        Route::Ready => match shared.host() {
            Some(_) => Ok(Body::json(StatusCode::OK, &json!({"status": "ready"}))),
            None => Err(not_ready()),
        },
        Route::Metrics => {
            Ok(Body::text(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", shared.counts.text()))
        }
        Route::Models => {
            let models = names(shared)?.iter().map(|name| model(name, shared)).collect::<Vec<_>>();
            Ok(Body::json(StatusCode::OK, &json!({"object": "list", "data": models})))
        }
        Route::Model => {
            let name = percent_decode_str(rest).decode_utf8_lossy();
            side(shared, &name)?;
            Ok(Body::json(StatusCode::OK, &model(&name, shared)))
        }
        Route::Chat => answers::chat(&read(head, body, shared).await?, shared).await,
        Route::Texts => answers::texts(&read(head, body, shared).await?, shared).await,
        Route::Embeddings => embeddings::embeddings(&read(head, body, shared).await?, shared).await,
        Route::Unknown => {
            let what = format!("there is nothing at {}", head.uri.path());
            Err(Refusal::new(StatusCode::NOT_FOUND, what).code("unknown_url"))
        }
    }
}

/// Refuses what a page of somebody else asks in a person's browser: from another origin, or from a name that was made to mean
/// this machine.
///
/// # Errors
/// The refusal.
pub fn no_other_page(headers: &HeaderMap, local: Option<IpAddr>) -> Result<()> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let host = text(HOST);
    let forbidden = |what: &str| Err(Refusal::new(StatusCode::FORBIDDEN, what));
    if let Some(origin) = headers.get(ORIGIN) {
        let own = origin.to_str().ok().and_then(|origin| origin.split_once("://")).map(|(_, own)| own);
        if own.is_none() || own != host {
            return forbidden("pages of other origins are not answered");
        }
    }
    let name =
        host.map(|host| host.rsplit_once(':').filter(|(_, port)| !port.contains(']')).map_or(host, |(name, _)| name));
    let is_own = |name: &str, local: IpAddr| {
        let address = name.trim_start_matches('[').trim_end_matches(']').parse();
        ["127.0.0.1", "localhost", "[::1]"].contains(&name) || address == Ok(local)
    };
    if let Some((name, local)) = name.zip(local)
        && !is_own(name, local)
    {
        return forbidden("this server is for its own machine, and is asked by another name");
    }
    Ok(())
}

fn authorise(headers: &HeaderMap, shared: &Shared) -> Result<()> {
    let keys = &shared.options.keys;
    if keys.is_open() {
        return Ok(());
    }
    let given = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let key =
        given.split_once(' ').filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")).map(|(_, key)| key.trim());
    match key {
        Some(key) if keys.know(key) => Ok(()),
        Some(_) => Err(Refusal::new(StatusCode::UNAUTHORIZED, "the API key is not known").code("invalid_api_key")),
        None => {
            let what = "an API key is needed: the header `Authorization: Bearer KEY`";
            Err(Refusal::new(StatusCode::UNAUTHORIZED, what).code("invalid_api_key"))
        }
    }
}

/// The body of a request.
async fn read(head: &Parts, body: &mut Incoming, shared: &Shared) -> Result<Bytes> {
    let most = shared.options.max_body_bytes;
    let too_large = || {
        let what = format!("the body is larger than {most} bytes");
        Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, what).code("body_too_large")
    };
    let said = head.headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if said.is_some_and(|bytes| bytes > most as u64) {
        return Err(too_large());
    }
    let mut stopping = shared.stopping.clone();
    let come = tokio::time::timeout(BODY_TIME, Limited::new(body, most).collect());
    let come = tokio::select! {
        come = come => come,
        // Nothing begins any more.
        _ = stopping.wait_for(|stop| *stop) => return Err(answers::ending()),
    };
    match come {
        Err(_) => Err(Refusal::new(StatusCode::REQUEST_TIMEOUT, "the body did not come in time")),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
        Ok(Err(error)) => Err(Refusal::bad(format!("the body did not come: {error}"))),
        Ok(Ok(body)) => Ok(body.to_bytes()),
    }
}

fn not_ready() -> Refusal {
    Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "the model is being loaded").code("not_ready").retry_after(5)
}

fn names(shared: &Shared) -> Result<&[String]> {
    shared.host().map(|host| host.names()).ok_or_else(not_ready)
}

/// The number of the side that a request names.
fn side(shared: &Shared, name: &str) -> Result<usize> {
    let names = names(shared)?;
    names.iter().position(|known| known == name).ok_or_else(|| {
        let known = names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        let what = format!("there is no model `{name}` here, but {known}");
        Refusal::new(StatusCode::NOT_FOUND, what).of("model").code("model_not_found")
    })
}

fn model(name: &str, shared: &Shared) -> Value {
    json!({"id": name, "object": "model", "created": shared.started, "owned_by": "gemma-tune"})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(given: &[(&'static str, &'static str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &'static str)| {
            (name.parse::<hyper::header::HeaderName>().unwrap(), hyper::header::HeaderValue::from_static(value))
        };
        given.iter().map(pair).collect()
    }

    #[test]
    fn pages_of_others_are_refused() {
        let is_taken = |given: &[(&'static str, &'static str)], is_local: bool| {
            no_other_page(&headers(given), is_local.then_some(IpAddr::from([127, 0, 0, 1]))).is_ok()
        };
        for host in ["127.0.0.1:8080", "localhost", "[::1]:80", "localhost:1", "[::1]"] {
            assert!(is_taken(&[("host", host)], true), "{host}");
        }
        for host in ["evil.example:8080", "127.0.0.1.evil.example", "localhost.example"] {
            assert!(!is_taken(&[("host", host)], true) && is_taken(&[("host", host)], false), "{host}");
        }
        let own = [("host", "127.0.0.1:8080"), ("origin", "http://127.0.0.1:8080")];
        assert!(is_taken(&own, true) && is_taken(&[], true));
        for origin in ["http://evil.example", "null", "http://127.0.0.1:81"] {
            assert!(!is_taken(&[("host", "127.0.0.1:8080"), ("origin", origin)], true), "{origin}");
            assert!(!is_taken(&[("host", "gpu:8080"), ("origin", origin)], false), "{origin}");
        }
    }

    #[test]
    fn paths_are_known() {
        assert_eq!(Route::of("/v1/models/a/b"), (Route::Model, "a/b"));
        for path in ["/", "/v1", "/v1/models/", "/v1/chat", "/../etc/passwd", "//health"] {
            assert_eq!(Route::of(path).0, Route::Unknown, "{path}");
        }
        assert_eq!(Route::of("/v1/chat/completions").0.method(), Method::POST);
        assert!(Route::Ready.is_open() && !Route::Metrics.is_open());
    }
}
