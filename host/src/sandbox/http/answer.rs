//! What a request is answered with: by its guest, or by the host where there is none or it failed.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderValue};
use http::{Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, Full};
use tokio::sync::oneshot;
use wasmtime_wasi_http::Error;
use wasmtime_wasi_http::p2::bindings::http::types::ErrorCode;
use wasmtime_wasi_http::p2::body::HyperOutgoingBody;

use super::access::AccessLine;
use super::serving::Serving;
use super::traffic::Place;
use crate::error::{Cause, Limit, RequestError, excerpt};

/// The head of an answer as a guest gives it, or the status that stands for what it did not.
pub(super) type Head = Result<Response<HyperOutgoingBody>, StatusCode>;

/// Where the one answer to a request goes.
#[derive(Clone)]
pub(in crate::sandbox) struct Answering(Arc<Mutex<Answer>>);

struct Answer {
    /// `None` when it was given.
    sender: Option<oneshot::Sender<Head>>,
    /// What is wrong with what the guest has said by it, or that it has said nothing.
    failure: Option<String>,
    /// The guest has ended before its time, so that what it has not sent it never will.
    is_broken: bool,
    has_guest_ended: bool,
}

/// Breaks off what a guest answers, unless it ends as it should.
pub(super) struct BreakOff(Option<Answering>);

impl BreakOff {
    pub(super) fn disarm(mut self) {
        self.0 = None;
    }
}

impl Drop for BreakOff {
    fn drop(&mut self) {
        if let Some(answering) = &self.0 {
            answering.answer().is_broken = true;
        }
    }
}

impl Answering {
    pub(super) fn new() -> (Self, oneshot::Receiver<Head>) {
        let (sender, receiver) = oneshot::channel();
        (
            Self(Arc::new(Mutex::new(Answer {
                sender: Some(sender),
                failure: Some("it gave no answer".to_owned()),
                is_broken: false,
                has_guest_ended: false,
            }))),
            receiver,
        )
    }

    /// Gives it, unless it was given.
    pub(super) fn give(&self, head: Head) {
        if let Some(sender) = self.answer().sender.take() {
            // Nobody waits for it any more where the client has gone.
            let _ = sender.send(head);
        }
    }

    /// The guest's own, which it gives once.
    pub(in crate::sandbox) fn give_guests(&self, given: Result<Response<HyperOutgoingBody>, ErrorCode>) {
        self.answer().failure = match &given {
            Ok(response) if response.status().is_server_error() => {
                Some(format!("it answered with status {}", response.status().as_u16()))
            }
            Ok(_) => None,
            Err(code) => Some(format!("it answered with the error {}", in_words(code))),
        };
        self.give(given.map_err(|_| StatusCode::INTERNAL_SERVER_ERROR));
    }

    pub(super) fn failure(&self) -> Option<String> {
        self.answer().failure.clone()
    }

    pub(super) fn note_guests_end(&self) {
        self.answer().has_guest_ended = true;
    }

    /// Whether there is no more to come of its guest but what it has given.
    pub(super) fn is_guests_end(&self) -> bool {
        self.answer().has_guest_ended
    }

    /// To be dropped before the guest's store: with that goes all that tells a body that has ended from one that was let go of.
    pub(super) fn break_off(&self) -> BreakOff {
        BreakOff(Some(self.clone()))
    }

    fn answer(&self) -> MutexGuard<'_, Answer> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An error as a guest has named it, without the type's own name.
fn in_words(code: &ErrorCode) -> String {
    let text = format!("{code:?}");
    excerpt(text.strip_prefix("ErrorCode::").unwrap_or(&text))
}

/// How much of an answer was sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sent {
    /// With which status; `None` if there was no head.
    pub(super) status: Option<u16>,
    pub(super) bytes: u64,
    /// Whether that was all.
    pub(super) is_whole: bool,
}

impl Sent {
    pub(super) const NOTHING: Self = Self { status: None, bytes: 0, is_whole: false };
}

/// An answer's body on its way; while it is, its request is open.
pub(super) struct AnswerBody {
    body: HyperOutgoingBody,
    /// How long it is, if its head says so; hyper does not look for the end then.
    length: Option<u64>,
    sent: Sent,
    told: Option<oneshot::Sender<Sent>>,
    /// Where a guest gives it.
    answering: Answering,
    line: Option<AccessLine>,
    /// What is left to do when there is no more to send.
    _rest: Option<Serving>,
    place: Place,
}

impl AnswerBody {
    /// Has `told` know when there is no more of it to send, and the log. `is_head` is whether the head alone is
    /// asked for.
    pub(super) fn new(
        response: Response<HyperOutgoingBody>,
        is_head: bool,
        told: oneshot::Sender<Sent>,
        answering: Answering,
        mut line: Option<AccessLine>,
        rest: Option<Serving>,
        place: Place,
    ) -> Response<Self> {
        let length =
            response.headers().get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        let status = response.status();
        let is_bodiless = is_head || [StatusCode::NO_CONTENT, StatusCode::NOT_MODIFIED].contains(&status);
        let length = if is_bodiless { Some(0) } else { length };
        line.iter_mut().for_each(|line| line.status = status.as_u16());
        response.map(|body| {
            let is_whole = length == Some(0) || body.is_end_stream();
            let sent = Sent { status: Some(status.as_u16()), bytes: 0, is_whole };
            Self { body, length, sent, told: Some(told), answering, line, _rest: rest, place }
        })
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(context);
        if matches!(frame, Poll::Ready(None)) && self.answering.answer().is_broken {
            return Poll::Ready(Some(Err(Error::HttpResponseIncomplete)));
        }
        self.place.note_part(matches!(frame, Poll::Ready(Some(Ok(_)))));
        match &frame {
            Poll::Ready(Some(Ok(frame))) => {
                self.sent.bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
                self.sent.is_whole =
                    frame.is_trailers() || self.length == Some(self.sent.bytes) || self.body.is_end_stream();
            }
            Poll::Ready(None) => self.sent.is_whole = true,
            Poll::Ready(Some(Err(_))) | Poll::Pending => {}
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for AnswerBody {
    fn drop(&mut self) {
        if let Some(mut line) = self.line.take() {
            line.note(&self.sent);
        }
        // Nobody listens where there was no guest.
        let _ = self.told.take().map(|told| told.send(self.sent));
    }
}

/// An answer of the host's, with a line of text that says why.
pub(super) fn plain(status: StatusCode, reason: &str) -> Response<HyperOutgoingBody> {
    let text = if reason.is_empty() { String::new() } else { format!("{reason}\n") };
    let body = Full::new(Bytes::from(text)).map_err(|never| match never {}).boxed_unsync();
    let mut response = Response::new(body);
    *response.status_mut() = status;
    if !reason.is_empty() {
        let plain = HeaderValue::from_static("text/plain; charset=utf-8");
        response.headers_mut().insert(CONTENT_TYPE, plain);
    }
    response
}

/// What a client is told of a request that failed before it was answered.
pub(super) fn status_of(error: &RequestError) -> StatusCode {
    match &error.cause {
        Cause::Limit(Limit::Time(_) | Limit::CpuTime(_)) => StatusCode::GATEWAY_TIMEOUT,
        Cause::Limit(Limit::IdleTime(_) | Limit::MinRate(_)) => StatusCode::REQUEST_TIMEOUT,
        Cause::Limit(_) | Cause::Host(_) => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}
