//! One request and its answer.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use http::header::HOST;
use http::uri::Authority;
use http::{Method, Request, Response, StatusCode, Version};
use hyper::body::Incoming;
use tokio::sync::oneshot::{self, error::TryRecvError};
use wasmtime_wasi_http::p2::bindings::http::types::Scheme;
use wasmtime_wasi_http::p2::body::HyperOutgoingBody;

use super::Begun;
use super::access::AccessLine;
use super::answer::{AnswerBody, Answering, Sent, plain, status_of};
use super::connection::Connection;
use super::head::{self, Framing, Origin, Refusal};
use super::incoming::{BodyFault, Fault, IncomingBody};
use super::serving::Serving;
use crate::error::{Cause, Limit, Phase, RequestError, excerpt_of};
use crate::request::next_id;
use crate::traces::{Came, Exchange, TraceContext};

/// The most of a text of the client's that is noted for a span, in bytes.
const NOTED_MAX: usize = 1024;

/// A request as its guest gets it.
pub(in crate::sandbox) struct HttpRequest {
    /// Unique among all requests of this process, as those of other handlers are.
    pub(in crate::sandbox) id: u64,
    pub(in crate::sandbox) scheme: Scheme,
    pub(in crate::sandbox) request: Request<IncomingBody>,
    pub(in crate::sandbox) answering: Answering,
}

/// Answers one request: by a guest, or in its place.
pub(super) async fn answer(
    connection: &Arc<Connection>,
    mut request: Request<Incoming>,
) -> Response<AnswerBody> {
    let since = connection.server.sampling.as_ref().map(|_| Instant::now());
    let framing = head::check_framing(&request, || connection.traffic.head());
    let is_unsure = framing != Ok(Framing::Sound);
    let place = connection.traffic.enter();
    let options = &connection.server.http;
    let line = options.access_log.map(|format| AccessLine::of(format, &request, &connection.origin));
    let is_head = request.method() == Method::HEAD;
    let (tell, told) = oneshot::channel();
    let prepared = framing.and_then(|_| head::prepare(&mut request, &connection.origin, options));
    // Nothing that follows is believed, either.
    if is_unsure
        || (request.version() < Version::HTTP_2 && prepared.as_ref().is_err_and(Refusal::is_malformed))
    {
        connection.traffic.end();
    }
    let (answering, head) = Answering::new();
    let begun = match prepared {
        Ok(()) => begin(connection, request, since, answering.clone(), told).await,
        Err(refusal) => {
            connection.tell_refusal(&request, since, refusal.status);
            Err(plain(refusal.status, &refusal.reason))
        }
    };
    let (response, rest) = match begun {
        Ok(serving) => match serving.head(head).await {
            (Ok(Ok(response)), rest) => (response, rest),
            (Ok(Err(status)), rest) => (plain(status, ""), rest),
            (Err(_), rest) => (plain(StatusCode::SERVICE_UNAVAILABLE, ""), rest),
        },
        Err(response) => (response, None),
    };
    connection.exchanges.answered(response.status());
    AnswerBody::new(response, is_head, tell, answering, line, rest, place)
}

/// Has a guest begin with it, or says in its place why there is none.
async fn begin(
    connection: &Arc<Connection>,
    mut request: Request<Incoming>,
    since: Option<Instant>,
    answering: Answering,
    told: oneshot::Receiver<Sent>,
) -> Result<Serving, Response<HyperOutgoingBody>> {
    let came = since.map(|since| Came { since, parent: TraceContext::of(request.headers()) });
    let room = connection.room().await;
    let id = next_id();
    let Some(begun) = connection.exchanges.begin(id, came) else {
        connection.traffic.end();
        connection.tell_refusal(&request, since, StatusCode::SERVICE_UNAVAILABLE);
        return Err(plain(StatusCode::SERVICE_UNAVAILABLE, "what serves here now does not speak HTTP"));
    };
    if let Some(trace) = begun.watch.trace() {
        trace.note_exchange(|| exchange_of(&request, &connection.origin));
        trace.context().write(request.headers_mut());
    }
    let fault = Fault::default();
    let request = request.map(|body| {
        let (size_max, patience) = (connection.server.http.body_size, connection.limits.idle_time);
        let (traffic, watch) = (Some(connection.traffic.clone()), begun.watch.clone());
        IncomingBody::new(body, size_max, patience, fault.clone(), traffic, watch)
    });
    let scheme = if connection.origin.is_tls { Scheme::Https } else { Scheme::Http };
    let request = HttpRequest { id, scheme, request, answering };
    let connection = connection.clone();
    let (tasks, answering) = (connection.tasks.clone(), request.answering.clone());
    let serving = async move {
        connection.serve(begun, request, fault, told).await;
        drop(room);
    };
    Ok(Serving::new(serving, &answering, &tasks))
}

