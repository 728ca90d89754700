//! The spans of a request that has ended: its own, and below it its phases and the calls of its guest that waited. Their names
//! and attributes are OpenTelemetry's semantic conventions', and begin with `plugsock` where these have none.

use std::borrow::Cow;
use std::iter::once;
use std::sync::LazyLock;
use std::time::Duration;

use opentelemetry::trace::{SpanId, SpanKind, Status};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};

use super::Service;
use crate::address::{SocketAddress, UnixAddress};
use crate::error::{RequestError, excerpt_of};
use crate::request::Request;
use crate::slot::Version;
use crate::taken::Taken;
use crate::traces::{Call, Exchange, Moment, Recorded, WAIT_MIN, Wait, new_span};

/// The most of what one failed of, in bytes.
const REASON_MAX: usize = 500;

static SCOPE: LazyLock<InstrumentationScope> = LazyLock::new(|| {
    InstrumentationScope::builder("plugsock").with_version(env!("CARGO_PKG_VERSION")).build()
});

/// All that is known of a request at its end.
pub(super) struct Ended<'a> {
    pub(super) service: &'a Service,
    pub(super) request: &'a Request,
    pub(super) id: u64,
    pub(super) version: &'a Version,
    pub(super) served: &'a Result<(), RequestError>,
    pub(super) taken: &'a Taken,
}

impl Ended<'_> {
    /// The request's own comes first, and its phases last.
    pub(super) fn spans(&self, trace: &Recorded) -> impl Iterator<Item = SpanData> {
        once(self.own(trace)).chain(before_it_was_served(trace)).chain(waits(trace)).chain(phases(trace))
    }

    fn own(&self, trace: &Recorded) -> SpanData {
        let mut attributes = self.attributes();
        if trace.left_out > 0 {
            attributes.push(number("plugsock.waits_left_out", trace.left_out));
        }
        match &trace.exchange {
            Some(exchange) => attributes.extend(of_exchange(exchange)),
            None => attributes.extend(self.of_connection()),
        }
        let status = match self.served {
            Err(error) if !error.cause.is_the_clients() => {
                Status::error(excerpt_of(&error.to_string(), REASON_MAX))
            }
            _ => Status::Unset,
        };
        of_server(self.service, trace, attributes, status)
    }

    /// Of any request that was served.
    fn attributes(&self) -> Vec<KeyValue> {
        let Self { service, request, id, version, served, .. } = self;
        let mut attributes = common(service, request);
        attributes.extend([
            number("plugsock.generation", version.info.generation),
            KeyValue::new("plugsock.digest", version.handler.digest().to_owned()),
            number("plugsock.request", *id),
        ]);
        match served {
            Ok(()) => attributes.push(KeyValue::new("plugsock.outcome", "ok")),
            Err(RequestError { phase, cause }) => attributes.extend([
                KeyValue::new("plugsock.outcome", cause.name()),
                KeyValue::new("plugsock.failed_in", phase.to_string()),
                KeyValue::new("error.type", cause.name()),
            ]),
        }
        attributes
    }

    /// Of one that has its connection to itself.
    fn of_connection(&self) -> impl Iterator<Item = KeyValue> {
        let Self { service, request, taken, .. } = self;
        let mut volume = request.volume();
        volume.received += taken.volume.received;
        volume.sent += taken.volume.sent;
        let sizes = [number("plugsock.received", volume.received), number("plugsock.sent", volume.sent)];
        of_address(["server.address", "server.port"], &service.info.server_address).chain(sizes)
    }
}

/// A request of HTTP that was answered in the place of a guest, before any version had it.
pub(super) fn of_refusal(service: &Service, request: &Request, trace: &Recorded) -> SpanData {
    let exchange = trace.exchange.as_ref();
    let mut attributes = common(service, request);
    attributes.push(KeyValue::new("plugsock.outcome", "refused"));
    attributes.extend(exchange.into_iter().flat_map(of_exchange));
    let failed = exchange.and_then(|exchange| exchange.status).filter(|status| *status >= 500);
    attributes.extend(failed.map(|status| KeyValue::new("error.type", status.to_string())));
    let status = if failed.is_some() { Status::error("") } else { Status::Unset };
    of_server(service, trace, attributes, status)
}

/// A request's own.
fn of_server(service: &Service, trace: &Recorded, attributes: Vec<KeyValue>, status: Status) -> SpanData {
    let name = match &trace.exchange {
        Some(exchange) => known_method(&exchange.method).unwrap_or("HTTP").into(),
        None => format!("serve {}", service.slot.name()).into(),
    };
    SpanData {
        parent_span_id: trace.parent.map_or(SpanId::INVALID, SpanId::from),
        parent_span_is_remote: trace.parent.is_some(),
        span_kind: SpanKind::Server,
        attributes,
        status,
        ..span(trace, trace.context.span, name, trace.came, trace.ended.since(trace.came))
    }
}

/// What there is to say of any request.
fn common(service: &Service, request: &Request) -> Vec<KeyValue> {
    let info = &service.info;
    let mut attributes = vec![
        KeyValue::new("plugsock.server", info.address().to_string()),
        KeyValue::new("plugsock.strategy", info.concurrency.clone()),
        KeyValue::new("plugsock.slot", service.slot.name().to_owned()),
        KeyValue::new("network.transport", transport(info.server_type.scheme())),
    ];
    attributes.extend(of_address(["client.address", "client.port"], request.client_address()));
    attributes
}

