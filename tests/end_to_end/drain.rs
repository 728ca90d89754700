//! What becomes of requests whose version was replaced: they end by themselves, are told, or are cut off.

use std::sync::Arc;
use std::time::Duration;

use plugsock::{Cause, Handler, Limit, ServerOptions, ServerType, Slot, SlotOptions};

use crate::harness::{Case, Client, Recorder, Running, for_each_strategy, handler, version, wait_until, who};

fn start(strategy: &'static str, first: Handler, options: SlotOptions) -> (Slot, Running, Recorder) {
    let recorder = Recorder::default();
    let slot = Slot::new(first, options).unwrap();
    let hooks = Arc::new(recorder.clone());
    let options = ServerOptions { hooks, ..ServerOptions::default() };
    let server = Running::start_with(Case { server_type: ServerType::Tcp, strategy }, slot.clone(), options);
    server.start().unwrap();
    (slot, server, recorder)
}

/// A client that was answered once.
fn answered(server: &Running, data: &[u8], answer: &[u8]) -> Client {
    let client = server.connect();
    client.send(data);
    assert_eq!(client.recv_exact(answer.len()), answer);
    client
}

#[test]
fn what_drains_for_too_long_is_cut_off() {
    for_each_strategy(|strategy| {
        let max_drain = Some(Duration::from_millis(50));
        let (slot, server, recorder) =
            start(strategy, version("one"), SlotOptions { max_drain, ..SlotOptions::default() });
        let client = answered(&server, b"1\n", b"one 1\n");
        slot.swap(version("two")).unwrap();
        assert!(client.is_closed());
        assert_eq!(who(&server), "two");
        let failures = recorder.failures_when_closed(2);
        assert!(
            matches!(failures[..], [ref cut] if matches!(cut.cause, Cause::Limit(Limit::Draining))),
            "{failures:?}"
        );
        wait_until(|| slot.versions()[1].open == 0);
        let old = &slot.versions()[1];
        assert_eq!((old.cut, old.failed, old.open, old.ended), (1, 0, 0, 1));
    });
}

/// One that computes is cut off as well as one that waits.
#[test]
fn what_computes_for_ever_is_cut_off_too() {
    for_each_strategy(|strategy| {
        let max_drain = Some(Duration::from_millis(50));
        let (slot, server, _) =
            start(strategy, handler("loop_forever"), SlotOptions { max_drain, ..SlotOptions::default() });
        let client = server.connect();
        wait_until(|| slot.versions()[0].open == 1);
        slot.swap(version("two")).unwrap();
        assert!(client.is_closed());
        assert_eq!(who(&server), "two");
        wait_until(|| slot.versions()[1].open == 0);
        assert_eq!((slot.versions()[1].cut, slot.versions()[1].failed), (1, 0));
    });
}

#[test]
fn a_handler_may_end_when_it_is_told_that_it_was_replaced() {
    for_each_strategy(|strategy| {
        let options = SlotOptions { drain_signal: true, ..SlotOptions::default() };
        let (slot, server, recorder) = start(strategy, handler("drains"), options);
        let waiting = answered(&server, b"wait", b"serving\n");
        let asking = (strategy != "sync").then(|| answered(&server, b"ask", b"serving\n"));
        slot.swap(version("two")).unwrap();
        // Without a word from its client.
        assert_eq!(waiting.recv_all(), b"bye\n");
        let mut closed = 1;
        if let Some(asking) = asking {
            asking.send(b"ask");
            assert_eq!(asking.recv_all(), b"draining\n");
            closed += 1;
        }
        assert!(recorder.failures_when_closed(closed).is_empty());
        assert_eq!(who(&server), "two");
        // The one that is put back is another version, which has not been replaced.
        slot.rollback().unwrap();
        let client = answered(&server, b"ask", b"serving\n");
        assert_eq!(client.exchange(b"ask"), b"serving\n");
    });
}

/// O4: a swap while others drain: each goes on with its own version, and ends with its last request.
#[test]
fn several_versions_drain_at_once() {
    for_each_strategy(|strategy| {
        if strategy == "sync" {
            return;
        }
        let (slot, server, _) = start(strategy, version("one"), SlotOptions::default());
        let mut clients = vec![answered(&server, b"1\n", b"one 1\n")];
        for name in ["two", "six"] {
            slot.swap(version(name)).unwrap();
            clients.push(answered(&server, b"1\n", format!("{name} 1\n").as_bytes()));
        }
        let open = || slot.versions().iter().map(|version| version.open).collect::<Vec<_>>();
        assert_eq!(open(), [1, 1, 1]);
        for (name, left) in [("two", [1, 0, 1]), ("one", [1, 0, 0]), ("six", [0, 0, 0])] {
            let client = clients.remove(if clients.len() == 3 { 1 } else { 0 });
            assert_eq!(client.exchange(b"2\n"), format!("{name} 2\n").as_bytes());
            wait_until(|| open() == left);
        }
    });
}

#[test]
fn nobody_is_told_without_the_signal() {
    for_each_strategy(|strategy| {
        let (slot, server, recorder) = start(strategy, handler("drains"), SlotOptions::default());
        let client = answered(&server, b"ask", b"serving\n");
        slot.swap(version("two")).unwrap();
        assert_eq!(client.exchange(b"ask"), b"serving\n");
        assert!(recorder.failures_when_closed(1).is_empty());
    });
}
