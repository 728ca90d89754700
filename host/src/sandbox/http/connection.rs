//! One connection, from its first byte to its last.

use std::convert::Infallible;
use std::error::Error;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;

use http::header::{CONNECTION, HeaderValue};
use hyper::body::Incoming;
use hyper::rt::Executor;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::{Request, Response, Version};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep_until};
use tokio_util::task::TaskTracker;

use super::answer::AnswerBody;
use super::exchange;
use super::head::Origin;
use super::traffic::{Due, Traffic};
use super::wire::Wire;
use super::{Exchanges, Room};
use crate::error::{Cause, Limit, Phase, RequestError, excerpt};
use crate::http_options::HttpOptions;
use crate::request::{self, ClientFault};
use crate::sandbox::limits::{Limits, Watch};
use crate::server_info::ServerInfo;

/// hyper has no smaller buffers.
const HEAD_SIZE_MIN: usize = 8192;

/// The most of a request to come that a connection is handed back with.
const HAND_BACK_MAX: usize = 32 << 10;

/// How what drives a connection came to an end.
enum Ended<T> {
    Itself(T),
    /// It was closed, since nothing came by it.
    Idle,
    /// Another version is to go on with it.
    Replaced,
}

/// One connection and what its requests have in common.
pub(super) struct Connection {
    pub(super) server: Arc<ServerInfo>,
    pub(super) request: Arc<request::Request>,
    pub(super) exchanges: Arc<dyn Exchanges>,
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
    let origin = Origin {
        client: request.client_address().clone(),
        credentials: request.unix_credentials(),
        local: request.local_address(&server.server_address),
        is_tls: request.tls().is_some(),
    };
    let connection = Arc::new(Connection {
        server: server.clone(),
        request: request.clone(),
        exchanges,
        origin,
        traffic: Traffic::new(&server.http, limits.idle_time, request),
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
        let mut wire = self.wire(self.exchanges.received(), self.may_be_moved());
        let is_http2 = match self.request.tls().and_then(|tls| tls.alpn.as_deref()) {
            Some(protocol) => protocol == "h2",
            None => {
                let beginning = pin!(poll_fn(|context| wire.poll_is_http2(context)));
                match self.in_time(beginning, |_| (), self.may_be_moved()).await? {
                    Ended::Itself(begun) => begun.map_err(|error| self.client_cause(&error))?,
                    Ended::Idle => return Ok(()),
                    Ended::Replaced => {
                        self.exchanges.hand_back(wire.into_ahead());
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

    fn wire(&self, ahead: Vec<u8>, may_be_moved: bool) -> Wire {
        let gate = may_be_moved.then(|| self.exchanges.clone());
        Wire::new(self.request.clone(), self.traffic.clone(), ahead, gate)
    }

    async fn http1(self: Arc<Self>, mut wire: Wire) -> Result<(), Cause> {
        let mut may_be_moved = self.may_be_moved();
        loop {
            let this = self.clone();
            let mut connection = http1::Builder::new()
                // Many a client ends its half, and waits for the answer.
                .half_close(true)
                .header_read_timeout(None)
                .max_buf_size(self.server.http.head_size.max(HEAD_SIZE_MIN))
                .serve_connection(wire, service_fn(move |request| this.clone().answer(request)));
            let driven = Pin::new(&mut connection);
            match self.in_time(driven, http1::Connection::graceful_shutdown, may_be_moved).await? {
                Ended::Itself(served) => return served.or_else(|error| self.ended_by(&error)),
                Ended::Idle => return Ok(()),
                Ended::Replaced => {}
            }
            let parts = connection.into_parts();
            let mut received = parts.read_buf.to_vec();
            received.extend(parts.io.into_ahead());
            if received.len() <= HAND_BACK_MAX {
                self.exchanges.hand_back(received);
                return Ok(());
            }
            (wire, may_be_moved) = (self.wire(received, false), false);
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
        match self.in_time(pin!(connection), http2::Connection::graceful_shutdown, false).await? {
            Ended::Itself(served) => served.or_else(|error| self.ended_by(&error)),
            Ended::Idle | Ended::Replaced => Ok(()),
        }
    }

    /// Whether somebody else could go on with it: what TLS knows of a connection stays where it is.
    fn may_be_moved(&self) -> bool {
        self.request.tls().is_none()
    }

    /// Drives hyper, and ends what is due to end.
    async fn in_time<F: Future>(
        &self,
        mut connection: Pin<&mut F>,
        end: fn(Pin<&mut F>),
        may_be_moved: bool,
    ) -> Result<Ended<F::Output>, Cause> {
        let (mut closing, mut replaced) = (self.exchanges.closing(), self.exchanges.replaced());
        let mut timer = pin!(sleep_until(Instant::now()));
        let (mut is_ended, mut is_replaced) = (false, false);
        poll_fn(|context| {
            if !self.traffic.is_ending() && closing.as_mut().poll(context).is_ready() {
                self.traffic.end();
            }
            is_replaced =
                is_replaced || self.exchanges.is_replaced() || replaced.as_mut().poll(context).is_ready();
            if is_replaced && !may_be_moved && !self.traffic.is_ending() {
                self.traffic.end();
            }
            loop {
                if is_replaced && may_be_moved && self.traffic.is_quiet() {
                    return Poll::Ready(Ok(Ended::Replaced));
                }
                if let Poll::Ready(done) = connection.as_mut().poll(context) {
                    return Poll::Ready(Ok(Ended::Itself(done)));
                }
                if may_be_moved && self.traffic.is_quiet() && self.exchanges.is_replaced() {
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
