//! Requests of HTTP: whose spans they belong to, and who belongs to theirs.

use super::{Span, SpanKind, TCP, host, rest, spans, traces};
use crate::harness::{Collector, Host, for_each_strategy, guest, plugin};
use crate::http::{curl, serve, url};

const PROTOCOLS: [(&str, &str); 2] = [("--http1.1", "1.1"), ("--http2-prior-knowledge", "2")];

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";

fn parent(flags: &str) -> String {
    format!("traceparent: 00-{TRACE}-{PARENT}-{flags}")
}

fn traced(collector: &Collector, strategy: &str, args: &[&str], variables: &[(&str, &str)]) -> Host {
    let handler = guest("http");
    host(collector, &[&[TCP, &handler, "--concurrency", strategy], args].concat(), variables)
}

/// What a guest sees of `traceparent` and `tracestate`.
fn seen(answer: &str) -> Vec<String> {
    let is_of_traces = |line: &&str| line.starts_with("traceparent:") || line.starts_with("tracestate:");
    answer.lines().filter(is_of_traces).map(|line| format!("{line}\n")).collect()
}

#[test]
fn a_request_belongs_to_its_clients_span() {
    for_each_strategy(|strategy| {
        let collector = Collector::start("200 OK");
        let host = traced(&collector, strategy, &[], &[]);
        let port = url(&host, "").rsplit_once(':').unwrap().1.to_owned();
        for (protocol, version) in PROTOCOLS {
            let state = "tracestate: one=1,two=2";
            let asked = url(&host, "/head?secret=word");
            let answer = curl(&[protocol, "-H", &parent("01"), "-H", state, &asked]);
            let trace = traces(&collector, 1, "handle").remove(0);
            let own = &trace.own;
            assert_eq!((&*own.trace, &*own.parent), (TRACE, PARENT), "{strategy} {version}: {trace:#?}");
            let expected = [own.header(), format!("{state}\n")];
            let mut seen = seen(&answer);
            seen.sort();
            assert_eq!(seen, expected, "{strategy} {version}");
            assert_eq!((&*own.name, &*own.state), ("GET", "one=1,two=2"), "{strategy} {version}");
            let sent = (answer.trim_end().len() + 1).to_string();
            for (key, expected) in [
                ("http.request.method", "GET"),
                ("url.path", "/head"),
                ("url.scheme", "http"),
                ("network.protocol.version", version),
                ("server.address", "127.0.0.1"),
                ("server.port", &port),
                ("http.response.status_code", "200"),
                ("http.response.body.size", &sent),
                ("plugsock.slot", "http"),
                ("plugsock.outcome", "ok"),
            ] {
                assert_eq!(own.get(key), expected, "{strategy} {version} {key}: {trace:#?}");
            }
            assert!(!format!("{trace:?}").contains("secret"), "{strategy}: {trace:?}");
            assert_eq!(trace.below("instantiate").parent, own.id, "{strategy}");
            // Each has its own.
            curl(&[protocol, "-d", "a body", &url(&host, "/collect")]);
            let other = traces(&collector, 1, "handle").remove(0).own;
            assert_eq!(other.get("http.request.body.size"), "6", "{strategy} {version}: {other:#?}");
            curl(&[protocol, &url(&host, "/status/404")]);
            let other = traces(&collector, 1, "handle").remove(0).own;
            assert_eq!((&*other.parent, other.get("http.response.status_code")), ("", "404"), "{strategy}");
            assert!(other.trace != TRACE && !other.is_error, "{strategy}: {other:#?}");
        }
    });
}

/// What it waits for has no name of its own.
#[test]
fn a_guest_that_sleeps_waits_in_a_poll() {
    for_each_strategy(|strategy| {
        let collector = Collector::start("200 OK");
        let host = traced(&collector, strategy, &[], &[]);
        curl(&[&url(&host, "/sleep/100")]);
        let trace = traces(&collector, 1, "handle").remove(0);
        assert!(trace.below("poll").time() >= 90, "{strategy}: {trace:#?}");
        assert_eq!(trace.names().iter().filter(|name| **name == "poll").count(), 1, "{strategy}: {trace:#?}");
    });
}

