//! A request that fails ends alone: by a status if it was not answered yet, by a broken answer if it was.

use std::process::Command;

use super::{Answer, curl, get, serve, url};
use crate::harness::{Host, for_each_strategy, guest, run};

#[test]
fn what_was_not_answered_is_answered_by_a_status() {
    let limits = ["--cpu-time", "300ms", "--memory", "16MiB"];
    for_each_strategy(|strategy| {
        let host = serve(strategy, &limits);
        for (path, status, said) in [
            ("/trap", 500, "handler trapped: wasm trap: wasm `unreachable`"),
            ("/no-answer", 500, "it gave no answer"),
            ("/error-code", 500, "it answered with the error InternalError(Some(\"as asked\"))"),
            ("/bomb", 503, "memory limit of 16777216 bytes reached"),
            ("/loop", 504, "CPU time limit of 300ms reached"),
        ] {
            let client = host.connect();
            let answer = get(&client, path);
            assert_eq!((answer.status, answer.text()), (status, ""), "{strategy} {path}");
            host.log.wait_for(said);
            // The connection is as good as before.
            if strategy != "sync" {
                assert_eq!(get(&client, "/version").text(), "1", "{strategy} after {path}");
            }
        }
        let host = serve(strategy, &["--request-time", "300ms"]);
        assert_eq!(get(&host.connect(), "/sleep/100000").status, 504, "{strategy}");
        host.log.wait_for("handler stopped: time limit of 300ms reached");
    });
}

#[test]
fn what_was_answered_in_part_is_broken_off() {
    for_each_strategy(|strategy| {
        let host = serve(strategy, &["--cpu-time", "300ms"]);
        for path in ["/trap-after-head", "/trap-in-body", "/short/10", "/loop-after-head"] {
            let client = host.connect();
            client.send(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes());
            let answer = String::from_utf8(client.recv_all()).unwrap();
            // The head may not have left by then.
            assert!(
                answer.is_empty() || answer.starts_with("HTTP/1.1 200 OK\r\n"),
                "{strategy} {path}: {answer}"
            );
            assert!(!answer.ends_with("0\r\n\r\n"), "{strategy} {path} passes for whole: {answer}");
        }
        // By HTTP/2 the stream is reset.
        let args = ["-sS", "--http2-prior-knowledge", &url(&host, "/trap-in-body")];
        let ended = run(Command::new("curl").args(args));
        assert!(ended.stderr.contains("HTTP/2 stream"), "{strategy}: {ended:?}");
    });
}

/// The client has its answer whole; that the guest failed afterwards is said in the log.
#[test]
fn what_was_answered_whole_stays_whole() {
    for_each_strategy(|strategy| {
        let host = serve(strategy, &[]);
        assert_eq!(curl(&[&url(&host, "/trap-after-body")]), "all of it\n", "{strategy}");
        host.log.wait_for("handler trapped");
    });
}

#[test]
fn failures_are_counted_and_roll_a_version_back() {
    for strategy in ["threading", "forking"] {
        let host = Host::serve(&[
            "tcp://127.0.0.1:0",
            &guest("http"),
            "--rollback-on",
            "errors>50%/60s",
            "--concurrency",
            strategy,
        ]);
        let swapped = host.ctl(&["swap", &guest("http_v2")]);
        assert!(swapped.code == Some(0), "{}", swapped.stderr);
        let client = host.connect();
        assert_eq!(get(&client, "/version").text(), "2");
        // What the guest itself says is a failure counts as one.
        for _ in 0..20 {
            assert_eq!(get(&client, "/status/503").status, 503);
        }
        host.log.wait_for("rolled back");
        let versions = host.status();
        assert!(format!("{versions:?}").contains("RolledBack"), "{strategy}: {versions:?}");
        // By the same connection.
        let answer: Answer = get(&client, "/version");
        assert_eq!(answer.text(), "1", "{strategy}");
    }
}
