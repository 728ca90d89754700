//! Who is served, how many at once and how often: what one client takes, others still get.

use std::io::{Read, Write};
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use plugsock::{ClientLimits, Refused, ServerOptions, ServerType, TcpServer};

use crate::harness::{
    Case, Client, Host, PATIENCE, Running, STRATEGIES, for_each_strategy, guest, pattern, plugin, sandbox,
    wait_until,
};

/// Whose limits are reached.
const FIRST: Ipv4Addr = Ipv4Addr::LOCALHOST;
/// Somebody else.
const OTHER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

fn serve(server_type: ServerType, strategy: &'static str, clients: ClientLimits) -> Running {
    let options = ServerOptions { clients, ..ServerOptions::default() };
    Running::start_with(Case { server_type, strategy }, sandbox().echo().unwrap(), options)
}

/// A client whose request is being served.
fn greeted(client: Client) -> Client {
    client.send(b"a");
    assert_eq!(client.recv_exact(1), b"a");
    client
}

/// The same, as soon as there is a place for it.
fn greeted_in_time(server: &Running) -> Client {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let client = server.connect();
        let _ = (&client.socket).write_all(b"a");
        if (&client.socket).read(&mut [0]).is_ok_and(|length| length == 1) {
            return client;
        }
        assert!(Instant::now() < deadline, "no place becomes free");
    }
}

/// C5
/// Who has seen the end of its connection may come again at once.
#[test]
fn a_client_that_has_seen_the_end_does_not_count_any_more() {
    for_each_strategy(|strategy| {
        let clients = ClientLimits { max_connections_per_ip: Some(1), ..ClientLimits::default() };
        let options = ServerOptions { clients, ..ServerOptions::default() };
        let case = Case { server_type: ServerType::Tcp, strategy };
        let server = Running::start_with(case, sandbox().echo().unwrap(), options);
        for _ in 0..200 {
            assert_eq!(server.ask(b"hello"), b"hello");
        }
        assert_eq!(server.refused(), Refused::default());
    });
}

/// It is charged once, however long it waits for room and whoever asks for it.
#[test]
fn a_newcomer_without_room_is_charged_once() {
    let clients = ClientLimits {
        max_connections: Some(1),
        connection_rate: Some("2/h".parse().unwrap()),
        ..ClientLimits::default()
    };
    let timeout = Some(Duration::from_millis(5));
    let options = ServerOptions { clients, timeout, ..ServerOptions::default() };
    let server = TcpServer::bind_with("127.0.0.1:0", sandbox().echo().unwrap(), options).unwrap();
    let first = Client::connect(&server.address());
    let open = server.get_request().unwrap().unwrap();
    let second = Client::connect(&server.address());
    for _ in 0..5 {
        assert!(!server.handle_request().unwrap());
    }
    server.process_request(open).unwrap();
    assert_eq!(first.exchange(b"first"), b"first");
    while !server.handle_request().unwrap() {}
    assert_eq!(second.exchange(b"second"), b"second");
    assert_eq!(server.refused(), Refused::default());
}

#[test]
fn a_source_has_only_so_many_open_at_once() {
    for strategy in STRATEGIES.into_iter().filter(|strategy| *strategy != "sync") {
        let limits = ClientLimits { max_connections_per_ip: Some(2), ..ClientLimits::default() };
        let server = serve(ServerType::Tcp, strategy, limits.clone());
        let mut open = [(); 2].map(|()| Some(greeted(server.connect())));
        assert!(server.connect().is_closed(), "{strategy}");
        assert_eq!(server.refused(), Refused { open_per_ip: 1, ..Refused::default() });
        let other = greeted(Client::connect_from(OTHER, &server.address));
        assert_eq!(open[0].take().unwrap().exchange(b"b"), b"b");
        drop(greeted_in_time(&server));
        assert_eq!(other.exchange(b"c"), b"c");
        // On a Unix socket a user is a source.
        let server = serve(ServerType::UnixStream, strategy, limits);
        let open = [(); 2].map(|()| greeted(server.connect()));
        assert!(server.connect().is_closed(), "{strategy}");
        drop(open);
        drop(greeted_in_time(&server));
    }
}

