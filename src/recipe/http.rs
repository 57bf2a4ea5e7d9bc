//! Where a server is that judges answers, and what it is told beside them.

use super::diagnose::Diagnosis;
use super::kinds::{FromNode, mismatch};
use super::raw::{Node, Shape};
use super::rules::Verdict;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Serialize;
use std::borrow::Cow;
use std::collections::BTreeMap;

/// Headers of requests by their names; `$NAME` and `${NAME}` in a value are variables of the environment.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Headers(pub BTreeMap<String, String>);

/// Headers that the request itself says.
const OWN: [&str; 5] = ["content-type", "content-length", "transfer-encoding", "host", "accept"];
/// Parts of names of headers that hold secrets.
const SECRET: [&str; 6] = ["authorization", "cookie", "token", "key", "secret", "password"];
/// How a secret is written.
const FROM_ENVIRONMENT: &str = "recipes are copied into the run's folder: write a variable, `Authorization: 'Bearer $JUDGE_TOKEN'`, and set it in the environment";

impl FromNode for Headers {
    fn from_node(node: &Node, path: &str, diagnosis: &mut Diagnosis) -> Option<Self> {
        let Shape::Map(entries) = &node.shape else {
            let hint = Some("for example `{Authorization: 'Bearer $JUDGE_TOKEN'}`".to_owned());
            return mismatch(node, path, "names and values", hint, diagnosis);
        };
        let mut headers = BTreeMap::new();
        let mut is_good = true;
        for entry in entries {
            let own = format!("{path}.{}", entry.key);
            diagnosis.give(&own, entry.value.mark);
            let Some(value) = String::from_node(&entry.value, &own, diagnosis) else {
                is_good = false;
                continue;
            };
            if let Some((what, hint)) = wrong(&entry.key, &value) {
                diagnosis.wrong(&own, &entry.mark, format!("`{own}` {what}"), Some(hint.to_owned()));
                is_good = false;
            }
            headers.insert(entry.key.clone(), value);
        }
        is_good.then_some(Headers(headers))
    }
}

/// What is wrong with a header, and what to do.
fn wrong(name: &str, value: &str) -> Option<(&'static str, &'static str)> {
    let lower = name.to_ascii_lowercase();
    let is_name =
        !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b));
    if !is_name {
        return Some(("is no name of a header", "letters, digits and `-`"));
    }
    if OWN.contains(&lower.as_str()) {
        return Some(("is said by the request itself", "leave it out"));
    }
    if value.contains(char::is_control) {
        return Some(("must be one line", "leave out what ends it"));
    }
    let is_secret = SECRET.iter().any(|part| lower.contains(part));
    (is_secret && !value.contains('$')).then_some(("must not hold its secret itself", FROM_ENVIRONMENT))
}

impl JsonSchema for Headers {
    fn schema_name() -> Cow<'static, str> {
        "Headers".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "object", "additionalProperties": { "type": "string" } })
    }
}

/// The address of a server.
pub(super) fn good_url(url: &str) -> Verdict {
    if url.starts_with('$') {
        return None; // which the environment knows
    }
    let Some(rest) = ["http://", "https://"].iter().find_map(|scheme| url.strip_prefix(scheme)) else {
        let hint = "for example `http://127.0.0.1:8000/judge`";
        return Some(("must begin with `http://` or `https://`".into(), Some(hint.into())));
    };
    let server = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if server.is_empty() || url.contains(|c: char| c.is_control() || c.is_whitespace()) {
        return Some(("must be the address of a server".into(), None));
    }
    if server.contains('@') {
        let hint = "`headers: {Authorization: 'Bearer $JUDGE_TOKEN'}` says who asks";
        return Some(("must hold no login".into(), Some(hint.into())));
    }
    if server.contains('$') { None } else { impossible(server) }
}

/// What is wrong with the name and port of a server that cannot be one.
fn impossible(server: &str) -> Verdict {
    let wrong = |what: &str, hint: &str| Some((what.to_owned(), Some(hint.to_owned())));
    let (name, port) = match server.strip_prefix('[') {
        Some(inside) => {
            let Some((address, behind)) = inside.split_once(']') else {
                return wrong("has a `[` without its `]`", "for example `http://[::1]:8000/judge`");
            };
            if address.parse::<std::net::Ipv6Addr>().is_err() || !(behind.is_empty() || behind.starts_with(':')) {
                return wrong("must have an IPv6 address within `[` and `]`", "for example `http://[::1]:8000/judge`");
            }
            (address, behind.strip_prefix(':'))
        }
        None => server.split_once(':').map_or((server, None), |(name, port)| (name, Some(port))),
    };
    // As browsers have it, a `:` may stand without a port.
    let is_port =
        |port: &str| port.is_empty() || port.parse::<u16>().is_ok_and(|port| port > 0) && !port.starts_with('+');
    if let Some(port) = port.filter(|port| !is_port(port)) {
        return wrong(&format!("has `{port}` as its port"), "ports are from 1 to 65535");
    }
    let is_of_name = |c: char| c.is_alphanumeric() || "-._~%:".contains(c);
    let is_name = !name.is_empty() && name.chars().all(is_of_name);
    if is_name { None } else { wrong("must be the address of a server", "for example `http://127.0.0.1:8000/judge`") }
}
