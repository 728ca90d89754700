//! Every byte that a client sends comes back, on every server type with every strategy.

use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::thread;
use std::time::{Duration, Instant};

use plugsock::{ServeAddress, ServerOptions, ServerType};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

use crate::harness::{
    Case, Client, Host, Running, STRATEGIES, for_each_case, for_each_strategy, handler, pattern, plugin,
    sandbox,
};

/// The largest payload of a datagram over IPv4.
const DATAGRAM_MAX: usize = 65_507;

fn start(case: Case) -> Running {
    let mut options = ServerOptions::default();
    options.socket.max_packet_size = DATAGRAM_MAX;
    Running::start_with(case, sandbox().echo().unwrap(), options)
}

fn tcp(strategy: &'static str) -> Running {
    start(Case { server_type: ServerType::Tcp, strategy })
}

#[test]
fn nothing_one_byte_and_much_come_back() {
    for_each_case(|case| {
        let much = if case.server_type.is_datagram() { DATAGRAM_MAX } else { 1 << 20 };
        let server = start(case);
        for length in [0, 1, much] {
            let data = pattern(length);
            assert!(server.ask(&data) == data, "{case}: {length} bytes came back otherwise");
        }
    });
}

#[test]
fn a_hundred_clients_each_get_their_own_back() {
    for_each_case(|case| {
        let server = start(case);
        thread::scope(|scope| {
            for number in 0..100 {
                let (server, data) = (&server, pattern(1000 + number));
                scope.spawn(move || {
                    let client = server.connect();
                    let (first, second) = data.split_at(500);
                    client.send(first);
                    assert!(client.recv_exact(first.len()) == first, "{case}: client {number}");
                    assert!(client.exchange(second) == second, "{case}: client {number}");
                });
            }
        });
    });
}

/// All have said something before any goes on, which takes a hundred open requests.
#[test]
fn a_hundred_connections_are_open_at_once() {
    for strategy in ["threading", "async"] {
        let server = tcp(strategy);
        let clients: Vec<Client> = (0..100).map(|_| server.connect()).collect();
        for client in &clients {
            client.send(b"a");
            assert_eq!(client.recv_exact(1), b"a");
        }
        assert_eq!(server.open_requests(), 100);
        for client in &clients {
            assert_eq!(client.exchange(b"b"), b"b");
        }
    }
}

/// C2: the answer is whole although the client has ended its side before it reads.
#[test]
fn a_client_that_half_closes_gets_the_whole_answer_and_then_the_end() {
    for server_type in [ServerType::Tcp, ServerType::UnixStream] {
        for_each_strategy(|strategy| {
            let server = start(Case { server_type, strategy });
            let client = server.connect();
            // Small enough for the kernel to hold, so that it is all sent before anything is read.
            let data = pattern(20_000);
            client.send(&data);
            client.half_close();
            assert!(client.recv_all() == data);
        });
    }
}

/// C3
#[test]
fn clients_that_go_in_the_middle_of_a_request_leave_the_server_serving() {
    for server_type in [ServerType::Tcp, ServerType::UnixStream] {
        for_each_strategy(|strategy| {
            let server = start(Case { server_type, strategy });
            drop(server.connect());
            server.connect().reset();
            for end in [drop::<Client>, Client::reset] {
                let client = server.connect();
                client.send(b"hello");
                assert_eq!(client.recv_exact(5), b"hello");
                client.send(&pattern(50_000));
                end(client);
            }
            assert_eq!(server.ask(b"still there"), b"still there");
        });
    }
}

/// C11: closing with input that nobody read would reset the connection, and take the answer with it.
#[test]
fn an_answer_arrives_although_the_request_was_not_read() {
    for server_type in [ServerType::Tcp, ServerType::UnixStream] {
        for_each_strategy(|strategy| {
            let server = Running::start(Case { server_type, strategy }, handler("phases"));
            for _ in 0..5 {
                let client = server.connect();
                // More than the server's kernel holds, so that some is always under way.
                assert_eq!(client.exchange(&pattern(500_000)), b"setup\nhandle\nfinish\n");
            }
        });
    }
}

/// C11: nor does one reset it that says something at the very moment at which its request ends.
#[test]
fn a_client_that_speaks_at_the_end_of_its_request_reads_that_end() {
    for server_type in [ServerType::Tcp, ServerType::UnixStream] {
        for_each_strategy(|strategy| {
            let server = Running::start(Case { server_type, strategy }, handler("phases"));
            for number in 0..400 {
                let client = server.connect();
                assert_eq!(client.recv_exact(20), b"setup\nhandle\nfinish\n");
                // The moment is short, and a little later each time.
                let moment = Instant::now() + Duration::from_nanos(50 * number);
                while Instant::now() < moment {}
                client.try_send(b"more");
                assert_eq!(client.recv_all(), b"");
            }
        });
    }
}

