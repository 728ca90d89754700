//! Packets: whole or not at all, answered from where they were sent to.

use std::fs;
use std::io::{self, Read};
use std::net::{Ipv6Addr, SocketAddrV6, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use plugsock::{Grants, Sandbox, SandboxOptions, ServerOptions, ServerType};
use socket2::Socket;

use crate::harness::{
    Case, Client, Host, PATIENCE, Running, STRATEGIES, for_each_strategy, guest, handler, pattern, sandbox,
    sandbox_options, wait_until,
};

const UDP: &str = "udp://127.0.0.1:0";

/// Runs a scenario for both datagram server types with every strategy.
fn for_each_datagram_case(scenario: impl Fn(Case)) {
    for server_type in [ServerType::Udp, ServerType::UnixDatagram] {
        for_each_strategy(|strategy| scenario(Case { server_type, strategy }));
    }
}

/// C7
#[test]
fn empty_packets_are_requests_and_can_be_answers() {
    for_each_datagram_case(|case| {
        for name in ["datagram_echo", "empty_reply"] {
            let server = Running::start(case, handler(name));
            let client = server.connect();
            for _ in 0..20 {
                assert_eq!(client.exchange(b""), b"");
            }
        }
    });
}

/// C7: who floods a server with packets keeps neither the rest of the host nor the server's other clients out.
#[test]
fn a_flood_of_empty_packets_leaves_others_served() {
    for_each_strategy(|strategy| {
        let host = Host::serve(&[UDP, "tcp://127.0.0.1:0", "--concurrency", strategy]);
        let is_over = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                let client = host.connect();
                while !is_over.load(SeqCst) {
                    let _ = client.socket.send(b"");
                }
            });
            for _ in 0..20 {
                assert_eq!(Client::ask(&host.addresses[1], b"hello"), b"hello");
            }
            // The kernel may drop a packet where there are too many.
            let client = host.connect();
            client.socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
            wait_until(|| {
                client.send(b"hello");
                (&client.socket).read(&mut [0; 5]).is_ok_and(|length| length == 5)
            });
            is_over.store(true, SeqCst);
        });
    });
}

#[test]
fn a_reply_is_sent_when_the_request_ends() {
    for_each_datagram_case(|case| {
        let server = Running::start(case, handler("datagram_echo"));
        assert_eq!(server.ask(&pattern(5000)), pattern(5000));
    });
}

#[test]
fn a_handler_may_reply_several_times() {
    for_each_datagram_case(|case| {
        let server = Running::start(case, handler("multi_reply"));
        let client = server.connect();
        client.send(b"");
        for reply in [b"1", b"2", b"3"] {
            assert_eq!(client.recv_some(), reply);
        }
    });
}

#[test]
fn a_handler_that_writes_nothing_sends_nothing() {
    for_each_strategy(|strategy| {
        let mut host = Host::serve(&[UDP, &guest("no_reply"), "--concurrency", strategy]);
        let client = host.connect();
        client.send(b"hello");
        host.log.wait_for("5 bytes");
        assert!(host.terminate().success());
        // Had it been sent, it would have come before the host ended.
        assert!(client.has_nothing());
    });
}

/// C6
#[test]
fn a_packet_above_the_limit_is_dropped_and_logged() {
    let directory = tempfile::tempdir().unwrap();
    let unix = format!("unixgram://{}", directory.path().join("socket").display());
    for address in [UDP, &unix] {
        for_each_strategy(|strategy| {
            let host = Host::serve(&[address, "--max-packet-size", "100", "--concurrency", strategy]);
            let client = host.connect();
            client.send(&pattern(101));
            let line = host.log.wait_for("refused: a datagram of 101 bytes, above max_packet_size");
            assert!(line.contains("max_packet_size") && line.contains("client="), "{line}");
            assert_eq!(client.exchange(&pattern(100)), pattern(100));
            assert!(client.has_nothing());
        });
    }
}

#[test]
fn a_reply_above_what_a_packet_may_be_is_an_error_to_the_handler() {
    for_each_strategy(|strategy| {
        let server = Running::start(Case { server_type: ServerType::Udp, strategy }, handler("big_reply"));
        assert_eq!(server.ask(b""), b"the datagram is too large for its transport");
    });
}

/// C8
#[test]
fn a_client_without_a_name_cannot_be_answered_and_harms_nobody() {
    let directory = tempfile::tempdir().unwrap();
    let address = format!("unixgram://{}", directory.path().join("socket").display());
    for_each_strategy(|strategy| {
        let host = Host::serve(&[&address, "--concurrency", strategy]);
        Client::unnamed(host.address()).send(b"hello");
        let line = host.log.wait_for("handler error: the client's socket has no name");
        assert!(line.contains("client=(unnamed)"), "{line}");
        assert_eq!(host.ask(b"hello"), b"hello");
    });
}

