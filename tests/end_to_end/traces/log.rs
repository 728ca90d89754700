//! What guests print belongs to their spans.

use super::{TCP, host, traces};
use crate::harness::{Collector, for_each_strategy, guest};

#[test]
fn lines_of_a_sampled_request_name_its_span() {
    for_each_strategy(|strategy| {
        for format in ["text", "json"] {
            let collector = Collector::start("200 OK");
            let args = [TCP, &guest("print_line"), "--concurrency", strategy, "--log-format", format];
            let printing = host(&collector, &args, &[]);
            assert_eq!(printing.ask(b"some words\n"), b"printed");
            let own = traces(&collector, 1, "finish").remove(0).own;
            let line = printing.log.wait_for("some words");
            for id in [&own.trace, &own.id] {
                assert!(line.contains(&**id), "{strategy}: {line} {own:#?}");
            }
            for name in ["trace_id", "span_id"] {
                assert!(line.contains(name), "{strategy}: {line}");
            }
            let quiet = host(&collector, &args, &[("OTEL_TRACES_SAMPLER", "always_off")]);
            assert_eq!(quiet.ask(b"some words\n"), b"printed");
            let line = quiet.log.wait_for("some words");
            assert!(!line.contains("trace_id") && !line.contains("span_id"), "{strategy}: {line}");
        }
    });
}

/// Also where the instance was there before its request, and has used WASI by then.
#[test]
fn each_line_its_own() {
    let collector = Collector::start("200 OK");
    let host = host(&collector, &[TCP, &guest("print_line"), "--reuse", "100"], &[]);
    for number in 0..3 {
        assert_eq!(host.ask(format!("line {number}\n").as_bytes()), b"printed");
    }
    for (number, trace) in traces(&collector, 3, "finish").iter().enumerate() {
        let line = host.log.wait_for(&format!("line {number}"));
        assert!(line.contains(&trace.own.id) && line.contains(&trace.own.trace), "{line} {trace:#?}");
    }
}
