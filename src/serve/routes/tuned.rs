//! What all requests about fine-tuning share.

use super::Result;
use crate::serve::Shared;
use crate::serve::refusal::Refusal;
use crate::serve::tuning::Tuning;
use crate::serve::wire::Fields;
use hyper::StatusCode;
use hyper::http::request::Parts;
use percent_encoding::percent_decode_str;
use serde_json::{Map, Value};
use std::sync::Arc;

/// Does what may wait for a disk on a thread of its own.
///
/// # Errors
/// Those of `act`.
pub async fn blocking<T: Send + 'static>(
    shared: &Arc<Shared>,
    act: impl FnOnce(&Arc<Shared>) -> Result<T> + Send + 'static,
) -> Result<T> {
    let shared = shared.clone();
    let done = tokio::task::spawn_blocking(move || act(&shared)).await;
    done.map_err(|_| Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "the server has failed at this"))?
}

/// What fine-tuning needs, where it is offered.
///
/// # Errors
/// Where it is not.
pub fn tuning(shared: &Shared) -> Result<&Tuning> {
    let off = || {
        let what = "nothing is trained here: the server was started without `--jobs`";
        Refusal::new(StatusCode::NOT_FOUND, what).code("not_offered")
    };
    shared.options.tuning.as_ref().ok_or_else(off)
}

/// What the queue refuses, or fails at.
pub fn own(error: crate::Error) -> Refusal {
    Refusal::of_error(&error)
}

/// The page begins behind something that is not there.
pub fn no_such(name: &str) -> Refusal {
    Refusal::param(name, format!("`{name}` names nothing that is in the list"))
}

/// What stands behind the `?` of an address.
pub struct Query(Map<String, Value>);

impl Query {
    /// Of a request.
    ///
    /// # Errors
    /// What is there twice.
    pub fn of(head: &Parts) -> Result<Self> {
        let decoded = |text: &str| percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned();
        let mut named = Map::new();
        for pair in head.uri.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            if named.insert(decoded(name), decoded(value).into()).is_some() {
                return Err(Refusal::param(name, format!("`{name}` is there twice")));
            }
        }
        Ok(Query(named))
    }

    /// Where a page begins and how long it is, of a query that may say `more` too.
    ///
    /// # Errors
    /// What is not known, and lengths that no page has.
    pub fn page(&self, more: &[&str], usual: usize, most: usize) -> Result<(Option<String>, usize)> {
        Fields(&self.0).check(&[&["after", "limit"][..], more].concat(), &[])?;
        let limit = match self.text("limit") {
            None => usual,
            Some(text) => text.parse().ok().filter(|limit| (1..=most).contains(limit)).ok_or_else(|| {
                Refusal::param("limit", format!("`limit` is a whole number, 1 to {most}, not {text:?}"))
            })?,
        };
        Ok((self.text("after").map(str::to_owned), limit))
    }

    /// A value.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).and_then(Value::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_within_bounds_and_what_is_not_known_is_refused() {
        let page = |query: &str| {
            let request = hyper::Request::builder().uri(format!("http://x/v1/files?{query}")).body(()).unwrap();
            Query::of(&request.into_parts().0)?.page(&["purpose"], 20, 100)
        };
        assert_eq!(page("").unwrap(), (None, 20));
        assert_eq!(page("limit=3&after=file%2Da&purpose=x").unwrap(), (Some("file-a".into()), 3));
        for (query, field) in [
            ("limit=0", "limit"),
            ("limit=101", "limit"),
            ("limit=x", "limit"),
            ("afer=1", "afer"),
            ("limit=1&limit=2", "limit"),
        ] {
            assert_eq!(page(query).unwrap_err().json()["error"]["param"], field, "{query}");
        }
    }
}
