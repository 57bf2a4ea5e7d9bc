//! The HTTP that is spoken with the Hub: one way to ask, what an unsuccessful answer says, and why a connection broke.

use super::failure::Failure;
use super::settings::HubSettings;
use ureq::config::RedirectAuthHeaders;
use ureq::http::Response;
use ureq::{Agent, Body};

/// What an unsuccessful answer says in its body at most.
const MESSAGE_LIMIT_BYTES: u64 = 64 << 10;

/// Who asks: with timeouts, following redirections, but with the token to the Hub's own host only.
pub(super) fn agent(settings: &HubSettings) -> Agent {
    Agent::config_builder()
        .http_status_as_error(false)
        .timeout_resolve(Some(settings.timeout))
        .timeout_connect(Some(settings.timeout))
        .timeout_recv_response(Some(3 * settings.timeout))
        .timeout_per_read(Some(3 * settings.timeout))
        .redirect_auth_headers(RedirectAuthHeaders::SameHost)
        .user_agent(concat!("gemma-tune/", env!("CARGO_PKG_VERSION")))
        .build()
        .new_agent()
}

/// An unsuccessful answer.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Refusal {
    pub status: u16,
    /// The Hub's `X-Error-Code`.
    code: String,
    /// Its `X-Error-Message`, or what the body says instead.
    pub message: String,
}

impl Refusal {
    /// Reads an answer that is no success.
    pub fn read(response: &mut Response<Body>, settings: &HubSettings) -> Refusal {
        let status = response.status().as_u16();
        let header = |name: &str| response.headers().get(name).and_then(|v| v.to_str().ok()).unwrap_or_default();
        let (code, mut message) = (header("x-error-code").to_owned(), header("x-error-message").to_owned());
        if message.is_empty() {
            let body = response.body_mut().with_config().limit(MESSAGE_LIMIT_BYTES).read_to_vec().unwrap_or_default();
            let json: Option<serde_json::Value> = serde_json::from_slice(&body).ok();
            let said = json.as_ref().and_then(|json| json.get("error").or_else(|| json.get("message")));
            message = said.and_then(|said| said.as_str()).unwrap_or_default().to_owned();
        }
        Refusal { status, code, message: settings.heard(&message) }
    }

    /// Which of the ways to say no it is.
    pub fn failure(&self, has_token: bool) -> Failure {
        Failure::of_answer(self.status, &self.code, &self.message, has_token)
    }
}

/// Why a connection did not come about or broke.
pub(super) fn broken(error: &ureq::Error) -> String {
    match error {
        ureq::Error::HostNotFound => "its name could not be resolved".into(),
        ureq::Error::Timeout(_) => "it did not answer in time".into(),
        ureq::Error::Io(e) if e.kind() == std::io::ErrorKind::ConnectionRefused => "the connection was refused".into(),
        other => other.to_string(),
    }
}

/// `https://host` of an address.
pub(super) fn origin(url: &str) -> &str {
    let host = url.find("://").map_or(0, |at| at + 3);
    &url[..url[host..].find('/').map_or(url.len(), |at| host + at)]
}
