//! How spans come to a collector, or do not.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use super::{NO_METRICS, SOON, TCP, host, rest, traces};
use crate::harness::{Collector, Host, plugsock, run, wait_until};
use crate::upgrade;

#[test]
fn variables_mean_what_they_mean_everywhere() {
    let collector = Collector::start("200 OK");
    let url = collector.url();
    let start = |variables: &[(&str, &str)]| {
        let mut command = plugsock();
        command.envs([SOON, NO_METRICS]).envs(variables.iter().copied());
        Host::serve_by(command, &[TCP, "--otlp"])
    };
    let headers = ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "x-token=a%20secret");
    let first = start(&[("OTEL_EXPORTER_OTLP_ENDPOINT", &url), headers]);
    assert_eq!(first.ask(b"hello"), b"hello");
    let export = collector.next_but("");
    assert_eq!(export.path, "/v1/traces");
    assert!(export.head.contains("x-token: a secret\r\n"), "{}", export.head);
    drop(first);
    collector.rest();
    let elsewhere = format!("{url}/other");
    let second = start(&[("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", &elsewhere)]);
    assert_eq!(second.ask(b"hello"), b"hello");
    assert_eq!(collector.next_but("/v1/traces").path, "/other");
}

/// Nothing else is sent in the first five seconds.
#[test]
fn the_last_are_sent_at_the_end() {
    let collector = Collector::start("200 OK");
    let host = host(&collector, &[TCP], &[("OTEL_BSP_SCHEDULE_DELAY", "600000")]);
    (0..3).for_each(|_| drop(host.ask(b"hello")));
    assert_eq!(rest(&collector, host).iter().filter(|span| span.is_own()).count(), 3);
}

#[test]
fn a_collector_that_comes_back() {
    let place = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = place.local_addr().unwrap().port();
    drop(place);
    let mut command = plugsock();
    // Shorter than the pause before it tries again.
    command.envs([SOON, NO_METRICS, ("OTEL_EXPORTER_OTLP_TIMEOUT", "100")]);
    let host = Host::serve_by(command, &[TCP, &format!("--otlp=http://127.0.0.1:{port}")]);
    assert_eq!(host.ask(b"hello"), b"hello");
    host.log.wait_for("spans to the collector");
    let collector = Collector::start_at(port, "200 OK");
    assert_eq!(host.ask(b"hello again"), b"hello again");
    let trace = traces(&collector, 1, "finish").remove(0);
    assert_eq!(trace.own.get("plugsock.received"), "11", "{trace:#?}");
}

/// Neither one that does not answer nor one that refuses holds anything up.
#[test]
fn what_is_not_taken_is_counted() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = format!("--otlp=http://{}", silent.local_addr().unwrap());
    let refusing = Collector::start("400 Bad Request");
    let refusing = format!("--otlp={}", refusing.url());
    for (otlp, reason, said) in [
        (&silent, "full", "5 spans wait for the collector, the most allowed"),
        (&refusing, "failed", "spans to the collector"),
    ] {
        let mut command = plugsock();
        command.envs([SOON, NO_METRICS, ("OTEL_BSP_MAX_QUEUE_SIZE", "5")]);
        let mut host = Host::serve_sockets(command, 1, &[TCP, otlp, "--metrics", TCP]);
        let metrics = host.line().strip_prefix("metrics tcp://").unwrap().trim_end().to_owned();
        let dropped = || {
            let page =
                run(std::process::Command::new("curl").args(["-sS", &format!("http://{metrics}/metrics")]));
            let name = format!("plugsock_spans_dropped_total{{reason=\"{reason}\"}} ");
            let line = page.stdout.lines().find_map(|line| line.strip_prefix(&name)).map(str::to_owned);
            line.unwrap_or_else(|| panic!("{page:?}")).parse::<u64>().unwrap()
        };
        for _ in 0..20 {
            assert_eq!(host.ask(b"hello"), b"hello");
        }
        wait_until(|| dropped() > 0);
        host.log.wait_for(said);
        let begun = Instant::now();
        assert!(host.terminate().success());
        assert!(begun.elapsed() < Duration::from_secs(10), "{otlp}: {:?}", begun.elapsed());
        let lines = host.log.lines_with(said).len();
        assert!(lines <= 4, "{lines} lines");
    }
}

#[test]
fn what_is_wrong_is_said_at_the_start() {
    for (name, value) in [
        ("OTEL_TRACES_SAMPLER", "sometimes"),
        ("OTEL_TRACES_EXPORTER", "console"),
        ("OTEL_BSP_SCHEDULE_DELAY", "0"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "0"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "99999999999"),
        ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "many"),
        ("OTEL_BSP_EXPORT_TIMEOUT", "-1"),
        ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "1s"),
    ] {
        let ended = run(plugsock().args(["serve", TCP, "--otlp"]).env(name, value));
        assert_eq!(ended.code, Some(1), "{ended:?}");
        let expected = format!("cannot send traces by OTLP: {name} is '{value}', and must be ");
        assert!(ended.stderr.contains(&expected), "{ended:?}");
    }
    for share in ["2", "-0.1", "NaN", "half"] {
        let sampler = ("OTEL_TRACES_SAMPLER", "traceidratio");
        let mut command = plugsock();
        command.args(["serve", TCP, "--otlp"]).envs([sampler, ("OTEL_TRACES_SAMPLER_ARG", share)]);
        let ended = run(&mut command);
        assert!(ended.stderr.contains(&format!("OTEL_TRACES_SAMPLER_ARG is '{share}'")), "{ended:?}");
    }
}

#[test]
fn they_are_sent_by_whoever_takes_over() {
    let collector = Collector::start("200 OK");
    let host = host(&collector, &[TCP], &[]);
    assert_eq!(host.ask(b"hello"), b"hello");
    traces(&collector, 1, "finish");
    let successor = upgrade::upgrade(&host);
    assert_eq!(host.ask(b"hello again"), b"hello again");
    let trace = traces(&collector, 1, "finish").remove(0);
    assert_eq!(trace.own.get("plugsock.received"), "11", "{trace:#?}");
    upgrade::end(host, successor);
}