/// The next own span that comes.
fn next_own(collector: &Collector) -> Span {
    loop {
        let come = spans(&collector.next_but("/v1/metrics"));
        if let Some(own) = come.into_iter().find(Span::is_own) {
            return own;
        }
    }
}

/// By the host, or by what speaks HTTP for it.
#[test]
fn what_is_refused_before_there_is_a_guest() {
    for_each_strategy(|strategy| {
        let collector = Collector::start("200 OK");
        let args = ["--http-head-size", "8KiB", "--http-body-size", "1000"];
        let host = traced(&collector, strategy, &args, &[]);
        let large = format!("GET / HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", "x".repeat(20_000));
        let nameless = format!("GET /head?secret=word HTTP/1.1\r\n{}\r\n\r\n", parent("01"));
        for (sent, status, name) in [
            (&*nameless, "400", "GET"),
            ("CONNECT x:80 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", "501", "CONNECT"),
            ("GET / HTTP/1.1\r\nHost: x\r\na b: c\r\n\r\n", "400", "HTTP"),
            (&large, "431", "HTTP"),
        ] {
            let client = host.connect();
            client.try_send(sent.as_bytes());
            let answer = String::from_utf8(client.recv_all()).unwrap();
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{strategy}: {answer}");
            drop(client);
            let own = next_own(&collector);
            assert_eq!(
                (&*own.name, own.get("http.response.status_code")),
                (name, status),
                "{strategy}: {own:#?}"
            );
            assert_eq!(own.get("plugsock.outcome"), "refused", "{strategy}: {own:#?}");
            assert_eq!(own.is_error, status == "501", "{strategy}: {own:#?}");
            if sent == nameless {
                let placed = (&*own.trace, &*own.parent, own.get("url.path"));
                assert_eq!(placed, (TRACE, PARENT, "/head"), "{strategy}: {own:#?}");
            }
        }
        assert_eq!(rest(&collector, host).iter().filter(|span| span.is_own()).count(), 0, "{strategy}");
    });
}

/// A connection is open whose slot has become something else.
#[test]
fn what_comes_when_http_is_spoken_no_more() {
    let collector = Collector::start("200 OK");
    let host = traced(&collector, "threading", &[], &[]);
    let client = host.connect();
    let ask = || client.send(b"GET /version HTTP/1.1\r\nHost: x\r\n\r\n");
    ask();
    assert_eq!(traces(&collector, 1, "handle").remove(0).own.get("http.response.status_code"), "200");
    assert_eq!(host.ctl(&["swap", &plugin("echo")]).code, Some(0));
    ask();
    let own = next_own(&collector);
    assert_eq!((own.get("http.response.status_code"), own.is_error), ("503", true), "{own:#?}");
}

#[test]
fn a_failure_of_the_guest_is_one_of_the_span() {
    for_each_strategy(|strategy| {
        let collector = Collector::start("200 OK");
        let host = traced(&collector, strategy, &[], &[]);
        for (path, outcome) in [("/trap", "trap"), ("/status/503", "error")] {
            curl(&[&url(&host, path)]);
            let own = traces(&collector, 1, "handle").remove(0).own;
            assert!(own.is_error, "{strategy} {path}: {own:#?}");
            assert_eq!(own.get("plugsock.outcome"), outcome, "{strategy} {path}: {own:#?}");
            assert!(own.get("http.response.status_code").starts_with('5'), "{strategy} {path}: {own:#?}");
        }
    });
}

