//! What is served where.

use bytes::Bytes;
use http::header::{
    ACCEPT, ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, HeaderValue,
    REFERRER_POLICY, VARY, X_CONTENT_TYPE_OPTIONS,
};
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;

use super::negotiation::Format;
use super::{Observed, page, prometheus};

type Answer = Response<Full<Bytes>>;

/// Answers a request, whose body nobody reads.
pub(super) fn answer<B>(request: &Request<B>, observed: &Observed) -> Answer {
    if ![Method::GET, Method::HEAD].contains(request.method()) {
        let mut answer =
            plain(StatusCode::METHOD_NOT_ALLOWED, "this only shows: GET and HEAD are all it knows");
        answer.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return answer;
    }
    match request.uri().path() {
        "/metrics" => {
            let accept = request.headers().get(ACCEPT).and_then(|accept| accept.to_str().ok());
            let format = Format::accepted(accept.unwrap_or_default());
            let text = prometheus::encode(observed.families(), format);
            with_header(text_of(format.content_type(), text), VARY, "accept")
        }
        "/status" => match serde_json::to_string(&observed.status()) {
            Ok(json) => text_of("application/json", json),
            Err(error) => plain(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
        },
        "/" => {
            let page = page::render(observed);
            let answer = text_of("text/html; charset=utf-8", page.html);
            with_header(answer, CONTENT_SECURITY_POLICY, &page.policy)
        }
        _ => plain(StatusCode::NOT_FOUND, "there are /, /metrics and /status"),
    }
}

fn plain(status: StatusCode, text: &str) -> Answer {
    let mut answer = text_of("text/plain; charset=utf-8", format!("{text}\n"));
    *answer.status_mut() = status;
    answer
}

fn text_of(content_type: &'static str, text: String) -> Answer {
    let mut answer = Response::new(Full::from(text));
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    answer
}

fn with_header(mut answer: Answer, name: HeaderName, value: &str) -> Answer {
    if let Ok(value) = HeaderValue::from_str(value) {
        answer.headers_mut().insert(name, value);
    }
    answer
}
