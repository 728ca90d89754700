//! Metrics that are sent to a collector of OpenTelemetry's.

use std::net::TcpListener;
use std::process::Command;
use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value};
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value as Number;
use opentelemetry_proto::tonic::metrics::v1::{AggregationTemporality, Metric};
use prost::Message;

use super::TCP;
use crate::harness::{Collector, Export, Host, for_each_strategy, plugsock, run};

/// Metrics that a collector has received.
struct Metrics {
    path: String,
    head: String,
    request: ExportMetricsServiceRequest,
}

fn next(collector: &Collector) -> Metrics {
    let Export { path, head, body } = collector.next_but("/v1/traces");
    Metrics { path, head, request: ExportMetricsServiceRequest::decode(&body[..]).unwrap() }
}

impl Metrics {
    fn metric(&self, name: &str) -> &Metric {
        let all = &self.request.resource_metrics[0].scope_metrics[0].metrics;
        all.iter().find(|metric| metric.name == name).unwrap_or_else(|| panic!("no {name}"))
    }

    /// What counters of this name come to.
    fn sum(&self, name: &str) -> i64 {
        let Some(Data::Sum(sum)) = &self.metric(name).data else { panic!("{name} is no counter") };
        assert!(sum.is_monotonic);
        assert_eq!(sum.aggregation_temporality(), AggregationTemporality::Cumulative);
        let counts = sum.data_points.iter().map(|point| match point.value {
            Some(Number::AsInt(count)) => count,
            _ => panic!("{point:?}"),
        });
        counts.sum()
    }

    fn resource(&self, key: &str) -> String {
        text(&self.request.resource_metrics[0].resource.as_ref().unwrap().attributes, key)
    }
}

fn text(attributes: &[KeyValue], key: &str) -> String {
    let found = attributes.iter().find(|attribute| attribute.key == key);
    let value = found.and_then(|attribute| attribute.value.clone()?.value);
    match value {
        Some(Value::StringValue(text)) => text,
        other => panic!("{key}: {other:?}"),
    }
}

fn host(args: &[&str], variables: &[(&str, &str)]) -> Host {
    let mut command = plugsock();
    command.envs(variables.iter().copied());
    Host::serve_sockets(command, 1, &[&[TCP], args].concat())
}

const OFTEN: (&str, &str) = ("OTEL_METRIC_EXPORT_INTERVAL", "50");

#[test]
fn the_same_numbers_are_sent() {
    for_each_strategy(|strategy| {
        let collector = Collector::start("200 OK");
        let otlp = format!("--otlp={}/", collector.url());
        let host = host(&[&otlp, "--concurrency", strategy], &[OFTEN]);
        (0..4).for_each(|_| drop(host.ask(b"hello")));
        let export = loop {
            let export = next(&collector);
            if export.sum("plugsock_requests") == 4 && export.sum("plugsock_sent") == 20 {
                break export;
            }
        };
        assert_eq!(export.path, "/v1/metrics");
        assert_eq!(
            (export.resource("service.name"), export.resource("service.version")),
            ("plugsock".to_owned(), env!("CARGO_PKG_VERSION").to_owned())
        );
        assert_eq!(export.sum("plugsock_received"), 20);
        let duration = export.metric("plugsock_request_duration");
        assert_eq!(duration.unit, "s");
        let Some(Data::Histogram(times)) = &duration.data else { panic!("{duration:?}") };
        assert_eq!(times.aggregation_temporality(), AggregationTemporality::Cumulative);
        let point = &times.data_points[0];
        assert_eq!((point.count, point.bucket_counts.iter().sum::<u64>()), (4, 4));
        assert_eq!(point.bucket_counts.len(), point.explicit_bounds.len() + 1);
        assert!(point.sum.unwrap() > 0.0 && point.start_time_unix_nano < point.time_unix_nano);
        assert_eq!(
            (text(&point.attributes, "slot"), text(&point.attributes, "generation")),
            ("echo".to_owned(), "1".to_owned())
        );
    });
}