#[test]
fn ipv6_is_served() {
    for scheme in ["tcp", "udp"] {
        for_each_strategy(|strategy| {
            let options =
                ServerOptions { concurrency: strategy.parse().unwrap(), ..ServerOptions::default() };
            let server = Running::at(&format!("{scheme}://[::1]:0"), sandbox().echo().unwrap(), options);
            assert_eq!(server.ask(b"six"), b"six");
        });
    }
}

#[test]
fn the_ipv6_wildcard_serves_ipv4_too_unless_told_not_to() {
    for scheme in ["tcp", "udp"] {
        let address = format!("{scheme}://[::]:0");
        for ipv6_only in [false, true] {
            let mut options = ServerOptions::default();
            options.socket.ipv6_only = ipv6_only;
            let server = Running::at(&address, sandbox().echo().unwrap(), options);
            let port = server.address.to_string().rsplit(':').next().unwrap().to_owned();
            let at = |host: &str| -> ServeAddress { format!("{scheme}://{host}:{port}").parse().unwrap() };
            assert_eq!(Client::ask(&at("[::1]"), b"six"), b"six");
            if !ipv6_only {
                assert_eq!(Client::ask(&at("127.0.0.1"), b"four"), b"four");
            } else if scheme == "tcp" {
                assert!(Client::try_connect(&at("127.0.0.1")).is_err());
            }
        }
    }
}

#[test]
fn the_command_serves_several_addresses_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).display().to_string();
    for strategy in STRATEGIES {
        let addresses = [
            "tcp://127.0.0.1:0".to_owned(),
            "tcp://[::1]:0".to_owned(),
            "udp://127.0.0.1:0".to_owned(),
            format!("unix://{}", path("stream")),
            format!("unixgram://{}", path("datagram")),
            format!("unix://@plugsock-test-{}-{strategy}", std::process::id()),
        ];
        let mut host = Host::serve(
            &[&addresses[..], &[plugin("echo"), "--concurrency".into(), strategy.into()]].concat(),
        );
        for (address, ready) in host.addresses.iter().zip(&host.ready) {
            assert_eq!(Client::ask(address, b"hello"), b"hello", "{address}");
            assert!(
                ready.contains(" echo.wasm sha256:") && ready.ends_with(&format!(" {strategy}\n")),
                "{ready}"
            );
        }
        assert!(host.terminate().success());
    }
}

#[test]
fn the_built_in_echo_serves_where_no_handler_is_named() {
    let host = Host::serve(&["tcp://localhost:0"]);
    assert!(host.ready[0].contains(" echo sha256:"), "{}", host.ready[0]);
    assert_eq!(host.ask(b"hello"), b"hello");
}

/// A read ends before urgent data although more has come; nothing of it is left behind.
#[test]
fn what_comes_beside_urgent_data_comes_back() {
    for_each_strategy(|strategy| {
        let server =
            Running::start(Case { server_type: ServerType::Tcp, strategy }, sandbox().echo().unwrap());
        for _ in 0..5 {
            let client = server.connect();
            client.send(b"before");
            assert_eq!(client.recv_exact(6), b"before");
            // In one segment, so that there is no second event.
            client.socket.set_tcp_nodelay(false).unwrap();
            assert_eq!(client.socket.send_out_of_band(b"beside!").unwrap(), 7);
            client.send(b"after");
            assert_eq!(client.recv_exact(11), b"besideafter");
            assert_eq!(client.exchange(b""), b"");
        }
    });
}

/// Nor is anything left behind where descriptors come along, which go nowhere.
#[test]
fn what_comes_with_descriptors_comes_back() {
    for_each_strategy(|strategy| {
        let directory = tempfile::tempdir().unwrap();
        let address = format!("unix://{}", directory.path().join("socket").display());
        let host = Host::serve(&[&address, "--concurrency", strategy]);
        let before = host.descriptors();
        let client = host.greeted();
        for _ in 0..100 {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            let fds = [client.socket.as_fd()];
            assert!(control.push(SendAncillaryMessage::ScmRights(&fds)));
            let data = [IoSlice::new(b"with")];
            assert_eq!(sendmsg(&client.socket, &data, &mut control, SendFlags::empty()), Ok(4));
            client.send(b"without");
            assert_eq!(client.recv_exact(11), b"withwithout");
        }
        assert!(host.descriptors() <= before + 4);
        assert_eq!(client.exchange(b""), b"");
    });
}