/// C5: whoever floods a server with connections has its share, and others are served.
#[test]
fn a_flood_from_one_source_leaves_room_for_others() {
    for_each_strategy(|strategy| {
        let limits = ClientLimits {
            max_connections_per_ip: Some(10),
            connection_rate_per_ip: Some("1/h:100".parse().unwrap()),
            ..ClientLimits::default()
        };
        let server = serve(ServerType::Tcp, strategy, limits);
        let is_over = AtomicBool::new(false);
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while !is_over.load(Relaxed) {
                        let _ = Client::try_connect(&server.address);
                    }
                });
            }
            for number in 0..50 {
                let client = Client::connect_from(Ipv4Addr::new(127, 0, 1, number), &server.address);
                assert_eq!(client.exchange(b"hello"), b"hello");
            }
            is_over.store(true, Relaxed);
        });
        let Refused { open_per_ip, rate_per_ip, .. } = server.refused();
        assert!(open_per_ip + rate_per_ip > 0, "nobody was refused");
    });
}

#[test]
fn networks_are_allowed_and_denied() {
    let denied = ClientLimits { deny: "127.0.0.1,10.0.0.0/8".parse().unwrap(), ..ClientLimits::default() };
    let not_allowed = ClientLimits { allow: "127.0.0.2/31".parse().unwrap(), ..ClientLimits::default() };
    for_each_strategy(|strategy| {
        for limits in [&denied, &not_allowed] {
            let server = serve(ServerType::Tcp, strategy, limits.clone());
            assert!(Client::connect_from(FIRST, &server.address).is_closed());
            assert_eq!(Client::connect_from(OTHER, &server.address).exchange(b"hello"), b"hello");
            assert_eq!(server.refused(), Refused { denied: 1, ..Refused::default() });
            let server = serve(ServerType::Udp, strategy, limits.clone());
            let refused = Client::connect_from(FIRST, &server.address);
            refused.send(b"hello");
            assert_eq!(Client::connect_from(OTHER, &server.address).exchange(b"hello"), b"hello");
            assert_eq!(server.refused(), Refused { denied: 1, ..Refused::default() });
            assert!(refused.has_nothing());
        }
        // They say nothing of Unix clients.
        let server = serve(ServerType::UnixStream, strategy, not_allowed.clone());
        assert_eq!(server.ask(b"hello"), b"hello");
    });
}

#[test]
fn requests_come_no_more_often_than_allowed() {
    for_each_strategy(|strategy| {
        let per_ip = ClientLimits {
            connection_rate_per_ip: Some("1/h:3".parse().unwrap()),
            ..ClientLimits::default()
        };
        let server = serve(ServerType::Tcp, strategy, per_ip.clone());
        (0..3).for_each(|_| assert_eq!(server.ask(b"hello"), b"hello"));
        (0..5).for_each(|_| assert!(server.connect().is_closed()));
        assert_eq!(Client::connect_from(OTHER, &server.address).exchange(b"hello"), b"hello");
        assert_eq!(server.refused(), Refused { rate_per_ip: 5, ..Refused::default() });
        let in_all =
            ClientLimits { connection_rate: Some("1/h:3".parse().unwrap()), ..ClientLimits::default() };
        let server = serve(ServerType::Tcp, strategy, in_all);
        (0..3).for_each(|_| assert_eq!(server.ask(b"hello"), b"hello"));
        assert!(Client::connect_from(OTHER, &server.address).is_closed());
        assert_eq!(server.refused(), Refused { rate: 1, ..Refused::default() });
        for server_type in [ServerType::Udp, ServerType::UnixDatagram] {
            let server = serve(server_type, strategy, per_ip.clone());
            let client = server.connect();
            (0..3).for_each(|_| assert_eq!(client.exchange(b"hello"), b"hello"));
            client.send(b"too often");
            wait_until(|| server.refused().rate_per_ip == 1);
            assert!(client.has_nothing());
        }
    });
}

