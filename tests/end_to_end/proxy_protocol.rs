//! Connections that a load balancer passes on: whose they are stands in the PROXY protocol's header.

use std::io::Write;
use std::net::Ipv4Addr;
use std::time::Duration;

use plugsock::{ClientLimits, Refused, ServerOptions, ServerType};

use crate::harness::{Case, Client, Host, Running, STRATEGIES, for_each_strategy, guest, handler, sandbox};

pub const LINE: &[u8] = b"PROXY TCP4 192.0.2.1 10.0.0.1 12345 80\r\n";

/// Version 2 with this command, family and protocol, and what follows them.
pub fn binary(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
    [b"\r\n\r\n\0\r\nQUIT\n", &[0x20 | command, family][..], &length, rest].concat()
}

/// The same as [`LINE`], and an extension.
fn binary_v4() -> Vec<u8> {
    binary(1, 0x11, &[192, 0, 2, 1, 10, 0, 0, 1, 0x30, 0x39, 0, 80, 4, 0, 1, 0])
}

fn limits() -> ClientLimits {
    ClientLimits { proxy_protocol: "127.0.0.1,unix".parse().unwrap(), ..ClientLimits::default() }
}

fn serve(server_type: ServerType, strategy: &'static str, name: &str, clients: ClientLimits) -> Running {
    let handler = if name == "echo" { sandbox().echo().unwrap() } else { handler(name) };
    let options = ServerOptions { clients, ..ServerOptions::default() };
    Running::start_with(Case { server_type, strategy }, handler, options)
}

/// What the handler takes for its client's address.
fn client_address(client: &Client, header: &[u8]) -> String {
    let answer = String::from_utf8(client.exchange(header)).unwrap();
    answer.lines().find_map(|line| line.strip_prefix("client_address=")).expect(&answer).to_owned()
}

#[test]
fn the_client_is_whom_the_header_names() {
    for server_type in [ServerType::Tcp, ServerType::UnixStream] {
        for_each_strategy(|strategy| {
            let server = serve(server_type, strategy, "server_info", limits());
            for header in [LINE, &binary_v4()] {
                assert_eq!(client_address(&server.connect(), header), "192.0.2.1:12345");
            }
            assert_eq!(
                client_address(&server.connect(), b"PROXY TCP6 2001:db8::1 ::1 7 8\r\n"),
                "[2001:db8::1]:7"
            );
        });
    }
}

#[test]
fn a_connection_of_the_sender_itself_is_its_own() {
    for_each_strategy(|strategy| {
        let server = serve(ServerType::Tcp, strategy, "server_info", limits());
        for header in [&b"PROXY UNKNOWN\r\n"[..], &binary(0, 0, &[])] {
            let client = server.connect();
            let own = client.socket.local_addr().unwrap().as_socket().unwrap().to_string();
            assert_eq!(client_address(&client, header), own);
        }
    });
}

/// The header is taken off whole and nothing after it, however it comes; and nobody waits for it but its own.
#[test]
fn a_header_may_come_in_pieces_while_others_are_served() {
    for_each_strategy(|strategy| {
        let server = serve(ServerType::Tcp, strategy, "echo", limits());
        for header in [LINE, &binary_v4()] {
            let slow = server.connect();
            let (last, pieces) = header.split_last().unwrap();
            for piece in pieces.chunks(7) {
                slow.send(piece);
                let quick = server.connect();
                assert_eq!(quick.exchange(&[header, b"quick"].concat()), b"quick");
            }
            assert_eq!(slow.exchange(&[&[*last], &b"PROXY slow"[..]].concat()), b"PROXY slow");
        }
        assert_eq!(server.refused(), Refused::default());
    });
}

/// More than a socket's buffer may hold before anybody reads.
#[test]
fn a_header_may_be_as_long_as_its_length_can_say() {
    for_each_strategy(|strategy| {
        let server = serve(ServerType::Tcp, strategy, "server_info", limits());
        let filled = [&binary_v4()[16..28], &vec![0; usize::from(u16::MAX) - 12]].concat();
        assert_eq!(client_address(&server.connect(), &binary(1, 0x11, &filled)), "192.0.2.1:12345");
    });
}