/// What is noted of a request that is sampled.
fn exchange_of<B>(request: &Request<B>, origin: &Origin) -> Exchange {
    let (uri, version) = (request.uri(), format!("{:?}", request.version()));
    let of_host = || Authority::try_from(request.headers().get(HOST)?.as_bytes()).ok();
    let authority = uri.authority().cloned().or_else(of_host);
    let version = version.trim_start_matches("HTTP/");
    Exchange {
        method: excerpt_of(request.method().as_str(), NOTED_MAX),
        scheme: origin.proto().to_owned(),
        path: excerpt_of(uri.path(), NOTED_MAX),
        version: version.strip_suffix(".0").filter(|version| *version != "1").unwrap_or(version).to_owned(),
        host: authority.as_ref().map(|authority| excerpt_of(authority.host(), NOTED_MAX)),
        port: authority.as_ref().and_then(|authority| authority.port_u16()),
        ..Exchange::default()
    }
}

impl Connection {
    /// Has it told, where requests are traced, that this one gets an answer of the host's.
    fn tell_refusal<B>(&self, request: &Request<B>, since: Option<Instant>, status: StatusCode) {
        let Some(since) = since else { return };
        let came = Came { since, parent: TraceContext::of(request.headers()) };
        self.tell(came, || Exchange { status: Some(status.as_u16()), ..exchange_of(request, &self.origin) });
    }

    /// Counts what hyper has refused by itself, and has it told.
    pub(super) fn note_refusal(&self, status: StatusCode) {
        self.exchanges.answered(status);
        let scheme = self.origin.proto().to_owned();
        // Whatever its head says was not understood.
        let came = Came { since: Instant::now(), parent: None };
        self.tell(came, || Exchange { status: Some(status.as_u16()), scheme, ..Exchange::default() });
    }

    fn tell(&self, came: Came, exchange: impl FnOnce() -> Exchange) {
        self.server.refused(came, exchange).into_iter().for_each(|trace| self.exchanges.refused(trace));
    }

    /// Serves one request, until its guest has ended and the client has the answer.
    async fn serve(
        &self,
        begun: Begun,
        request: HttpRequest,
        fault: Fault,
        mut told: oneshot::Receiver<Sent>,
    ) {
        let (id, answering) = (request.id, request.answering.clone());
        let http_version = request.request.version();
        let Begun { handler, version, watch, .. } = &begun;
        let served = handler.exchange(&self.server, version, watch, request).await;
        answering.note_guests_end();
        // What fails after the client has gone most likely fails of that.
        let sent_by_now = match told.try_recv() {
            Err(TryRecvError::Empty) => None,
            // Given up before its head, it is not told of.
            sent => Some(sent.unwrap_or(Sent::NOTHING)),
        };
        let has_gone = sent_by_now.is_some_and(|sent| !sent.is_whole);
        let failed = |cause| Err(RequestError { phase: Phase::Handle, cause });
        let mut served = served.and_then(|()| match answering.failure() {
            Some(failure) => failed(Cause::Error(failure)),
            None => Ok(()),
        });
        if let Err(error) = &mut served
            && matches!(error.cause, Cause::Error(_) | Cause::Trap { .. })
        {
            let client = || Cause::Client("it went before it had its answer".to_owned());
            let cause = fault.get().map(|fault| self.body_cause(fault)).or_else(|| has_gone.then(client));
            cause.into_iter().for_each(|cause| error.cause = cause);
        }
        if let Err(error) = &served {
            let status = fault.get().map(|fault| fault.status(http_version));
            answering.give(Err(status.unwrap_or_else(|| status_of(error))));
        }
        let sent = match sent_by_now {
            Some(sent) => sent,
            None => told.await.unwrap_or(Sent::NOTHING),
        };
        begun.watch.trace().iter().for_each(|trace| trace.note_answer(sent.status, sent.bytes));
        if served.is_ok() && !sent.is_whole {
            served = failed(Cause::Client("it went before it had the whole answer".to_owned()));
        }
        self.exchanges.end(id, begun, served).await;
    }

    fn body_cause(&self, fault: BodyFault) -> Cause {
        match (fault, self.limits.idle_time) {
            (BodyFault::TooLarge, _) => Cause::Client("it sent a larger body than it may".to_owned()),
            (BodyFault::Slow, Some(time)) => Cause::Limit(Limit::IdleTime(time)),
            _ => self.client_cause(&io::Error::other("it broke its request off")),
        }
    }
}
