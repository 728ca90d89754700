//! Host calls in orders that no handler would make, while the client goes in any way it can.

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use plugsock::{Cause, Limits, Sandbox, SandboxOptions, ServerOptions};

use super::for_each_seed;
use crate::harness::{Recorder, Running, for_each_case, guest, sandbox_options};

#[test]
fn host_calls_in_any_order() {
    let limits = Limits {
        request_time: Some(Duration::from_secs(2)),
        idle_time: Some(Duration::from_millis(100)),
        ..Limits::default()
    };
    let sandbox = Sandbox::new(SandboxOptions { limits, ..sandbox_options() }).unwrap();
    let handler = sandbox.load(guest("script")).unwrap();
    for_each_case(|case| {
        let recorder = Recorder::default();
        let options = ServerOptions { hooks: Arc::new(recorder.clone()), ..ServerOptions::default() };
        let server = Running::start_with(case, handler.clone(), options);
        let sent = Cell::new(0_usize);
        let count = for_each_seed(10, |random| {
            // A socket's queue holds some hundred packets; what comes then is lost.
            if sent.get().is_multiple_of(100) {
                recorder.failures_when_closed(sent.get());
            }
            sent.set(sent.get() + 1);
            let client = server.connect();
            let length = random.below(60);
            client.send(&random.bytes(length));
            match random.below(4) {
                0 => client.reset(),
                1 => client.half_close(),
                // A packet need not have a reply.
                2 if !case.server_type.is_datagram() => drop(client.recv_some()),
                _ => drop(client),
            }
        });
        let failures = recorder.failures_when_closed(count);
        // A forked child that a busy machine keeps from ending in time is killed.
        let is_killed = |why: &str| case.strategy == "forking" && why == "its process was killed by signal 9";
        for failure in &failures {
            let is_host = matches!(&failure.cause, Cause::Host(why) if !is_killed(why));
            assert!(!is_host, "{failure}");
        }
        assert_eq!(server.ask(b""), b"done");
    });
}
