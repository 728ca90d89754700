//! What a component may say about its server's requests: `server-hooks`.

use plugsock::ServerType;

use crate::harness::{Case, Host, Running, for_each_case, for_each_strategy, guest, handler};

const UDP: &str = "udp://127.0.0.1:0";

#[test]
fn verify_request_decides_by_the_packet_and_leaves_it_to_the_handler() {
    for server_type in [ServerType::Udp, ServerType::UnixDatagram] {
        for_each_strategy(|strategy| {
            let server = Running::start(Case { server_type, strategy }, handler("hooks"));
            let client = server.connect();
            client.send(b"refuse me");
            assert_eq!(client.exchange(b"hello"), b"hello");
            assert!(client.has_nothing());
        });
    }
}

#[test]
fn a_refused_connection_is_closed_unserved() {
    for_each_case(|case| {
        if case.server_type.is_datagram() {
            return;
        }
        let server = Running::start(case, handler("hooks_refuse_all"));
        for _ in 0..3 {
            assert_eq!(server.ask(b""), b"");
        }
    });
}

/// G1: a hook holds up the accept loop, so it has a second.
#[test]
fn a_verify_request_that_never_decides_refuses() {
    for_each_strategy(|strategy| {
        let host = Host::tcp("verify_loops_forever", &["--concurrency", strategy]);
        assert!(host.connect().is_closed());
        let line = host.log.wait_for("verify-request");
        assert!(line.contains("time limit of 1s"), "{line}");
    });
}

/// G1: nor do the others hold it up for longer than they may.
#[test]
fn a_hook_that_never_ends_is_stopped() {
    let limits = ["--cpu-time", "100ms", "--timeout", "1ms"];
    for_each_strategy(|strategy| {
        let host = Host::tcp("hooks_loop_forever", &[&limits[..], &["--concurrency", strategy]].concat());
        assert_eq!(host.ask(b""), b"");
        host.log.wait_for("hook handle-error failed: handler stopped: ");
        host.log.wait_for_count("hook failed: handler stopped: ", 3);
        assert_eq!(host.ask(b"hello"), b"hello");
    });
}

#[test]
fn handle_error_is_told_of_a_failure() {
    for_each_strategy(|strategy| {
        let host = Host::tcp("hooks", &["--concurrency", strategy]);
        let client = host.connect();
        let local = client.socket.local_addr().unwrap().as_socket().unwrap();
        assert_eq!(client.exchange(b"fail"), b"");
        let line = host.log.wait_for("guest: handle_error");
        assert!(line.contains(&format!("handle_error: handle {local}: ")), "{line}");
        assert!(line.contains("as the client wished"), "{line}");
        assert_eq!(host.ask(b"hello"), b"hello");
    });
}

#[test]
fn handle_timeout_runs_when_no_request_comes_in_time() {
    for_each_strategy(|strategy| {
        for address in ["tcp://127.0.0.1:0", UDP] {
            let args = [address, &guest("hooks"), "--timeout", "20ms", "--concurrency", strategy];
            let host = Host::serve(&args);
            host.log.wait_for_count("guest: handle_timeout", 3);
            assert_eq!(host.ask(b"hello"), b"hello");
        }
    });
}

#[test]
fn service_actions_runs_between_requests_and_while_there_are_none() {
    for_each_strategy(|strategy| {
        let host = Host::tcp("hooks", &["--concurrency", strategy]);
        host.log.wait_for("guest: service_actions");
        host.ask(b"hello");
        host.log.wait_for_count("guest: service_actions", 2);
    });
}
