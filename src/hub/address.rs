//! The parts of the Hub's address: who asks, and where.

use percent_encoding::percent_decode_str;

/// `user:password@host:port` of an address.
fn authority(url: &str) -> &str {
    let rest = url.find("://").map_or(url, |at| &url[at + 3..]);
    rest.find(['/', '?', '#']).map_or(rest, |end| &rest[..end])
}

/// `user:password` of an address, as it is written.
pub(super) fn login(url: &str) -> Option<&str> {
    authority(url).rsplit_once('@').map(|(login, _)| login).filter(|login| !login.is_empty())
}

/// Whether there can be a server at an address: it names a host, perhaps with a port.
pub(super) fn has_host(url: &str) -> bool {
    let authority = authority(url);
    let host_and_port = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let (host, port) = match host_and_port.rsplit_once(':') {
        // The colons of `[::1]` are the host's own.
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (host_and_port, None),
    };
    let is_port = |port: &str| port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok();
    !host.is_empty() && port.is_none_or(is_port) && url.bytes().all(|b| b.is_ascii_graphic())
}

/// A part of an address, read as addresses write what they have no letter for (`%40`).
pub(super) fn decoded(part: &str) -> String {
    percent_decode_str(part).decode_utf8_lossy().into_owned()
}
