//! One connection, from its first byte to its last.

use std::convert::Infallible;
use std::error::Error;
use std::future::{pending, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;

use http::header::{CONNECTION, HeaderValue};
use hyper::body::Incoming;
use hyper::rt::Executor;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode, Version};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep_until};
use tokio_util::task::TaskTracker;

use super::answer::AnswerBody;
use super::exchange;
use super::head::Origin;
use super::traffic::{Due, Traffic};
use super::wire::Wire;
use super::{Exchanges, Handover, Room};
use crate::error::{Cause, Limit, Phase, RequestError, excerpt};
use crate::http_options::HttpOptions;
use crate::request::{self, ClientFault};
use crate::sandbox::limits::Limits;
use crate::sandbox::watch::Watch;
use crate::server_info::ServerInfo;

/// hyper has no smaller buffers.
const HEAD_SIZE_MIN: usize = 8192;

/// The most of a request to come that a connection is handed back with.
const HAND_BACK_MAX: usize = 32 << 10;

/// How what drives a connection came to an end.
enum Ended<'a, T> {
    Itself(T),
    /// It was closed, since nothing came by it.
    Idle,
    /// Another version is to go on with it.
    Replaced(&'a Handover),
}

/// One connection and what its requests have in common.
pub(super) struct Connection {
    pub(super) server: Arc<ServerInfo>,
    pub(super) request: Arc<request::Request>,
    pub(super) exchanges: Arc<dyn Exchanges>,
    handover: Option<Arc<Handover>>,
    pub(super) origin: Origin,
    pub(super) traffic: Arc<Traffic>,
    /// Those of the sandbox.
    pub(super) limits: Limits,
    /// The room that the connection itself has for one of its requests.
    own_room: Arc<Semaphore>,
    /// For all of them: one whose client has given it up may go on.
    streams: Arc<Semaphore>,
    /// Guests, and what hyper does for each stream of HTTP/2.
    pub(super) tasks: TaskTracker,
}

/// Serves a connection whose TLS handshake, if any, is done. It ends when all of its requests have; cut off by `watch`, it
/// takes no more, and whoever cuts it cuts them.
pub(crate) async fn serve(
    server: &Arc<ServerInfo>,
    limits: &Limits,
    request: &Arc<request::Request>,
    watch: &Watch,
    exchanges: Arc<dyn Exchanges>,
) -> Result<(), RequestError> {
    watch.enter(Phase::Handle);
    let origin = Origin::new(
        request.client_address().clone(),
        request.unix_credentials(),
        request.local_address(&server.server_address),
        request.tls().is_some(),
    );
    let connection = Arc::new(Connection {
        server: server.clone(),
        request: request.clone(),
        handover: exchanges.handover(),
        exchanges,
        origin,
        traffic: Traffic::new(server, limits.idle_time, request),
        limits: limits.clone(),
        own_room: Arc::new(Semaphore::new(1)),
        streams: Arc::new(Semaphore::new(server.http.streams as usize)),
        tasks: TaskTracker::new(),
    });
    let served = watch.over(connection.clone().run()).await.flatten();
    connection.tasks.close();
    connection.tasks.wait().await;
    served.map_err(|cause| RequestError { phase: Phase::Handle, cause })
}

impl Connection {
    async fn run(self: Arc<Self>) -> Result<(), Cause> {
        let received = self.handover.as_ref().and_then(|handover| handover.take());
        let mut wire = self.wire(received.unwrap_or_default(), self.movable());
        let is_http2 = match self.request.tls().and_then(|tls| tls.alpn.as_deref()) {
            Some(protocol) => protocol == "h2",
            None => {
                let beginning = pin!(poll_fn(|context| wire.poll_is_http2(context)));
                match self.in_time(beginning, |_| (), self.movable()).await? {
                    Ended::Itself(begun) => begun.map_err(|error| self.client_cause(&error))?,
                    Ended::Idle => return Ok(()),
                    Ended::Replaced(handover) => {
                        handover.give_up(wire.into_ahead());
                        return Ok(());
                    }
                }
            }
        };
        match is_http2 {
            true => self.http2(wire).await,
            false => self.http1(wire).await,
        }
    }

