//! What `h2spec` says, which has a client break each rule of HTTP/2 and HPACK in turn.

use std::process::Command;

use super::{authority, serve, serve_tls};
use crate::harness::{Host, is_installed, run};

/// What it may find fault with.
const BUT_FOR: [&str; 2] = [
    // In the clear, who begins otherwise than HTTP/2 does speaks HTTP/1, and is answered by that.
    "× 2: Sends invalid connection preface",
    // Requests that have ended by then leave room for others.
    "× 1: Sends HEADERS frames that causes their advertised concurrent stream limit to be exceeded",
];

#[test]
fn in_the_clear() {
    conforms(|strategy| serve(strategy, &[]), &[]);
}

#[test]
fn by_tls() {
    conforms(serve_tls, &["-t", "-k"]);
}

fn conforms(serve: impl Fn(&str) -> Host, options: &[&str]) {
    if !is_installed("h2spec") {
        return;
    }
    for strategy in ["threading", "forking", "pool", "async"] {
        let host = serve(strategy);
        let authority = authority(&host);
        let (address, port) = authority.rsplit_once(':').unwrap();
        // An answer that comes before its request is whole tells nothing of what is wrong with the rest.
        let args = ["--strict", "--path", "/read", "--timeout", "10", "--host", address, "--port", port];
        let ended = run(Command::new("h2spec").args(args).args(options));
        let (tests, failures) = match ended.stdout.split_once("Failures:") {
            Some((tests, failures)) => (tests, failures),
            None => (&*ended.stdout, ""),
        };
        assert!(tests.matches('✔').count() > 100, "{strategy}: {ended:?}");
        let failures = failures.lines().map(str::trim).filter(|line| line.starts_with('×'));
        let failures: Vec<_> = failures.filter(|failure| !BUT_FOR.contains(failure)).collect();
        assert!(failures.is_empty(), "{strategy}: {}", ended.stdout);
    }
}
