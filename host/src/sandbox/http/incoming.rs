//! The body of a request, or of an answer to a guest, as far as the guest reads it.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{StatusCode, Version};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep, sleep_until};
use wasmtime_wasi_http::Error;

use super::access::CLIENT_CLOSED_REQUEST;
use super::traffic::Traffic;
use crate::sandbox::watch::Watch;
use crate::traces::{Call, Waiting};

/// What a client has done to the body of its request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum BodyFault {
    /// It is larger than it may be.
    TooLarge = 1,
    /// It did not go on for too long.
    Slow,
    /// It broke off, or was no body.
    Broken,
}

impl BodyFault {
    /// What the client is told of it.
    pub(super) fn status(self, version: Version) -> StatusCode {
        match self {
            // A stream of HTTP/2 breaks off by being given up.
            Self::Broken if version == Version::HTTP_2 => {
                StatusCode::from_u16(CLIENT_CLOSED_REQUEST).expect("it has three digits")
            }
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Slow => StatusCode::REQUEST_TIMEOUT,
            Self::Broken => StatusCode::BAD_REQUEST,
        }
    }
}

/// Where it is noted.
#[derive(Clone, Debug, Default)]
pub(super) struct Fault(Arc<AtomicU8>);

impl Fault {
    pub(super) fn get(&self) -> Option<BodyFault> {
        let all = [BodyFault::TooLarge, BodyFault::Slow, BodyFault::Broken];
        let noted = self.0.load(Relaxed);
        all.into_iter().find(|fault| *fault as u8 == noted)
    }

    fn note(&self, fault: BodyFault) {
        self.0.store(fault as u8, Relaxed);
    }
}

pub(in crate::sandbox) struct IncomingBody {
    incoming: Incoming,
    /// How much of it may still come.
    left: Option<u64>,
    /// How long one wait for more of it may take.
    patience: Option<Duration>,
    /// Made for the first wait, and moved on for the next.
    timer: Option<Pin<Box<Sleep>>>,
    is_waiting: bool,
    fault: Fault,
    /// Is told of waits, if they are for a client of this server's.
    traffic: Option<Arc<Traffic>>,
    /// Over the request of the guest that reads it.
    watch: Arc<Watch>,
    waiting: Option<Waiting>,
}

impl IncomingBody {
    pub(super) fn new(
        incoming: Incoming,
        size_max: Option<u64>,
        patience: Option<Duration>,
        fault: Fault,
        traffic: Option<Arc<Traffic>>,
        watch: Arc<Watch>,
    ) -> Self {
        let (timer, is_waiting, waiting) = Default::default();
        Self { incoming, left: size_max, patience, timer, is_waiting, fault, traffic, watch, waiting }
    }

    /// Whether that is new.
    fn set_waiting(&mut self, is_waiting: bool) -> bool {
        let is_new = std::mem::replace(&mut self.is_waiting, is_waiting) != is_waiting;
        if let Some(traffic) = self.traffic.as_ref().filter(|_| is_new) {
            traffic.await_body(is_waiting);
        }
        if is_new {
            self.waiting = is_waiting.then(|| self.watch.waiting(|| Call::Body)).flatten();
        }
        is_new
    }

    fn failed(&self, fault: BodyFault, error: Error) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        self.fault.note(fault);
        Poll::Ready(Some(Err(error)))
    }

    fn has_waited_long(&mut self, context: &mut Context<'_>) -> bool {
        let is_new = self.set_waiting(true);
        let Some(patience) = self.patience else { return false };
        let deadline = Instant::now() + patience;
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        if is_new {
            timer.as_mut().reset(deadline);
        }
        timer.as_mut().poll(context).is_ready()
    }
}

impl Drop for IncomingBody {
    fn drop(&mut self) {
        self.set_waiting(false);
    }
}

impl Body for IncomingBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let frame = match Pin::new(&mut self.incoming).poll_frame(context) {
            Poll::Pending if self.has_waited_long(context) => {
                return self.failed(BodyFault::Slow, Error::ConnectionReadTimeout);
            }
            Poll::Pending => return Poll::Pending,
            Poll::Ready(frame) => frame,
        };
        self.set_waiting(false);
        match frame {
            Some(Ok(frame)) => {
                let length = frame.data_ref().map_or(0, |data| data.len() as u64);
                if let (Some(_), Some(trace)) = (&self.traffic, self.watch.trace()) {
                    trace.note_received(length);
                }
                match self.left.map(|left| left.checked_sub(length)) {
                    Some(None) => self.failed(BodyFault::TooLarge, Error::HttpRequestBodySize(None)),
                    left => {
                        self.left = left.flatten();
                        Poll::Ready(Some(Ok(frame)))
                    }
                }
            }
            Some(Err(error)) => self.failed(BodyFault::Broken, Error::Hyper(error)),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}
