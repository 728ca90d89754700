//! What single requests did, as spans that are sent to a collector of OpenTelemetry's.

mod http;
mod log;
mod requests;
mod sending;

use std::collections::BTreeMap;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value};
use opentelemetry_proto::tonic::trace::v1::{self, span::SpanKind, status::StatusCode};
use prost::Message;

use crate::harness::{Collector, Export, Host, plugsock};

const TCP: &str = "tcp://127.0.0.1:0";

/// So that a test need not wait.
const SOON: (&str, &str) = ("OTEL_BSP_SCHEDULE_DELAY", "20");

const NO_METRICS: (&str, &str) = ("OTEL_METRICS_EXPORTER", "none");

#[derive(Clone, Debug)]
struct Span {
    trace: String,
    id: String,
    /// Empty if it has none.
    parent: String,
    name: String,
    kind: SpanKind,
    state: String,
    begun: u64,
    ended: u64,
    attributes: BTreeMap<String, String>,
    is_error: bool,
}

impl Span {
    fn of(span: v1::Span) -> Self {
        Self {
            trace: hex(&span.trace_id),
            id: hex(&span.span_id),
            parent: hex(&span.parent_span_id),
            kind: span.kind(),
            name: span.name,
            state: span.trace_state,
            begun: span.start_time_unix_nano,
            ended: span.end_time_unix_nano,
            attributes: attributes(span.attributes),
            is_error: span.status.is_some_and(|status| status.code() == StatusCode::Error),
        }
    }

    fn get(&self, key: &str) -> &str {
        self.attributes.get(key).unwrap_or_else(|| panic!("no {key}: {self:#?}"))
    }

    /// How long it is, in milliseconds.
    fn time(&self) -> u64 {
        (self.ended - self.begun) / 1_000_000
    }

    fn is_own(&self) -> bool {
        self.kind == SpanKind::Server
    }

    /// As an HTTP guest sees it.
    fn header(&self) -> String {
        format!("traceparent: 00-{}-{}-01\n", self.trace, self.id)
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn attributes(attributes: Vec<KeyValue>) -> BTreeMap<String, String> {
    let in_words = |value: Value| match value {
        Value::StringValue(text) => text,
        Value::IntValue(number) => number.to_string(),
        other => panic!("{other:?}"),
    };
    let of = |it: KeyValue| (it.key, in_words(it.value.unwrap().value.unwrap()));
    attributes.into_iter().map(of).collect()
}

fn spans(export: &Export) -> Vec<Span> {
    assert_eq!(export.path, "/v1/traces");
    let request = ExportTraceServiceRequest::decode(&export.body[..]).unwrap();
    let mut spans = Vec::new();
    for of_resource in request.resource_spans {
        let resource = attributes(of_resource.resource.unwrap().attributes);
        assert_eq!(resource["service.name"], "plugsock");
        for of_scope in of_resource.scope_spans {
            assert_eq!(of_scope.scope.unwrap().name, "plugsock");
            spans.extend(of_scope.spans.into_iter().map(Span::of));
        }
    }
    spans
}

/// A request's own span, and what is below it.
struct Trace {
    own: Span,
    below: Vec<Span>,
}

impl Trace {
    fn below(&self, name: &str) -> &Span {
        self.below.iter().find(|span| span.name == name).unwrap_or_else(|| panic!("no {name}: {self:#?}"))
    }

    fn names(&self) -> Vec<&str> {
        self.below.iter().map(|span| &*span.name).collect()
    }
}

impl std::fmt::Debug for Trace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "{:#?}", self.own)?;
        self.below.iter().try_for_each(|span| writeln!(f, "- {} {:?}", span.name, span.attributes))
    }
}

/// The next so many requests, in the order in which they ended; each has a phase `last`, after which nothing comes of it.
fn traces(collector: &Collector, count: usize, last: &str) -> Vec<Trace> {
    let mut all: Vec<Span> = Vec::new();
    loop {
        let own = all.iter().filter(|span| span.is_own());
        let is_whole = |own: &Span| all.iter().any(|span| span.parent == own.id && span.name == last);
        if own.clone().count() == count && own.clone().all(is_whole) {
            break;
        }
        all.extend(spans(&collector.next_but("/v1/metrics")));
    }
    let of = |own: &Span| {
        let below = all.iter().filter(|span| span.parent == own.id && span.kind != SpanKind::Server);
        Trace { own: own.clone(), below: below.cloned().collect() }
    };
    all.iter().filter(|span| span.is_own()).map(of).collect()
}

fn host(collector: &Collector, args: &[&str], variables: &[(&str, &str)]) -> Host {
    let otlp = format!("--otlp={}", collector.url());
    let mut command = plugsock();
    command.envs([SOON, NO_METRICS]).envs(variables.iter().copied());
    Host::serve_by(command, &[&[&*otlp], args].concat())
}

/// All spans that a host has not sent until its end.
fn rest(collector: &Collector, mut host: Host) -> Vec<Span> {
    assert!(host.terminate().success());
    collector.rest().iter().flat_map(spans).collect()
}
