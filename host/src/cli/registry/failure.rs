//! Why a registry does not give what it is asked for, in words that say what to do.

use std::error::Error;
use std::time::Duration;

use oci_client::errors::OciEnvelope;
use reqwest::StatusCode;
use reqwest::header::RETRY_AFTER;

use super::session::Reply;

/// Why one thing that was asked for did not come.
#[derive(Debug)]
pub struct Failure {
    pub reason: String,
    /// What the registry answered, if it did.
    pub status: Option<StatusCode>,
    /// When to try again, if that may help: after this time, or whenever one likes.
    pub retry: Option<Option<Duration>>,
}

impl Failure {
    /// One that trying again does not mend.
    pub fn lasting(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), status: None, retry: None }
    }

    /// One that may be over soon.
    pub fn passing(reason: impl Into<String>) -> Self {
        Self { retry: Some(None), ..Self::lasting(reason) }
    }

    /// No answer at all, or not a whole one.
    pub fn transport(error: &reqwest::Error) -> Self {
        let reason = innermost(error);
        if error.is_redirect() {
            return Self::lasting(reason);
        }
        if reason.contains("certificate") {
            return Self::lasting(format!(
                "{reason}; if its certificate is by an authority of your own, name that with --registry-ca"
            ));
        }
        if reason.contains("InvalidContentType") || reason.contains("handshake eof") {
            return Self::lasting(
                "it does not speak TLS; if it is to be asked by plain HTTP, allow that with --registry-plain-http",
            );
        }
        if error.is_builder() {
            return Self::lasting(reason);
        }
        Self::passing(reason)
    }

    /// An answer that is a refusal.
    pub fn refused(reply: &Reply) -> Self {
        let Reply { status, headers, body, .. } = reply;
        let said = said(body).map_or(String::new(), |said| format!(": {said}"));
        let hint = match *status {
            StatusCode::NOT_FOUND => "; is the name right, and is it there?",
            StatusCode::FORBIDDEN => "; may whoever `docker login` is for do that?",
            StatusCode::PROXY_AUTHENTICATION_REQUIRED => {
                "; the proxy wants HTTPS_PROXY=http://USER:PASSWORD@HOST"
            }
            _ => "",
        };
        let retry = match *status {
            StatusCode::TOO_MANY_REQUESTS
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT => {
                let after = headers.get(RETRY_AFTER).and_then(|after| after.to_str().ok()?.parse().ok());
                Some(after.map(Duration::from_secs))
            }
            _ => None,
        };
        Self { reason: format!("it answers {status}{said}{hint}"), status: Some(*status), retry }
    }
}

/// What an error comes down to: its outer layers say that there was an error.
fn innermost(error: &reqwest::Error) -> String {
    let mut cause: &dyn Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

/// The most of a registry's own words that is passed on.
const SAID_MAX: usize = 300;

/// What a refusal says for itself: as OCI has it, or in a few words of its own.
fn said(body: &[u8]) -> Option<String> {
    let text = match serde_json::from_slice::<OciEnvelope>(body) {
        Ok(envelope) => {
            let words = envelope.errors.into_iter().map(|error| error.message);
            words.filter(|message| !message.is_empty()).collect::<Vec<_>>().join(", ")
        }
        Err(_) => std::str::from_utf8(body).ok()?.trim().to_owned(),
    };
    let is_for_people = !text.is_empty() && !text.starts_with(['<', '{']);
    is_for_people.then(|| text[..text.floor_char_boundary(SAID_MAX)].to_owned())
}
