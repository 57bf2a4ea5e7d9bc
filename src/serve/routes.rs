//! What each path means.

mod answers;
mod chats;
mod embeddings;
mod files;
mod tuned;
mod tuning;

use super::body::Body;
use super::client::Client;
use super::keys;
use super::models::{Named, Side};
use super::refusal::Refusal;
use super::{Host, Shared};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::{Body as _, Bytes, Incoming};
use hyper::header::{AUTHORIZATION, CONTENT_LENGTH, HOST, ORIGIN};
use hyper::http::request::Parts;
use hyper::{HeaderMap, Method, Request, Response, StatusCode, Version};
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

type Result<T> = std::result::Result<T, Refusal>;

/// What is served, as OpenAPI describes it.
const OPENAPI: &str = include_str!("openapi.json");
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
    OpenApi,
    Models,
    Model,
    Chat,
    Texts,
    Embeddings,
    Tuning(tuning::Route),
    Unknown,
}

impl Route {
    /// Of a path, with what stands behind its beginning.
    fn of(path: &str) -> (Self, &str) {
        let route = match path {
            "/health" => Route::Health,
            "/ready" => Route::Ready,
            "/metrics" => Route::Metrics,
            "/openapi.json" => Route::OpenApi,
            "/v1/models" => Route::Models,
            "/v1/chat/completions" => Route::Chat,
            "/v1/completions" => Route::Texts,
            "/v1/embeddings" => Route::Embeddings,
            _ => match path.strip_prefix("/v1/models/") {
                Some(name) if !name.is_empty() => return (Route::Model, name),
                _ => match tuning::Route::of(path) {
                    Some((route, id)) => return (Route::Tuning(route), id),
                    None => Route::Unknown,
                },
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
            Route::OpenApi => "/openapi.json",
            Route::Models => "/v1/models",
            Route::Model => "/v1/models/{model}",
            Route::Chat => "/v1/chat/completions",
            Route::Texts => "/v1/completions",
            Route::Embeddings => "/v1/embeddings",
            Route::Tuning(route) => route.name(),
            Route::Unknown => "other",
        }
    }

    fn methods(self) -> &'static [&'static str] {
        match self {
            route if route.costs() => &["POST"],
            Route::Model => &["GET", "DELETE"],
            Route::Tuning(route) => route.methods(),
            _ => &["GET"],
        }
    }