    fn wire(&self, ahead: Vec<u8>, gate: Option<&Arc<Handover>>) -> Wire {
        Wire::new(self.request.clone(), self.traffic.clone(), ahead, gate.cloned())
    }

    async fn http1(self: Arc<Self>, mut wire: Wire) -> Result<(), Cause> {
        let mut movable = self.movable();
        loop {
            let this = self.clone();
            let mut connection = http1::Builder::new()
                // Many a client ends its half, and waits for the answer.
                .half_close(true)
                .header_read_timeout(None)
                .max_buf_size(self.server.http.head_size.max(HEAD_SIZE_MIN))
                .serve_connection(wire, service_fn(move |request| this.clone().answer(request)));
            let driven = Pin::new(&mut connection);
            let handover = match self.in_time(driven, http1::Connection::graceful_shutdown, movable).await? {
                Ended::Itself(served) => return served.or_else(|error| self.ended_by(&error)),
                Ended::Idle => return Ok(()),
                Ended::Replaced(handover) => handover,
            };
            let parts = connection.into_parts();
            let mut received = parts.read_buf.to_vec();
            received.extend(parts.io.into_ahead());
            if received.len() <= HAND_BACK_MAX {
                handover.give_up(received);
                return Ok(());
            }
            (wire, movable) = (self.wire(received, None), None);
        }
    }

    async fn http2(self: Arc<Self>, mut wire: Wire) -> Result<(), Cause> {
        self.traffic.set_http2();
        wire.keep();
        let this = self.clone();
        let HttpOptions { head_size, streams, .. } = self.server.http;
        let connection = http2::Builder::new(Tasks(self.tasks.clone()))
            .max_concurrent_streams(streams)
            .max_header_list_size(u32::try_from(head_size).unwrap_or(u32::MAX))
            .serve_connection(wire, service_fn(move |request| this.clone().answer(request)));
        match self.in_time(pin!(connection), http2::Connection::graceful_shutdown, None).await? {
            Ended::Itself(served) => served.or_else(|error| self.ended_by(&error)),
            Ended::Idle | Ended::Replaced(_) => Ok(()),
        }
    }

    /// How somebody else could go on with it: what TLS knows of a connection stays where it is.
    fn movable(&self) -> Option<&Arc<Handover>> {
        self.handover.as_ref().filter(|_| self.request.tls().is_none())
    }