#[test]
fn variables_mean_what_they_mean_everywhere() {
    let collector = Collector::start("200 OK");
    let url = collector.url();
    let variables = [
        OFTEN,
        ("OTEL_EXPORTER_OTLP_ENDPOINT", url.as_str()),
        ("OTEL_EXPORTER_OTLP_HEADERS", "x-token=a%20secret"),
        ("OTEL_SERVICE_NAME", "shop"),
        ("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment=test,service.instance.id=one"),
    ];
    let first = host(&["--otlp"], &variables);
    let export = next(&collector);
    assert_eq!(export.path, "/v1/metrics");
    assert!(export.head.contains("x-token: a secret\r\n"), "{}", export.head);
    let names = ["service.name", "deployment.environment", "service.instance.id"];
    assert_eq!(names.map(|name| export.resource(name)), ["shop", "test", "one"]);
    drop(first);
    // A place for this signal is taken as it is, and what is on the command line before all.
    let path = format!("{url}/other");
    let of_signal = [("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", path.as_str()), OFTEN];
    let second = host(&["--otlp"], &[&variables[..], &of_signal].concat());
    while next(&collector).path != "/other" {}
    drop(second);
    let explicit = format!("--otlp={url}");
    let _third = host(&[&explicit], &[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1"), OFTEN]);
    while next(&collector).path != "/v1/metrics" {}
}

/// Nothing is sent before the first minute has passed but for the end.
#[test]
fn the_last_numbers_are_sent_at_the_end() {
    let collector = Collector::start("200 OK");
    let otlp = format!("--otlp={}", collector.url());
    let mut host = host(&[&otlp], &[]);
    (0..3).for_each(|_| drop(host.ask(b"hello")));
    assert!(host.terminate().success());
    assert_eq!(next(&collector).sum("plugsock_requests"), 3);
}

/// Neither does one that is not there hold anything up, nor one that does not answer, nor one that refuses.
#[test]
fn a_collector_that_does_not_take_them() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = format!("--otlp=http://{}", silent.local_addr().unwrap());
    let refusing = Collector::start("503 Service Unavailable");
    let refusing = format!("--otlp={}", refusing.url());
    let why = [
        ("--otlp=http://127.0.0.1:1", Some("http://127.0.0.1:1/v1/metrics")),
        ("--otlp=http://127.0.0.1:1", Some("Connection refused")),
        (&silent, None),
        (&refusing, Some("503 Service Unavailable")),
    ];
    for (otlp, why) in why {
        let mut host = host(&[otlp], &[OFTEN]);
        for _ in 0..20 {
            assert_eq!(host.ask(b"hello"), b"hello");
        }
        if let Some(why) = why {
            let said = host.log.wait_for("cannot send metrics to the collector");
            assert!(said.contains(why), "{said}");
        }
        let begun = Instant::now();
        assert!(host.terminate().success());
        assert!(begun.elapsed() < Duration::from_secs(10), "{otlp}: {:?}", begun.elapsed());
        // Not for each attempt, of which there were many.
        let said = host.log.lines_with("cannot send metrics to the collector").len();
        assert!(said <= 4, "{said} lines");
    }
}

#[test]
fn it_is_switched_off_by_variables() {
    for variable in [("OTEL_SDK_DISABLED", "true"), ("OTEL_METRICS_EXPORTER", "none")] {
        let collector = Collector::start("200 OK");
        let otlp = format!("--otlp={}", collector.url());
        let mut host = host(&[&otlp], &[OFTEN, ("OTEL_TRACES_EXPORTER", "none"), variable]);
        assert_eq!(host.ask(b"hello"), b"hello");
        assert!(host.terminate().success());
        assert!(collector.is_idle(), "{variable:?}");
    }
}

#[test]
fn what_is_wrong_is_said_at_the_start() {
    let serve = |otlp: &str, variable: (&str, &str)| {
        let mut command: Command = plugsock();
        run(command.args(["serve", TCP, otlp]).env(variable.0, variable.1))
    };
    for (otlp, variable, word) in [
        ("--otlp=http://[", ("UNUSED", ""), "endpoint"),
        ("--otlp", ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://["), "OTEL_EXPORTER_OTLP_ENDPOINT"),
        (
            "--otlp=gopher://x",
            ("UNUSED", ""),
            "the endpoint is 'gopher://x/v1/metrics', and must be http://HOST:PORT",
        ),
        ("--otlp", ("OTEL_EXPORTER_OTLP_ENDPOINT", "a:b@x"), "OTEL_EXPORTER_OTLP_ENDPOINT is 'a:b@x'"),
        ("--otlp", ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"), "OTEL_EXPORTER_OTLP_PROTOCOL is 'grpc'"),
        ("--otlp", ("OTEL_EXPORTER_OTLP_METRICS_PROTOCOL", "grpc"), "_METRICS_PROTOCOL is 'grpc'"),
        ("--otlp", ("OTEL_METRIC_EXPORT_INTERVAL", "soon"), "OTEL_METRIC_EXPORT_INTERVAL is 'soon'"),
        ("--otlp", ("OTEL_METRICS_EXPORTER", "console"), "OTEL_METRICS_EXPORTER is 'console'"),
    ] {
        let ended = serve(otlp, variable);
        assert_eq!(ended.code, Some(1), "{ended:?}");
        assert!(
            ended.stderr.contains("cannot send metrics by OTLP") && ended.stderr.contains(word),
            "{ended:?}"
        );
    }
}
