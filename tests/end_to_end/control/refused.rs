//! What is not fit to serve is refused, and the old version answers throughout.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;

use tempfile::TempDir;

use super::{TCP, done, is_refused};
use crate::harness::{Host, for_each_strategy, guest, pattern, written};

/// As large as a component may well be by accident.
const LARGE: u64 = 100 << 20;

/// O2, O3
#[test]
fn the_old_version_serves_on_whatever_it_is_to_be_swapped_to() {
    let directory = TempDir::new().unwrap();
    let file = |name: &str, bytes: &[u8]| {
        let path = directory.path().join(name);
        fs::write(&path, bytes).unwrap();
        path.display().to_string()
    };
    let component = fs::read(guest("v2")).unwrap();
    let large = file("large.wasm", b"\0asm\x0d\0\x01\0");
    fs::File::options().write(true).open(&large).unwrap().set_len(LARGE).unwrap();
    let cases = [
        ("/no/such/handler.wasm".to_owned(), "No such file"),
        (file("random.wasm", &pattern(100_000)), "not WebAssembly"),
        (file("truncated.wasm", &component[..component.len() / 2]), "not a valid component"),
        (large, "large.wasm"),
        (written("unknown_import"), "acme:tools/hammer"),
        (written("no_export"), "it exports greet"),
        (guest("trap_in_setup"), "trapped"),
        (guest("error_in_handle"), "handler error"),
        (guest("loop_forever"), "CPU time limit"),
        (guest("sleep_forever"), "time limit"),
        (guest("v2"), "was answered with \"v2\\n\", not with \"a\" as expected"),
    ];
    is_refused_while_serving("threading", &cases);
}

/// O2, O3
#[test]
fn the_old_version_serves_on_with_every_strategy() {
    for_each_strategy(|strategy| {
        let cases = [
            ("/no/such/handler.wasm".to_owned(), "No such file"),
            (written("unknown_import"), "acme:tools/hammer"),
            (guest("trap_in_setup"), "trapped"),
        ];
        is_refused_while_serving(strategy, &cases);
    });
}

/// Swaps to each handler are refused for its reason, while a client is answered again and again.
fn is_refused_while_serving(strategy: &str, cases: &[(String, &str)]) {
    let limits = ["--cpu-time", "100ms", "--request-time", "1s"];
    let probe = ["--probe", "a", "--probe-expect", "a", "--concurrency", strategy];
    let host = Host::serve(&[&[TCP][..], &limits, &probe].concat());
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let asking = scope.spawn(|| {
            let mut asked = 0;
            while !is_over.load(SeqCst) {
                assert_eq!(host.ask(b"hello"), b"hello");
                asked += 1;
            }
            asked
        });
        // Over also if this panics.
        let over = Over(&is_over);
        for (handler, word) in cases {
            is_refused(&host.ctl(&["swap", handler]), &[word]);
        }
        let (handler, word) = &cases[0];
        is_refused(&host.ctl(&["swap", handler, "--canary", "50%"]), &[word]);
        drop(over);
        assert!(asking.join().unwrap() > 0);
    });
    assert_eq!(host.status().slots[0].versions.len(), 1);
    // And a good one is still taken.
    done(host.ctl(&["swap", &guest("streams_echo")]));
    assert_eq!(host.ask(b"a"), b"a");
}

/// Sets what it holds when it is dropped.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
    }
}
