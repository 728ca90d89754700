//! State that outlives requests: stores by `wasi:keyvalue`, wherever they are kept.

mod chat;
mod command;
mod granted;
mod lasting;
mod secured;
mod servers;

use std::path::Path;
use std::thread;

use tempfile::TempDir;

use crate::harness::{Client, Host, for_each_strategy, guest, plugin};

const TCP: &str = "tcp://127.0.0.1:0";

/// A directory for files of state.
fn directory() -> TempDir {
    tempfile::tempdir().unwrap()
}

/// A grant of a store in a file of this directory.
fn in_file(directory: &Path) -> String {
    format!("counts={}", file(directory))
}

fn file(directory: &Path) -> String {
    format!("file:{}", directory.join("counts.db").display())
}

/// Serves the guest that does as its client says.
fn serve(args: &[&str]) -> Host {
    Host::serve(&[&[TCP, &guest("state")], args].concat())
}

fn serve_by(strategy: &str, grant: &str) -> Host {
    serve(&["--state", grant, "--concurrency", strategy])
}

/// The answers to so many lines.
fn answers(host: &Host, lines: &[&str]) -> Vec<String> {
    let asked = lines.join("\n") + "\n";
    let answers = String::from_utf8(host.ask(asked.as_bytes())).unwrap();
    answers.lines().map(str::to_owned).collect()
}

fn answer(host: &Host, line: &str) -> String {
    answers(host, &[line]).concat()
}

/// What is asked, and what the answer is to be.
const OPERATIONS: &[(&str, &str)] = &[
    ("counts open", "opened"),
    ("counts get a", "none"),
    ("counts exists a", "false"),
    ("counts set a 1", "set"),
    ("counts get a", "1"),
    ("counts exists a", "true"),
    ("counts set a two", "set"),
    ("counts get a", "two"),
    ("counts increment a 1", "error the value is no whole number, so that nothing can be added to it"),
    ("counts delete a", "deleted"),
    ("counts delete a", "deleted"),
    ("counts get a", "none"),
    // A counter is text.
    ("counts increment n 41", "41"),
    ("counts increment n 1", "42"),
    ("counts get n", "42"),
    ("counts increment n -50", "-8"),
    ("counts set n 9223372036854775807", "set"),
    ("counts increment n 1", "error the sum would be beyond what 64 bits hold"),
    ("counts get n", "9223372036854775807"),
    // A swap is by the value.
    ("counts swap c x y", "false"),
    ("counts swap c none x", "true"),
    ("counts swap c none z", "false"),
    ("counts swap c x y", "true"),
    ("counts get c", "y"),
    ("counts update u", "1"),
    ("counts update u", "2"),
    ("counts set-many b:1=x b:2=y b:3=", "set"),
    ("counts get-many b:1 none b:3 b:2", "x none  y"),
    ("counts keys b:", "b:1 b:2 b:3"),
    ("counts delete-many b:1 b:3 none", "deleted"),
    ("counts keys b:", "b:2"),
    // Keys and values of any kind, and large ones.
    ("counts set schlüssel/ä=*.>?% wert", "set"),
    ("counts get schlüssel/ä=*.>?%", "wert"),
    ("counts set 1000*k 500000*v", "set"),
    ("counts get 1000*k", ""),
    ("counts fill 2500", "set"),
    ("counts keys", "2506"),
];

/// Asks for every operation, and for each looks at what comes of it.
fn does_every_operation(host: &Host) {
    let lines: Vec<&str> = OPERATIONS.iter().map(|(line, _)| *line).collect();
    let answers = answers(host, &lines);
    assert_eq!(answers.len(), lines.len());
    for ((line, expected), answer) in OPERATIONS.iter().zip(&answers) {
        match *line {
            "counts get 1000*k" => assert_eq!(*answer, "v".repeat(500_000)),
            _ => assert_eq!(answer, expected, "{line}"),
        }
    }
}

#[test]
fn every_operation_is_done_in_memory() {
    for_each_strategy(|strategy| does_every_operation(&serve_by(strategy, "counts=memory")));
}

#[test]
fn every_operation_is_done_in_a_file() {
    for_each_strategy(|strategy| {
        let directory = directory();
        does_every_operation(&serve_by(strategy, &in_file(directory.path())));
    });
}

/// 1,000 increments by 100 clients at once.
fn all_are_counted(host: &Host) {
    thread::scope(|scope| {
        for _ in 0..100 {
            scope.spawn(|| {
                let answers = Client::ask(host.address(), b"tea\n".repeat(10).as_slice());
                assert_eq!(String::from_utf8(answers).unwrap().lines().count(), 10);
            });
        }
    });
    assert_eq!(host.ask(b"tea\n"), b"tea 1001\n");
}

#[test]
fn no_increment_is_lost_whoever_else_counts() {
    for_each_strategy(|strategy| {
        let directory = directory();
        for grant in ["counts=memory", &in_file(directory.path())] {
            let host = Host::serve(&[TCP, &plugin("counter"), "--state", grant, "--concurrency", strategy]);
            all_are_counted(&host);
        }
    });
}

/// By compare-and-swap, each of which has to look again when another comes between.
#[test]
fn no_swap_is_lost_whoever_else_swaps() {
    for_each_strategy(|strategy| {
        let directory = directory();
        for grant in ["counts=memory", &in_file(directory.path())] {
            let host = serve_by(strategy, grant);
            thread::scope(|scope| {
                for _ in 0..20 {
                    scope.spawn(|| answers(&host, &["counts update u"; 10]));
                }
            });
            assert_eq!(answer(&host, "counts get u"), "200", "{strategy} {grant}");
        }
    });
}

#[test]
fn the_counter_counts_names_and_clients() {
    let host = Host::serve(&[TCP, "udp://127.0.0.1:0", &plugin("counter"), "--state", "counts=memory"]);
    assert_eq!(host.ask(b"tea\ntea\n\n"), b"tea 1\ntea 2\n127.0.0.1 1\n");
    assert_eq!(Client::ask(&host.addresses[1], b"tea\n\n"), b"tea 3\n127.0.0.1 2\n");
    let long = [&[b'x'; 300][..], b"\n"].concat();
    assert_eq!(host.ask(&long), b"too long\n");
}

/// Components for wasmCloud import the version before compare-and-swap.
#[test]
fn the_draft_before_is_offered_too() {
    for_each_strategy(|strategy| {
        let host = Host::tcp("state_draft", &["--state", "counts=memory", "--concurrency", strategy]);
        for count in 1..=2 {
            let said = String::from_utf8(host.ask(b"")).unwrap();
            let expected = format!("{count} {count} 2 [Ok(false), Ok(false), Ok(true)] 2502 3 true\n");
            assert_eq!(said, expected, "{strategy}");
        }
    });
}
