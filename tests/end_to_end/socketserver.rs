//! What `test_socketserver.py` expects of `socketserver`, for every one of its classes: a server type with a
//! strategy.

use std::collections::HashSet;
use std::net::{TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use plugsock::{
    BindError, Concurrency, Request, ServeError, Server, ServerHooks, ServerOptions, ServerType, TcpServer,
    UdpServer,
};

use crate::harness::{
    Case, Client, Event, Host, PATIENCE, Recorder, Running, STRATEGIES, for_each_case, for_each_strategy,
    handler, run, sandbox,
};

const TCP: ServerType = ServerType::Tcp;

fn recorded() -> (Recorder, ServerOptions) {
    let recorder = Recorder::default();
    (recorder.clone(), ServerOptions { hooks: Arc::new(recorder), ..ServerOptions::default() })
}

fn echo(strategy: &'static str) -> Running {
    Running::start(Case { server_type: TCP, strategy }, sandbox().echo().unwrap())
}

/// A client whose request is being served.
fn greeted(server: &Server) -> Client {
    let client = Client::connect(&server.address());
    client.send(b"hello");
    assert_eq!(client.recv_exact(5), b"hello");
    client
}

/// `run_server` with `stream_examine` and `dgram_examine`.
#[test]
fn each_class_answers_lines_and_closes() {
    for_each_case(|case| {
        let (recorder, options) = recorded();
        let server = Running::start_with(case, sandbox().echo().unwrap(), options);
        assert_eq!(server.info().server_type, case.server_type);
        assert!(server.fileno().is_some());
        for _ in 0..3 {
            let client = server.connect();
            client.send(b"hello world\n");
            assert_eq!(client.recv_exact(12), b"hello world\n");
        }
        assert!(recorder.failures_when_closed(3).is_empty());
        server.shutdown();
        server.server_close();
        assert_eq!(server.fileno(), None);
        // Closing twice is no error, and serving a closed server is one.
        server.server_close();
        assert!(matches!(server.handle_request(), Err(ServeError::Closed)));
        server.stop().unwrap();
    });
}

/// `test_ForkingUDPServer` and its like: a second server may have the address when the first is closed (O11).
#[test]
fn an_address_is_free_again_when_its_server_is_closed() {
    for_each_strategy(|strategy| {
        let first = echo(strategy);
        let client = greeted(&first);
        let address = first.address.clone();
        first.server_close_within(Duration::ZERO);
        first.stop().unwrap();
        // The server closed first, so that its end of the connection stays in TIME_WAIT.
        assert!(client.is_closed());
        let second = Running::at(&address.to_string(), sandbox().echo().unwrap(), ServerOptions::default());
        assert_eq!(second.ask(b"again"), b"again");
    });
}

/// `test_shutdown`, O15
#[test]
fn shutdown_that_races_with_start_returns() {
    for_each_strategy(|strategy| {
        for _ in 0..20 {
            let server = echo(strategy);
            server.shutdown();
            server.stop().unwrap();
        }
    });
}

#[test]
fn shutdown_returns_while_requests_are_open_and_lets_them_end() {
    for strategy in STRATEGIES.into_iter().filter(|strategy| *strategy != "sync") {
        let server = echo(strategy);
        let client = greeted(&server);
        server.shutdown();
        assert_eq!(client.exchange(b"bye"), b"bye", "{strategy}");
        server.stop().unwrap();
    }
}

#[test]
fn a_server_serves_again_after_a_shutdown() {
    for_each_strategy(|strategy| {
        let server = echo(strategy);
        greeted(&server);
        server.shutdown();
        thread::scope(|scope| {
            let serving = scope.spawn(|| server.serve_forever());
            greeted(&server);
            server.shutdown();
            serving.join().unwrap().unwrap();
        });
    });
}

#[test]
fn two_threads_cannot_serve_one_server() {
    let server = echo("threading");
    greeted(&server);
    assert!(matches!(server.serve_forever(), Err(ServeError::Busy)));
    assert!(matches!(server.handle_request(), Err(ServeError::Busy)));
}

/// A server that nobody serves yet.
fn idle(case: Case, options: ServerOptions) -> (Server, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let address = match case.server_type {
        ServerType::Tcp | ServerType::Udp => "127.0.0.1:0".to_owned(),
        _ => directory.path().join("socket").display().to_string(),
    };
    let address = format!("{}://{address}", case.server_type.scheme()).parse().unwrap();
    let options = ServerOptions { concurrency: case.concurrency(), ..options };
    (Server::bind(&address, sandbox().echo().unwrap(), options).unwrap(), directory)
}

#[test]
fn handle_request_serves_one() {
    for_each_case(|case| {
        let (server, _directory) = idle(case, ServerOptions::default());
        let client = Client::connect(&server.address());
        client.send(b"one");
        client.half_close();
        assert!(server.handle_request().unwrap());
        assert_eq!(client.recv_all(), b"one");
    });
}

#[test]
fn handle_request_returns_after_its_timeout() {
    for_each_case(|case| {
        let (recorder, options) = recorded();
        let timeout = Some(Duration::from_millis(20));
        let (server, _directory) = idle(case, ServerOptions { timeout, ..options });
        assert!(!server.handle_request().unwrap());
        recorder.wait_until(|events| matches!(events, [Event::TimedOut]));
    });
}

#[test]
fn handle_request_returns_at_a_shutdown() {
    let (server, _directory) =
        idle(Case { server_type: TCP, strategy: "threading" }, ServerOptions::default());
    thread::scope(|scope| {
        let handling = scope.spawn(|| server.handle_request());
        server.shutdown();
        assert!(!handling.join().unwrap().unwrap());
    });
}

#[test]
fn a_program_may_have_a_loop_of_its_own() {
    for_each_case(|case| {
        let (server, _directory) = idle(case, ServerOptions::default());
        let client = Client::connect(&server.address());
        client.send(b"mine");
        client.half_close();
        let request = server.get_request().unwrap().unwrap();
        assert_eq!(request.packet().is_some(), case.server_type.is_datagram());
        assert!(server.verify_request(&request));
        server.process_request(request).unwrap();
        assert_eq!(client.recv_all(), b"mine");
    });
}

/// Refuses all, and counts what is closed.
#[derive(Default)]
struct RefuseAll {
    closed: AtomicUsize,
}

impl ServerHooks for RefuseAll {
    fn verify_request(&self, _: &Request) -> bool {
        false
    }

    fn close_request(&self, _: &Request) {
        self.closed.fetch_add(1, SeqCst);
    }
}

/// `test_shutdown_request_called_if_verify_request_false`
#[test]
fn a_request_that_is_not_verified_is_closed_unserved() {
    for_each_case(|case| {
        let hooks = Arc::new(RefuseAll::default());
        let (server, _directory) =
            idle(case, ServerOptions { hooks: hooks.clone(), ..ServerOptions::default() });
        let client = Client::connect(&server.address());
        client.send(b"");
        assert!(server.handle_request().unwrap());
        match case.server_type.is_datagram() {
            true => assert!(client.has_nothing()),
            false => assert!(client.is_closed()),
        }
        assert_eq!(hooks.closed.load(SeqCst), 1);
        assert_eq!(server.open_requests(), 0);
    });
}

/// `ThreadingErrorTestServer`: a failure ends in `handle_error`, and the request is closed after it.
#[test]
fn handle_error_is_called_once_and_before_close_request() {
    for_each_case(|case| {
        let (recorder, options) = recorded();
        let server = Running::start_with(case, handler("error_in_handle"), options);
        server.connect().send(b"");
        let events = recorder.wait_until(|events| events.len() >= 2);
        assert!(matches!(events[..], [Event::Failed(_), Event::Closed(1..)]), "{events:?}");
    });
}

#[test]
fn server_close_waits_for_open_requests() {
    for_each_strategy(|strategy| {
        let server = echo(strategy);
        let client = greeted(&server);
        thread::scope(|scope| {
            let (closed, is_closed) = channel();
            let server = &server;
            scope.spawn(move || {
                server.server_close();
                closed.send(server.open_requests()).unwrap();
            });
            client.send(b"still open");
            assert_eq!(client.recv_exact(10), b"still open");
            assert!(is_closed.try_recv().is_err());
            client.exchange(b"");
            assert_eq!(is_closed.recv_timeout(PATIENCE), Ok(0));
        });
    });
}

#[test]
fn server_close_does_not_wait_where_it_is_told_not_to() {
    let forking = Concurrency::Forking { max_children: 40, block_on_close: false, arguments: Vec::new() };
    for concurrency in [
        Concurrency::Threading { daemon_threads: true, block_on_close: true },
        Concurrency::Threading { daemon_threads: false, block_on_close: false },
        forking,
    ] {
        let options = ServerOptions { concurrency, ..ServerOptions::default() };
        let server = Running::at("tcp://127.0.0.1:0", sandbox().echo().unwrap(), options);
        let client = greeted(&server);
        server.shutdown();
        server.server_close();
        assert_eq!(server.open_requests(), 1);
        assert_eq!(client.exchange(b"bye"), b"bye");
    }
}

#[test]
fn a_server_may_be_bound_without_listening() {
    let options = ServerOptions { bind_and_activate: false, ..ServerOptions::default() };
    let server = TcpServer::bind_with("127.0.0.1:0", sandbox().echo().unwrap(), options).unwrap();
    assert!(Client::try_connect(&server.address()).is_err());
    server.server_activate().unwrap();
    assert!(Client::try_connect(&server.address()).is_ok());
}

#[test]
fn a_socket_that_is_bound_already_can_be_served() {
    let echo = || sandbox().echo().unwrap();
    let socket: OwnedFd = TcpListener::bind("127.0.0.1:0").unwrap().into();
    let server = Server::from_socket(socket, TCP, echo(), ServerOptions::default()).unwrap();
    let client = Client::connect(&server.address());
    client.send(b"adopted");
    client.half_close();
    server.handle_request().unwrap();
    assert_eq!(client.recv_all(), b"adopted");
    // O14: of the wrong type.
    let socket: OwnedFd = UdpSocket::bind("127.0.0.1:0").unwrap().into();
    let refused = Server::from_socket(socket, TCP, echo(), ServerOptions::default()).unwrap_err();
    assert!(matches!(refused, BindError::WrongSocket { .. }), "{refused}");
}

#[test]
fn two_servers_share_an_address_only_where_both_want_to() {
    let bind = |address: &str, allow_reuse_port| {
        let mut options = ServerOptions::default();
        options.socket.allow_reuse_port = allow_reuse_port;
        UdpServer::bind_with(address, sandbox().echo().unwrap(), options)
    };
    for allow_reuse_port in [false, true] {
        let first = bind("127.0.0.1:0", allow_reuse_port).unwrap();
        let second = bind(&first.server_address().to_string(), allow_reuse_port);
        assert_eq!(second.is_ok(), allow_reuse_port);
    }
}

/// Runs a test of this binary in a process of its own, where no other test opens descriptors.
fn is_alone(test: &str) -> bool {
    const ALONE: &str = "PLUGSOCK_TEST_ALONE";
    if std::env::var_os(ALONE).is_some() {
        return true;
    }
    let mut command = Command::new(std::env::current_exe().unwrap());
    let ended = run(command.args(["--exact", test, "--nocapture"]).env(ALONE, "1"));
    assert_eq!(ended.code, Some(0), "{}{}", ended.stdout, ended.stderr);
    assert!(ended.stdout.contains("1 passed"), "{}", ended.stdout);
    false
}

fn descriptors() -> HashSet<String> {
    let entries = std::fs::read_dir("/proc/self/fd").unwrap();
    let links = entries.filter_map(|entry| std::fs::read_link(entry.unwrap().path()).ok());
    links.map(|link| link.display().to_string()).filter(|link| !link.contains("/fd")).collect()
}

/// `test_tcpserver_bind_leak`, O11
#[test]
fn binds_that_fail_leave_no_descriptor_open() {
    if !is_alone("socketserver::binds_that_fail_leave_no_descriptor_open") {
        return;
    }
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let handler = sandbox().echo().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    std::fs::write(&path, "no socket").unwrap();
    let unix = format!("unix://{}", path.display()).parse().unwrap();
    let before = descriptors();
    for _ in 0..1024 {
        assert!(TcpServer::bind(&address, handler.clone()).is_err());
        assert!(Server::bind(&unix, handler.clone(), ServerOptions::default()).is_err());
    }
    assert_eq!(descriptors(), before);
}

/// A server leaves nothing behind when it is dropped.
#[test]
fn servers_that_end_leave_no_descriptor_open() {
    if !is_alone("socketserver::servers_that_end_leave_no_descriptor_open") {
        return;
    }
    let run = || {
        for_each_case(|case| {
            let server = Running::start(case, sandbox().echo().unwrap());
            server.ask(b"hello");
            server.shutdown();
            server.server_close();
            server.stop().unwrap();
        });
    };
    run();
    let before = descriptors();
    run();
    run();
    // A strategy's last thread may still be on its way to its end.
    let deadline = Instant::now() + PATIENCE;
    while descriptors().len() > before.len() && Instant::now() < deadline {
        thread::yield_now();
    }
    assert!(descriptors().len() <= before.len(), "{:?}", descriptors().difference(&before));
}

/// `test_threads_reaped`, O8, O9: neither threads nor processes nor descriptors grow with the requests served.
#[test]
fn what_serves_a_request_is_reaped() {
    for_each_strategy(|strategy| {
        let host = Host::serve(&["tcp://127.0.0.1:0", "--concurrency", strategy]);
        let serve = |count| (0..count).for_each(|_| assert_eq!(host.ask(b"hello"), b"hello"));
        serve(20);
        let before = host.resources();
        serve(300);
        host.wait_for_resources(&before);
    });
}