#[test]
fn the_client_says_whether_it_is_sampled_if_the_sampler_asks_it() {
    for_each_strategy(|strategy| {
        for (sampler, flags, is_sampled) in [
            ("parentbased_always_on", "00", false),
            ("parentbased_always_off", "01", true),
            ("always_on", "00", true),
            ("always_off", "01", false),
        ] {
            let collector = Collector::start("200 OK");
            let host = traced(&collector, strategy, &[], &[("OTEL_TRACES_SAMPLER", sampler)]);
            let seen = seen(&curl(&["-H", &parent(flags), &url(&host, "/head")]));
            let [seen] = &seen[..] else { panic!("{strategy} {sampler}: {seen:?}") };
            // Whatever is decided, the guest's own requests belong to a span below the client's.
            assert!(seen.starts_with(&format!("traceparent: 00-{TRACE}-")), "{strategy} {sampler}: {seen}");
            assert!(!seen.contains(PARENT), "{strategy} {sampler}: {seen}");
            assert_eq!(seen.ends_with("-01\n"), is_sampled, "{strategy} {sampler}: {seen}");
            let own: Vec<_> = rest(&collector, host).into_iter().filter(|span| span.is_own()).collect();
            assert_eq!(own.len(), usize::from(is_sampled), "{strategy} {sampler}: {own:#?}");
            assert!(own.iter().all(|own| own.header() == *seen), "{strategy} {sampler}: {own:#?}");
        }
    });
}

#[test]
fn what_is_malformed_counts_as_absent() {
    let collector = Collector::start("200 OK");
    let host = traced(&collector, "threading", &[], &[]);
    let malformed = [parent("1"), parent("01-00"), parent("01").to_uppercase(), "traceparent: 00".to_owned()];
    for header in &malformed {
        let seen = seen(&curl(&["-H", header, "-H", "tracestate: one=1", &url(&host, "/head")]));
        let own = traces(&collector, 1, "handle").remove(0).own;
        assert_eq!(seen, [own.header()], "{header}");
        assert!(own.parent.is_empty() && own.trace != TRACE && own.state.is_empty(), "{header}: {own:#?}");
    }
}

#[test]
fn nothing_is_touched_where_nothing_is_traced() {
    let collector = Collector::start("200 OK");
    let off = [("OTEL_TRACES_EXPORTER", "none")];
    for host in [serve("threading", &[]), traced(&collector, "threading", &[], &off)] {
        for header in [parent("01"), "traceparent: nonsense".to_owned()] {
            let answer = curl(&["-H", &header, "-H", "tracestate: any thing", &url(&host, "/head")]);
            assert_eq!(seen(&answer), [format!("{header}\n"), "tracestate: any thing\n".to_owned()]);
        }
        assert_eq!(seen(&curl(&[&url(&host, "/head")])), [""; 0]);
    }
}

/// The other sees whose span it belongs to.
#[test]
fn what_a_guest_asks_of_others() {
    let other = serve("threading", &[]);
    let to = format!("x-url: {}", url(&other, "/head"));
    let port = url(&other, "").rsplit_once(':').unwrap().1.to_owned();
    let granted = format!("127.0.0.1:{port}");
    for_each_strategy(|strategy| {
        let collector = Collector::start("200 OK");
        let host = traced(&collector, strategy, &["--allow-net", &granted], &[]);
        let fetch = |more: &str| seen(&curl(&["-H", &to, "-H", more, &url(&host, "/fetch")]));
        let seen = fetch(&parent("01"));
        let trace = traces(&collector, 1, "handle").remove(0);
        let asked = trace.below("GET");
        assert_eq!(seen, [asked.header()], "{strategy}: {trace:#?}");
        assert_eq!((&*asked.trace, &*asked.parent, asked.kind), (TRACE, &*trace.own.id, SpanKind::Client));
        for (key, expected) in
            [("server.address", "127.0.0.1"), ("server.port", &port), ("http.response.status_code", "200")]
        {
            assert_eq!(asked.get(key), expected, "{strategy}: {trace:#?}");
        }
        // A guest may say so itself.
        let own = format!("00-{}-{}-01", "1".repeat(32), "2".repeat(16));
        assert_eq!(fetch(&format!("x-traceparent: {own}")), [format!("traceparent: {own}\n")], "{strategy}");
        // One that is not sampled says that.
        let seen = fetch(&parent("00"));
        assert!(seen[0].starts_with(&format!("traceparent: 00-{TRACE}-")), "{strategy}: {seen:?}");
        assert!(seen[0].ends_with("-00\n"), "{strategy}: {seen:?}");
    });
}