#[test]
fn a_wildcard_server_replies_from_the_address_that_was_asked() {
    for_each_strategy(|strategy| {
        let options = ServerOptions { concurrency: strategy.parse().unwrap(), ..ServerOptions::default() };
        let server = Running::at("udp://0.0.0.0:0", sandbox().echo().unwrap(), options);
        let port: u16 = server.address.to_string().rsplit(':').next().unwrap().parse().unwrap();
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        for host in ["127.0.0.2", "127.0.0.3"] {
            client.send_to(b"who?", (host, port)).unwrap();
            let mut reply = [0; 10];
            let (length, from) = client.recv_from(&mut reply).unwrap();
            assert_eq!((&reply[..length], from.to_string()), (&b"who?"[..], format!("{host}:{port}")));
        }
    });
}

/// An address that nobody can send from: a network's broadcast address, that of all networks, a group.
#[test]
fn a_packet_to_many_is_answered_from_one_address() {
    for strategy in STRATEGIES {
        for wildcard in ["udp://0.0.0.0:0", "udp://[::]:0"] {
            let options =
                ServerOptions { concurrency: strategy.parse().unwrap(), ..ServerOptions::default() };
            let server = Running::at(wildcard, sandbox().echo().unwrap(), options);
            let port: u16 = server.address.to_string().rsplit(':').next().unwrap().parse().unwrap();
            let client = UdpSocket::bind("127.0.0.1:0").unwrap();
            client.set_broadcast(true).unwrap();
            client.set_read_timeout(Some(PATIENCE)).unwrap();
            for many in ["127.255.255.255", "255.255.255.255"] {
                client.send_to(b"who?", (many, port)).unwrap();
                let mut reply = [0; 10];
                let (length, from) = client.recv_from(&mut reply).unwrap();
                assert_eq!(&reply[..length], b"who?", "{wildcard} {many}");
                assert_eq!(from.to_string(), format!("127.0.0.1:{port}"), "{wildcard} {many}");
            }
            if wildcard.contains("::") {
                answers_the_group_of_all_nodes(port);
            }
        }
    }
}

/// Every machine is in this group, on each interface that has groups.
fn answers_the_group_of_all_nodes(port: u16) {
    const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
    let client = UdpSocket::bind("[::]:0").unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    let interfaces =
        fs::read_dir("/sys/class/net").unwrap().map(|entry| entry.unwrap().path().join("ifindex"));
    let indices = interfaces.filter_map(|file| fs::read_to_string(file).ok()?.trim().parse().ok());
    let sent = indices.into_iter().find(|index: &u32| {
        // Where there is no way for groups, that is said at once.
        client.send_to(b"who?", SocketAddrV6::new(ALL_NODES, port, 0, *index)).is_ok()
    });
    let Some(index) = sent else { return eprintln!("skipped: no interface has groups of IPv6") };
    let mut reply = [0; 10];
    let (length, from) = client.recv_from(&mut reply).unwrap();
    assert_eq!((&reply[..length], from.port()), (&b"who?"[..], port), "by interface {index}");
}

/// What comes back of the unanswerable reply (ICMP, `ECONNREFUSED`) is not the next client's.
#[test]
fn a_client_that_has_gone_does_not_stop_the_server() {
    for_each_datagram_case(|case| {
        let server = Running::start(case, handler("multi_reply"));
        for _ in 0..20 {
            server.connect().send(b"");
        }
        let client = server.connect();
        client.send(b"");
        for reply in [b"1", b"2", b"3"] {
            assert_eq!(client.recv_some(), reply);
        }
    });
}

/// Only the client is answered, whoever else the handler names, unless that was granted.
#[test]
fn a_handler_sends_to_its_client_alone_unless_more_is_granted() {
    let grants = Grants { send_to: true, ..Grants::default() };
    let granting = Sandbox::new(SandboxOptions { grants, ..sandbox_options() }).unwrap();
    let granted = granting.load(guest("sends_to")).unwrap();
    for_each_datagram_case(|case| {
        let directory = tempfile::tempdir().unwrap();
        let (other, name) = somebody_else(case.server_type, directory.path());
        let server = Running::start(case, handler("sends_to"));
        let answer = server.ask(name.as_bytes());
        assert_eq!(String::from_utf8(answer).unwrap(), "Err(Error::NotPermitted)");
        // It was answered after it had tried.
        assert_eq!((&other).read(&mut [0; 5]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        let server = Running::start(case, granted.clone());
        assert_eq!(server.ask(name.as_bytes()), b"Ok(())");
        let mut received = [0; 6];
        let length = (&other).read(&mut received).unwrap();
        assert_eq!(&received[..length], b"hello");
    });
    for_each_strategy(|strategy| {
        for (handler, refused) in [(handler("sends_to"), "NotPermitted"), (granted.clone(), "Unsupported")] {
            let server = Running::start(Case { server_type: ServerType::Tcp, strategy }, handler);
            let answer = server.ask(b"127.0.0.1:9");
            assert_eq!(String::from_utf8(answer).unwrap(), format!("Err(Error::{refused})"));
        }
    });
}

/// A socket that does not wait, and its address.
fn somebody_else(server_type: ServerType, directory: &Path) -> (Socket, String) {
    let (socket, name) = match server_type {
        ServerType::Udp => {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            let name = socket.local_addr().unwrap().to_string();
            (Socket::from(socket), name)
        }
        _ => {
            let path = directory.join("other");
            (Socket::from(UnixDatagram::bind(&path).unwrap()), path.display().to_string())
        }
    };
    socket.set_nonblocking(true).unwrap();
    (socket, name)
}