    /// Whether it counts among what a key may ask for in a minute.
    fn costs(self) -> bool {
        matches!(self, Route::Chat | Route::Texts | Route::Embeddings)
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
    let allowed = route.methods();
    let asked = if *method == Method::HEAD { "GET" } else { method.as_str() };
    if route != Route::Unknown && !allowed.contains(&asked) {
        let what = format!("{} takes {}, not {method}", route.name(), allowed.join(" and "));
        return Err(Refusal::new(StatusCode::METHOD_NOT_ALLOWED, what));
    }
    let key = if route.is_open() { 0 } else { authorise(&head.headers, shared)? };
    let owner = owner(&head.headers, shared);
    if route.costs() {
        let answered = answered(head, body, route, (key, owner), shared).await;
        let mut response = answered.unwrap_or_else(|refusal| refusal.response());
        shared.limits.say(key, response.headers_mut());
        return Ok(response);
    }
    match route {
        Route::Health => Ok(Body::json(StatusCode::OK, &json!({"status": "ok"}))),
        Route::Ready => match shared.host() {
            Some(_) => Ok(Body::json(StatusCode::OK, &ready(shared))),
            None => Err(not_ready()),
        },
        Route::Metrics => {
            Ok(Body::text(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", shared.counts.text()))
        }
        Route::OpenApi => Ok(Body::text(StatusCode::OK, "application/json", OPENAPI.to_owned())),
        Route::Models => {
            let models = host(shared)?.models().of_owner(&owner);
            let models = models.iter().map(model).collect::<Vec<_>>();
            Ok(Body::json(StatusCode::OK, &json!({"object": "list", "data": models})))
        }
        Route::Model if *method == Method::DELETE => {
            let name = percent_decode_str(rest).decode_utf8_lossy().into_owned();
            tuning::delete_model(name, &owner, shared).await
        }
        Route::Model => {
            let name = percent_decode_str(rest).decode_utf8_lossy();
            Ok(Body::json(StatusCode::OK, &model(&named(shared, &owner, &name)?)))
        }
        Route::Tuning(route) => tuning::answer(route, rest, head, body, &owner, shared).await,
        Route::Chat | Route::Texts | Route::Embeddings | Route::Unknown => {
            let what = format!("there is nothing at {}", head.uri.path());
            Err(Refusal::new(StatusCode::NOT_FOUND, what).code("unknown_url"))
        }
    }
}

/// Answers what the model is asked by the key with this number.
async fn answered(
    head: &Parts,
    body: &mut Incoming,
    route: Route,
    (key, owner): (usize, String),
    shared: &Arc<Shared>,
) -> Result<Response<Body>> {
    shared.limits.request(key)?;
    let body = read(head, body, shared).await?;
    let client = head.extensions.get::<Client>().cloned();
    let asker = Asker { key, owner, client: client.clone() };
    let answer = async {
        match route {
            Route::Chat => chats::chat(&body, asker, shared).await,
            Route::Texts => answers::texts(&body, asker, shared).await,
            _ => embeddings::embeddings(&body, asker, shared).await,
        }
    };
    // Before HTTP/1.1 nothing can be said before an answer.
    let is_gone = async {
        match client.filter(|_| head.version == Version::HTTP_11) {
            Some(client) => client.gone(true).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        biased;
        answer = answer => answer,
        () = is_gone => Err(Refusal::new(StatusCode::REQUEST_TIMEOUT, "the client is gone")),
    }
}

/// Who asks.
struct Asker {
    /// The number of its key.
    key: usize,
    /// By what it is known where it leaves something.
    owner: String,
    /// Its end of the connection.
    client: Option<Client>,
}

/// Refuses what a page of somebody else asks in a person's browser: from another origin, or from a name that was made to mean
/// this machine.
///
/// # Errors
/// The refusal.
pub fn no_other_page(headers: &HeaderMap, local: Option<IpAddr>) -> Result<()> {
    if headers.get_all(HOST).iter().count() > 1 {
        return Err(Refusal::bad("a request has one `Host`, and this one has several"));
    }
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

/// The key that somebody gives.
fn key(headers: &HeaderMap) -> Option<&str> {
    let given = headers.get(AUTHORIZATION)?.to_str().ok()?;
    given.split_once(' ').filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")).map(|(_, key)| key.trim())
}

/// Who asks; everybody is the same where nobody needs a key.
fn owner(headers: &HeaderMap, shared: &Shared) -> String {
    key(headers).filter(|_| !shared.options.keys.is_open()).map(keys::owner).unwrap_or_default()
}

/// The number of the key that is shown; where there are none, that of everybody.
fn authorise(headers: &HeaderMap, shared: &Shared) -> Result<usize> {
    let keys = &shared.options.keys;
    if keys.is_open() {
        return Ok(0);
    }
    match key(headers) {
        Some(key) => keys
            .find(key)
            .ok_or_else(|| Refusal::new(StatusCode::UNAUTHORIZED, "the API key is not known").code("invalid_api_key")),
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

/// That the model is loaded, and how who is asked instead stands; not where that is, as nobody needs a key to ask this.
fn ready(shared: &Shared) -> Value {
    let mut ready = json!({"status": "ready"});
    if shared.options.routing.is_some() {
        ready["upstream"] = match shared.counts.upstream_is_up() {
            Some(true) => "up",
            Some(false) => "down",
            None => "unknown",
        }
        .into();
    }
    ready
}

fn not_ready() -> Refusal {
    Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "the model is being loaded").code("not_ready").retry_after(5)
}

fn host(shared: &Shared) -> Result<&Arc<dyn Host>> {
    shared.host().ok_or_else(not_ready)
}

/// What the name of a model means to whoever asks.
fn named(shared: &Shared, owner: &str, name: &str) -> Result<Named> {
    let models = host(shared)?.models();
    models.find(name, owner).ok_or_else(|| {
        let known = models.of_owner(owner).iter().map(|named| format!("`{}`", named.name)).collect::<Vec<_>>();
        let what = format!("there is no model `{name}` here, but {}", known.join(", "));
        Refusal::new(StatusCode::NOT_FOUND, what).of("model").code("model_not_found")
    })
}

/// What runs beside the model that a request names.
fn side(shared: &Shared, owner: &str, name: &str) -> Result<Arc<Side>> {
    named(shared, owner, name).map(|named| named.side)
}

fn model(named: &Named) -> Value {
    json!({"id": named.name, "object": "model", "created": named.created, "owned_by": "gemma-tune"})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serve::wire::Asked;

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
        assert_eq!(Route::of("/v1/chat/completions").0.methods(), ["POST"]);
        assert!(Route::Ready.is_open() && !Route::Metrics.is_open());
        let twice = headers(&[("host", "localhost"), ("x", "y")]);
        assert!(no_other_page(&twice, None).is_ok());
        let mut twice = twice;
        twice.append(HOST, hyper::header::HeaderValue::from_static("localhost"));
        assert_eq!(no_other_page(&twice, None).unwrap_err().response().status(), StatusCode::BAD_REQUEST);
    }

    #[test]
    fn what_is_served_is_described_and_nothing_else() {
        let document: Value = serde_json::from_str(OPENAPI).unwrap();
        let paths = document["paths"].as_object().unwrap();
        let described = paths.iter().flat_map(|(path, item)| {
            item.as_object().unwrap().keys().map(move |method| (path.as_str(), method.to_uppercase()))
        });
        let described: std::collections::BTreeSet<(&str, String)> = described.collect();
        let routes: Vec<Route> = ROUTES.into_iter().chain(tuning::Route::ALL.map(Route::Tuning)).collect();
        let of = |route: &Route| {
            route.methods().iter().map(|method| (route.name(), (*method).to_owned())).collect::<Vec<_>>()
        };
        assert_eq!(described, routes.iter().flat_map(of).collect());
        for route in routes {
            let path = ["model", "file", "job"]
                .iter()
                .fold(route.name().to_owned(), |path, name| path.replace(&format!("{{{name}}}"), "m"));
            assert_eq!(Route::of(&path).0, route);
            for method in route.methods() {
                let item = &document["paths"][route.name()][method.to_lowercase()];
                assert_eq!(item["security"] == json!([]), route.is_open(), "{}", route.name());
                assert_eq!(item["responses"]["429"].is_object(), route.costs(), "{}", route.name());
            }
        }
        let parts = &document["components"]["schemas"];
        let jobs = crate::serve::wire::tuning::Create::fields();
        for (name, known) in
            [("Chat", Asked::fields_of_chats()), ("Text", Asked::fields_of_texts()), ("CreateJob", jobs)]
        {
            let fields: std::collections::BTreeSet<&str> =
                parts[name]["properties"].as_object().unwrap().keys().map(String::as_str).collect();
            assert_eq!(fields, known.into_iter().collect(), "{name}");
        }
        // What a part refers to is there.
        for (at, _) in OPENAPI.match_indices("\"$ref\": \"#") {
            let to = OPENAPI[at..].split('"').nth(3).unwrap();
            assert!(document.pointer(&to[1..]).is_some(), "{to}");
        }
    }

    const ROUTES: [Route; 9] = [
        Route::Health,
        Route::Ready,
        Route::Metrics,
        Route::OpenApi,
        Route::Models,
        Route::Model,
        Route::Chat,
        Route::Texts,
        Route::Embeddings,
    ];
}
