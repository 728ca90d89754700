//! `rfile` and `wfile` as WASI streams, which a handler can wait for together with others.

use plugsock::ServerType;

use crate::harness::{Case, Running, for_each_case, for_each_strategy, handler, pattern};

#[test]
fn they_carry_the_same_bytes() {
    for_each_case(|case| {
        let server = Running::start(case, handler("streams_echo"));
        let length = if case.server_type.is_datagram() { 3000 } else { 1 << 20 };
        let data = pattern(length);
        assert!(server.ask(&data) == data);
    });
}

#[test]
fn a_handler_waits_for_its_client_and_a_timer_at_once() {
    for server_type in [ServerType::Tcp, ServerType::UnixStream] {
        for_each_strategy(|strategy| {
            let server = Running::start(Case { server_type, strategy }, handler("poll_client_and_timer"));
            let client = server.connect();
            assert_eq!(client.recv_exact(5), b"tick\n");
            client.is_answered_between_ticks();
        });
    }
}
