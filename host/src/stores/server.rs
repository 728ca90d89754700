//! What servers of state have in common: by whom they are vouched for, and what is said where one cannot be reached.

use std::path::Path;

use crate::error::one_line;
use crate::tls;

/// Looks whether there are certificates in a file by which a server's is to be verified.
pub(super) fn check_ca(ca: Option<&Path>) -> Result<(), String> {
    ca.map_or(Ok(()), |ca| tls::check_roots(ca).map_err(|error| error.to_string()))
}

/// What a server of state or of a fleet or its client says, with what to do; `ca` is where certificates of those are named who vouch
/// for it.
pub fn advised(reason: &str, ca: &str) -> String {
    let reason = one_line(reason);
    let lower = reason.to_lowercase();
    let says = |words: &[&str]| words.iter().any(|word| lower.contains(word));
    let advice = if says(&["unknownissuer", "unknown issuer"]) {
        return format!("{reason} (name the certificates of those who vouch for it, with {ca})");
    } else if says(&["notvalidforname", "not valid for name"]) {
        "name the server as its certificate does"
    } else if says(&["noauth", "wrongpass", "authentication failed", "authorization violation"]) {
        "write who asks before the host, as in USER:PASSWORD@HOST"
    } else if says(&["jetstream unavailable", "jetstream not enabled", "jetstream resource does not exist"]) {
        "it has no JetStream, or not yet: it is started with -js"
    } else if says(&["insufficient resources"]) {
        "it may keep no more: remove what is needed no longer, or let it have more room"
    } else if says(&["corrupt message of type"]) {
        "it does not speak TLS there"
    } else if says(&["select is not allowed in cluster mode"]) {
        "a cluster has database 0 alone"
    } else {
        return reason;
    };
    format!("{reason} ({advice})")
}