#[test]
fn from_anybody_else_a_header_is_data() {
    for_each_strategy(|strategy| {
        let server = serve(ServerType::Tcp, strategy, "echo", limits());
        let other = Client::connect_from(Ipv4Addr::new(127, 0, 0, 2), &server.address);
        assert_eq!(other.exchange(LINE), LINE);
    });
}

#[test]
fn who_does_not_begin_with_a_header_is_refused() {
    for strategy in STRATEGIES {
        let address = "tcp://127.0.0.1:0";
        let host = Host::serve(&[
            address,
            &guest("server_info"),
            "--proxy-protocol",
            "127.0.0.1",
            "--concurrency",
            strategy,
        ]);
        for (begin, reason) in [
            (&b"GET / HTTP/1.1\r\n"[..], "there is none"),
            (&[LINE[..10].to_vec(), vec![b'1'; 200]].concat(), "too long"),
            (b"PROXY TCP4 1.2.3.4\r\n", "malformed"),
            (&binary(1, 0x11, &[0; 5]), "malformed"),
        ] {
            let client = host.connect();
            client.send(begin);
            assert!(client.is_closed(), "{reason}");
        }
        let client = host.connect();
        client.send(&LINE[..10]);
        client.half_close();
        assert!(client.is_closed());
        // Nobody waits for what cannot come.
        assert_eq!(host.log.lines_with("did not come in time"), [""; 0]);
        assert_eq!(client_address(&host.connect(), LINE), "192.0.2.1:12345");
        let line = host.log.wait_for("refused: PROXY header: ");
        assert!(line.contains("client=127.0.0.1:") && line.contains("there is none"), "{line}");
    }
}

/// All at once, since each has some seconds.
#[test]
fn who_is_slow_with_its_header_is_refused() {
    let servers = STRATEGIES.map(|strategy| serve(ServerType::Tcp, strategy, "echo", limits()));
    let slow: Vec<Client> = servers.iter().map(Running::connect).collect();
    for client in &slow {
        client.socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        client.send(&LINE[..10]);
    }
    for (client, server) in slow.iter().zip(&servers) {
        assert!(client.is_closed());
        assert_eq!(server.refused(), Refused { proxy_header: 1, ..Refused::default() });
        assert_eq!(server.connect().exchange(&[LINE, b"hello"].concat()), b"hello");
    }
}

/// Those that are silent for longest go; whoever says whose connection it is finds its way past them.
#[test]
fn many_that_are_silent_keep_nobody_out() {
    for_each_strategy(|strategy| {
        let server = serve(ServerType::Tcp, strategy, "echo", limits());
        let silent: Vec<Client> = (0..300).map(|_| server.connect()).collect();
        assert_eq!(server.connect().exchange(&[LINE, b"hello"].concat()), b"hello");
        assert!(silent[0].is_closed());
        assert!((&silent[299].socket).write_all(&[LINE, b"late"].concat()).is_ok());
        silent[299].half_close();
        assert_eq!(silent[299].recv_all(), b"late");
    });
}

#[test]
fn limits_are_for_the_client_that_is_named() {
    for strategy in STRATEGIES.into_iter().filter(|strategy| *strategy != "sync") {
        let limits = ClientLimits {
            max_connections_per_ip: Some(1),
            deny: "198.51.100.0/24".parse().unwrap(),
            ..limits()
        };
        let server = serve(ServerType::Tcp, strategy, "echo", limits);
        let header = |address: &str| format!("PROXY TCP4 {address} 10.0.0.1 12345 80\r\na").into_bytes();
        let greet = |address: &str| {
            let client = server.connect();
            client.send(&header(address));
            client
        };
        assert!(greet("198.51.100.7").is_closed());
        let first = greet("192.0.2.1");
        assert_eq!(first.recv_exact(1), b"a");
        assert!(greet("192.0.2.1").is_closed());
        let second = greet("192.0.2.2");
        assert_eq!(second.recv_exact(1), b"a");
        assert_eq!(server.refused(), Refused { denied: 1, open_per_ip: 1, ..Refused::default() });
    }
}