/// Whom nobody wants to serve need not wait for a place.
#[test]
fn the_refused_are_refused_also_while_all_places_are_taken() {
    for strategy in STRATEGIES.into_iter().filter(|strategy| *strategy != "sync") {
        let limits = ClientLimits {
            max_connections: Some(1),
            deny: "127.0.0.2".parse().unwrap(),
            ..ClientLimits::default()
        };
        let server = serve(ServerType::Tcp, strategy, limits);
        let open = greeted(server.connect());
        (0..20).for_each(|_| assert!(Client::connect_from(OTHER, &server.address).is_closed()));
        let waiting = server.connect();
        waiting.send(b"later");
        assert_eq!(open.exchange(b"b"), b"b");
        assert_eq!(waiting.exchange(b""), b"later");
        assert_eq!(server.refused(), Refused { denied: 20, ..Refused::default() });
    }
}

/// Unlike `--max-requests`.
#[test]
fn max_connections_is_for_each_address() {
    for_each_strategy(|strategy| {
        let addresses = ["tcp://127.0.0.1:0", "tcp://127.0.0.1:0"];
        let host =
            Host::serve(&[&addresses[..], &["--max-connections", "1", "--concurrency", strategy]].concat());
        let open = greeted(host.connect());
        let waiting = host.connect();
        waiting.send(b"later");
        if strategy != "sync" {
            host.log.wait_for("1 requests are open, the most allowed");
        }
        assert_eq!(Client::ask(&host.addresses[1], b"hello"), b"hello");
        assert!(waiting.has_nothing());
        assert_eq!(open.exchange(b"b"), b"b");
        assert_eq!(waiting.exchange(b""), b"later");
    });
}

/// C1: bytes that come slowly do not keep a request open; nor do those that are read slowly. A rate that nobody
/// reaches makes the grace the end.
#[test]
fn a_client_that_is_too_slow_is_left() {
    for name in ["echo", "streams_echo"] {
        for_each_strategy(|strategy| {
            let echo = if name == "streams_echo" { guest(name) } else { plugin(name) };
            let args = ["tcp://127.0.0.1:0", &echo, "--min-rate", "1TiB/s:200ms", "--concurrency", strategy];
            let host = Host::serve(&args);
            let client = host.connect();
            let ping = || (&client.socket).write_all(b"a").is_ok() && !client.is_closed();
            let deadline = Instant::now() + PATIENCE;
            while ping() {
                assert!(Instant::now() < deadline, "it is served for ever");
            }
            host.log.wait_for("client dropped: it was slower than 1099511627776/s:200ms");
            let host = Host::serve(&[&args[..], &["--idle-timeout", "none"]].concat());
            let client = host.connect();
            // Until it is closed, or its own sending times out.
            while (&client.socket).write_all(&[0; 65536]).is_ok() {}
            host.log.wait_for("client dropped: it was slower than 1099511627776/s:200ms");
        });
    }
}

#[test]
fn a_client_that_is_fast_enough_is_served() {
    for_each_strategy(|strategy| {
        let host = Host::serve(&["tcp://127.0.0.1:0", "--min-rate", "1/s:1h", "--concurrency", strategy]);
        assert!(host.ask(&pattern(1 << 20)) == pattern(1 << 20));
    });
}

/// One line says it for all who are refused for the same reason within some seconds.
#[test]
fn refusals_do_not_flood_the_log() {
    let mut host = Host::serve(&["tcp://127.0.0.1:0", "--deny", "127.0.0.0/8", "--log-level", "warn"]);
    for _ in 0..200 {
        assert!(host.connect().is_closed());
    }
    assert!(host.terminate().success());
    let lines = host.log.lines_with("refused: its network is not allowed");
    assert!((1..=5).contains(&lines.len()), "{lines:?}");
    assert!(lines[0].contains("client=127.0.0.1:"), "{lines:?}");
}
