//! What a component may say about its server's requests: `server-hooks`.

use std::io::Read;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use plugsock::{ClientLimits, Refused, Request, RequestError, ServerHooks, ServerOptions, ServerType};
use socket2::{Domain, Socket, Type};

use crate::harness::{
    Case, Client, Host, PATIENCE, Running, for_each_case, for_each_strategy, guest, handler, panic_on_client,
    plugin, sandbox, sockaddr, wait_until,
};

const TCP: &str = "tcp://127.0.0.1:0";

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

/// G1: a hook holds up the accept loop, so it has a second. It refuses that client, and the host serves on.
#[test]
fn a_verify_request_that_never_decides_refuses() {
    for_each_strategy(|strategy| {
        let args = [TCP, &guest("verify_loops_forever"), TCP, &plugin("echo"), "--concurrency", strategy];
        let mut host = Host::serve(&args);
        for count in 1..=2 {
            assert!(host.connect().is_closed());
            let lines = host.log.wait_for_count("phase=verify-request", count);
            assert!(lines[0].contains("time limit of 1s"), "{lines:?}");
            assert_eq!(Client::ask(&host.addresses[1], b"hello"), b"hello");
        }
        assert_eq!(host.status().servers[0].refused, Refused { verify: 2, ..Refused::default() });
        assert!(host.terminate().success());
    });
}

/// One that traps refuses as well, and no other.
#[test]
fn a_verify_request_that_fails_refuses() {
    for_each_strategy(|strategy| {
        for address in [TCP, UDP] {
            let host = Host::serve(&[address, &guest("verify_traps"), "--concurrency", strategy]);
            for count in 1..=3 {
                let refused = host.connect();
                refused.send(b"refuse me");
                let lines = host.log.wait_for_count("phase=verify-request", count);
                assert!(lines[count - 1].contains("handler trapped"), "{lines:?}");
                assert!(address == UDP || refused.is_closed());
                assert_eq!(host.ask(b"hello"), b"hello");
            }
        }
    });
}

/// E6: what the embedding program's hooks panic of ends that request at most.
#[test]
fn a_hook_of_the_program_that_panics_is_survived() {
    #[derive(Default)]
    struct Panicking(AtomicUsize);
    impl ServerHooks for Panicking {
        fn verify_request(&self, _: &Request) -> bool {
            assert!(self.0.fetch_add(1, SeqCst).is_multiple_of(2), "a test wants it so");
            true
        }
        fn handle_error(&self, _: &Request, _: &RequestError) {
            panic!("a test wants it so");
        }
        fn handle_timeout(&self) {
            panic!("a test wants it so");
        }
        fn service_interval(&self) -> Option<Duration> {
            panic!("a test wants it so");
        }
        fn service_actions(&self) {
            panic!("a test wants it so");
        }
        fn close_request(&self, _: &Request) {
            panic!("a test wants it so");
        }
    }
    for_each_strategy(|strategy| {
        let case = Case { server_type: ServerType::Tcp, strategy };
        let timeout = Some(Duration::from_millis(1));
        let options =
            ServerOptions { hooks: Arc::new(Panicking::default()), timeout, ..ServerOptions::default() };
        let server = Running::start_with(case, handler("trap_in_setup"), options);
        for _ in 0..6 {
            // Of the handler's first words, whatever comes.
            let _ = (&server.connect().socket).read_to_end(&mut Vec::new());
        }
        wait_until(|| server.open_requests() == 0);
        assert_eq!(server.refused(), Refused { verify: 3, ..Refused::default() });
        server.stop().unwrap();
    });
}

/// E6: nor does a panic anywhere else on the accepting thread end more than that.
#[test]
fn a_panic_while_accepting_is_survived() {
    for_each_strategy(|strategy| {
        let clients = ClientLimits { deny: "127.0.0.2".parse().unwrap(), ..ClientLimits::default() };
        let options = ServerOptions { clients, ..ServerOptions::default() };
        let server = Running::start_with(
            Case { server_type: ServerType::Tcp, strategy },
            sandbox().echo().unwrap(),
            options,
        );
        for _ in 0..3 {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            socket.bind(&SocketAddr::from(([127, 0, 0, 2], 0)).into()).unwrap();
            panic_on_client(socket.local_addr().unwrap().as_socket().unwrap().to_string());
            socket.connect(&sockaddr(&server.address)).unwrap();
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            assert!(!(&socket).read(&mut [0]).is_ok_and(|length| length > 0));
            assert_eq!(server.ask(b"hello"), b"hello");
        }
        server.stop().unwrap();
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