    /// Drives hyper, and ends what is due to end.
    async fn in_time<'a, F: Future>(
        &self,
        mut connection: Pin<&mut F>,
        end: fn(Pin<&mut F>),
        movable: Option<&'a Arc<Handover>>,
    ) -> Result<Ended<'a, F::Output>, Cause> {
        let mut closing = self.exchanges.closing();
        let mut replaced = pin!(async {
            match &self.handover {
                Some(handover) => handover.due().await,
                None => pending().await,
            }
        });
        let mut timer = pin!(sleep_until(Instant::now()));
        let (mut is_ended, mut is_replaced) = (false, false);
        poll_fn(|context| {
            if !self.traffic.is_ending() && closing.as_mut().poll(context).is_ready() {
                self.traffic.end();
            }
            is_replaced = is_replaced || replaced.as_mut().poll(context).is_ready();
            if is_replaced && movable.is_none() && !self.traffic.is_ending() {
                self.traffic.end();
            }
            loop {
                let handover = movable.filter(|_| is_replaced);
                if let Some(handover) = handover.filter(|_| self.traffic.is_quiet()) {
                    return Poll::Ready(Ok(Ended::Replaced(handover)));
                }
                if let Poll::Ready(done) = connection.as_mut().poll(context) {
                    return Poll::Ready(Ok(Ended::Itself(done)));
                }
                if movable.is_some_and(|handover| self.traffic.is_quiet() && handover.is_due()) {
                    is_replaced = true;
                    continue;
                }
                if !is_ended && self.traffic.may_end() {
                    is_ended = true;
                    end(connection.as_mut());
                    continue;
                }
                let Some((at, due)) = self.traffic.due(context) else { return Poll::Pending };
                if timer.deadline() != at.into() {
                    timer.as_mut().reset(at.into());
                }
                if timer.as_mut().poll(context).is_pending() {
                    return Poll::Pending;
                }
                match due {
                    Due::End => self.traffic.end(),
                    Due::Close if is_ended => return Poll::Ready(Ok(Ended::Idle)),
                    Due::Close => {
                        is_ended = true;
                        // It has as long again to say so.
                        self.traffic.end();
                        end(connection.as_mut());
                    }
                    Due::Head(time) | Due::Write(time) => {
                        return Poll::Ready(Err(Cause::Limit(Limit::IdleTime(time))));
                    }
                    Due::Rate => {
                        let limit = self.limits.min_rate.map(Limit::MinRate);
                        return Poll::Ready(Err(Cause::Limit(limit.expect("there is one to keep"))));
                    }
                }
            }
        })
        .await
    }

    /// Answers one request: by a guest, or in its place.
    async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Result<Response<AnswerBody>, Infallible> {
        let is_http2 = request.version() == Version::HTTP_2;
        let mut response = exchange::answer(&self, request).await;
        if !is_http2 && (self.traffic.is_ending() || self.exchanges.is_crowded()) {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        Ok(response)
    }

    /// Room for a request: the connection's own, or more where there is some.
    pub(super) async fn room(&self) -> Room {
        let stream = self.streams.clone().acquire_owned().await;
        if let Ok(own) = self.own_room.clone().try_acquire_owned() {
            return Box::new((own, stream));
        }
        match self.exchanges.more_room() {
            Some(room) => Box::new((room, stream)),
            None => Box::new((self.own_room.clone().acquire_owned().await, stream)),
        }
    }

    /// How a connection ended that hyper has given up.
    fn ended_by(&self, error: &hyper::Error) -> Result<(), Cause> {
        // What a guest has not given whole is said of its request.
        if error.is_user() || error.is_body_write_aborted() {
            return Ok(());
        }
        refused_with(error).into_iter().for_each(|status| self.note_refusal(status));
        Err(self.client_cause(error))
    }

    pub(super) fn client_cause(&self, error: &dyn Error) -> Cause {
        match (self.request.client_fault(), self.limits.min_rate, self.limits.idle_time) {
            (Some(ClientFault::Slow), Some(rate), _) => Cause::Limit(Limit::MinRate(rate)),
            (Some(ClientFault::Silent), _, Some(time)) => Cause::Limit(Limit::IdleTime(time)),
            (Some(ClientFault::Tls), ..) => Cause::Tls(in_words(error)),
            _ => Cause::Client(in_words(error)),
        }
    }
}

/// What hyper has answered to a head that it does not take, which it tells nobody.
fn refused_with(error: &hyper::Error) -> Option<StatusCode> {
    match error.to_string().as_str() {
        "URI too long" => Some(StatusCode::URI_TOO_LONG),
        _ if error.is_parse_too_large() => Some(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE),
        _ if error.is_parse() && !error.is_parse_version_h2() => Some(StatusCode::BAD_REQUEST),
        _ => None,
    }
}

/// With what it comes from.
fn in_words(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    excerpt(&text)
}

/// Where hyper has the streams of HTTP/2 served.
#[derive(Clone)]
struct Tasks(TaskTracker);

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Tasks {
    fn execute(&self, future: F) {
        self.0.spawn(future);
    }
}