fn of_exchange(exchange: &Exchange) -> impl Iterator<Item = KeyValue> {
    let Exchange { method, scheme, path, version, host, port, status, received, sent } = exchange;
    let known = known_method(method);
    [
        Some(KeyValue::new("http.request.method", known.unwrap_or("_OTHER"))),
        (known.is_none() && !method.is_empty())
            .then(|| KeyValue::new("http.request.method_original", method.clone())),
        Some(KeyValue::new("url.scheme", scheme.clone())),
        (!path.is_empty()).then(|| KeyValue::new("url.path", path.clone())),
        Some(KeyValue::new("network.protocol.name", "http")),
        (!version.is_empty()).then(|| KeyValue::new("network.protocol.version", version.clone())),
        host.clone().map(|host| KeyValue::new("server.address", host)),
        port.map(|port| number("server.port", port)),
        status.map(|status| number("http.response.status_code", status)),
        Some(number("http.request.body.size", *received)),
        Some(number("http.response.body.size", *sent)),
    ]
    .into_iter()
    .flatten()
}

/// The waits for room and for somebody who serves it, if there were any.
fn before_it_was_served(trace: &Recorded) -> impl Iterator<Item = SpanData> {
    let waits = [
        ("wait for room", trace.came, trace.admitted.since(trace.came)),
        ("wait for start", trace.admitted, trace.begun.since(trace.admitted)),
    ];
    let waits = waits.into_iter().filter(|(.., time)| *time >= WAIT_MIN);
    waits.map(|(name, since, time)| span(trace, new_span(), name.into(), since, time))
}

fn phases(trace: &Recorded) -> impl Iterator<Item = SpanData> {
    trace
        .phases
        .iter()
        .map(|(phase, since, time)| span(trace, new_span(), phase.to_string().into(), *since, *time))
}

fn waits(trace: &Recorded) -> impl Iterator<Item = SpanData> {
    trace.waits.iter().map(|Wait { call, span: number, since, time }| {
        let (name, span_kind, attributes) = of_call(call);
        let is_error = matches!(call, Call::Http { status, .. } if status.is_none_or(|status| status >= 400));
        let status = if is_error { Status::error("") } else { Status::Unset };
        let span = span(trace, number.unwrap_or_else(new_span), name, *since, *time);
        SpanData { span_kind, attributes, status, ..span }
    })
}

fn of_call(call: &Call) -> (Cow<'static, str>, SpanKind, Vec<KeyValue>) {
    let internal = |name: &'static str| (name.into(), SpanKind::Internal, Vec::new());
    match call {
        Call::Recv => internal("recv"),
        Call::Send => internal("send"),
        Call::StartTls => internal("start-tls"),
        Call::Poll => internal("poll"),
        Call::Body => internal("read body"),
        Call::Lookup { name } => {
            let asked = vec![KeyValue::new("dns.question.name", name.clone())];
            ("name lookup".into(), SpanKind::Internal, asked)
        }
        Call::Tls { server } => {
            let server = vec![KeyValue::new("server.address", server.clone())];
            ("TLS handshake".into(), SpanKind::Internal, server)
        }
        Call::Http { method, host, port, status } => {
            let known = known_method(method);
            let failed = match status {
                None => Some("_OTHER".to_owned()),
                Some(status) if *status >= 400 => Some(status.to_string()),
                Some(_) => None,
            };
            let attributes = [
                Some(KeyValue::new("http.request.method", known.unwrap_or("_OTHER"))),
                known.is_none().then(|| KeyValue::new("http.request.method_original", method.clone())),
                Some(KeyValue::new("server.address", host.clone())),
                Some(number("server.port", *port)),
                status.map(|status| number("http.response.status_code", status)),
                failed.map(|failed| KeyValue::new("error.type", failed)),
            ];
            (known.unwrap_or("HTTP").into(), SpanKind::Client, attributes.into_iter().flatten().collect())
        }
    }
}

/// One within the request's own, if it is not that.
fn span(trace: &Recorded, number: u64, name: Cow<'static, str>, since: Moment, time: Duration) -> SpanData {
    SpanData {
        span_context: trace.context.with_span(number).to_span_context(),
        parent_span_id: trace.context.span_id(),
        parent_span_is_remote: false,
        span_kind: SpanKind::Internal,
        name,
        start_time: since.time(),
        end_time: since.after(time).time(),
        attributes: Vec::new(),
        dropped_attributes_count: 0,
        events: SpanEvents::default(),
        links: SpanLinks::default(),
        status: Status::Unset,
        instrumentation_scope: SCOPE.clone(),
    }
}

/// A method that everybody knows; others are a client's to make up.
fn known_method(method: &str) -> Option<&'static str> {
    let known = ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"];
    known.into_iter().find(|known| *known == method)
}

fn transport(scheme: &'static str) -> &'static str {
    if scheme.starts_with("unix") { "unix" } else { scheme }
}

fn of_address(
    [address, port]: [&'static str; 2],
    socket: &SocketAddress,
) -> impl Iterator<Item = KeyValue> + use<> {
    let (host, number_of_port) = match socket {
        SocketAddress::Inet(socket) => (Some(socket.ip().to_canonical().to_string()), Some(socket.port())),
        SocketAddress::Unix(UnixAddress::Unnamed) => (None, None),
        SocketAddress::Unix(name) => (Some(name.to_string()), None),
    };
    let host = host.map(|host| KeyValue::new(address, host));
    host.into_iter().chain(number_of_port.map(|it| number(port, it)))
}

fn number(key: &'static str, number: impl TryInto<i64>) -> KeyValue {
    KeyValue::new(key, number.try_into().unwrap_or(i64::MAX))
}
