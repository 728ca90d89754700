//! Headers of the PROXY protocol that no load balancer would send, in pieces, from senders that go in any way.

use std::cell::Cell;
use std::io::Read;
use std::net::{Ipv6Addr, Shutdown, SocketAddr};

use plugsock::control::{Answer, Command, ControlClient};

use super::for_each_seed;
use crate::harness::{Client, Host, for_each_strategy, guest, wait_until};
use crate::proxy_protocol::{LINE, binary};

const V4: [u8; 12] = [192, 0, 2, 1, 10, 0, 0, 1, 0x30, 0x39, 0, 80];

fn headers() -> Vec<Vec<u8>> {
    let line = |text: &str| format!("PROXY {text}\r\n").into_bytes();
    let longest = Ipv6Addr::from([0xff; 16]);
    let path = [&b"/run/client"[..], &[0; 205]].concat();
    let name = [&b"\0client"[..], &[0; 209]].concat();
    // Of a no-op and of a host's name.
    let extensions = [&V4[..], &[4, 0, 3, 0, 0, 0, 2, 0, 2, b'a', b'b']].concat();
    let mut promises_much = binary(1, 0x11, &V4);
    promises_much[14] = 0xff;
    vec![
        LINE.to_vec(),
        line("TCP6 2001:db8::1 ::1 7 8"),
        line(&format!("TCP6 {longest} {longest} 65535 65535")),
        line("UNKNOWN"),
        line(&format!("UNKNOWN {longest} {longest} 65535 65535")),
        binary(1, 0x11, &V4),
        binary(1, 0x11, &extensions),
        binary(1, 0x21, &[[0x20; 18], [1; 18]].concat()),
        binary(1, 0x31, &[path.clone(), path].concat()[..216]),
        binary(1, 0x31, &[name.clone(), name].concat()[..216]),
        binary(1, 0x12, &V4),
        binary(0, 0, &[]),
        binary(0, 0x11, &V4),
        binary(1, 0x11, &[0; 4080]),
        binary(1, 0x11, &[0; 5000]),
        promises_much,
    ]
}

/// What the specification makes of all that somebody sends.
#[derive(Debug, PartialEq)]
enum Reading {
    /// No header, or not all of one.
    Refused,
    /// The connection is the sender's own.
    Own,
    Inet(SocketAddr),
    Unix,
}

fn read(data: &[u8]) -> Reading {
    let binary = data.strip_prefix(b"\r\n\r\n\0\r\nQUIT\n");
    binary.map_or_else(|| read_line(data), read_binary).unwrap_or(Reading::Refused)
}

fn read_line(data: &[u8]) -> Option<Reading> {
    const LONGEST: usize = 107;
    let end = data.iter().take(LONGEST).position(|byte| *byte == b'\n')?;
    let line = data[..end].strip_suffix(b"\r")?.strip_prefix(b"PROXY ")?;
    if line == b"UNKNOWN" || line.starts_with(b"UNKNOWN ") {
        return Some(Reading::Own);
    }
    let words: Vec<&str> = str::from_utf8(line).ok()?.split(' ').collect();
    let &[family, from, to, from_port, to_port] = &words[..] else { return None };
    let address = |ip: &str, port: &str| {
        let written: u16 = port.parse().ok()?;
        let address = SocketAddr::new(ip.parse().ok()?, written);
        (address.is_ipv6() == (family == "TCP6") && written.to_string() == port).then_some(address)
    };
    address(to, to_port)?;
    ["TCP4", "TCP6"].contains(&family).then(|| address(from, from_port).map(Reading::Inet))?
}

fn read_binary(data: &[u8]) -> Option<Reading> {
    let (&[version_and_command, family, high, low], rest) = data.split_first_chunk()?;
    let rest = rest.get(..usize::from(u16::from_be_bytes([high, low])))?;
    if ![0x20, 0x21].contains(&version_and_command) {
        return None;
    }
    if version_and_command == 0x20 {
        return Some(Reading::Own);
    }
    let length = *[0, 12, 36, 216].get(usize::from(family >> 4))?;
    let addresses = rest.get(..length)?;
    Some(match family {
        0x11 => {
            let (&ip, rest) = addresses.split_first_chunk::<4>()?;
            Reading::Inet((ip, u16::from_be_bytes([rest[4], rest[5]])).into())
        }
        0x21 => {
            let (&ip, rest) = addresses.split_first_chunk::<16>()?;
            Reading::Inet((ip, u16::from_be_bytes([rest[16], rest[17]])).into())
        }
        0x31 => Reading::Unix,
        _ if family & 0x0f <= 2 => Reading::Own,
        _ => return None,
    })
}

/// The sender ends, and is served as its header says or not at all.
fn is_served_as_read(client: &Client, data: &[u8]) {
    // It may be closed by now.
    let _ = client.socket.shutdown(Shutdown::Write);
    let mut answer = Vec::new();
    // Whoever is refused may be reset.
    let _ = (&client.socket).read_to_end(&mut answer);
    let answer = String::from_utf8(answer).unwrap();
    let address = answer.lines().find_map(|line| line.strip_prefix("client_address="));
    let own = client.socket.local_addr().unwrap().as_socket();
    let expected = match read(data) {
        Reading::Refused => None,
        Reading::Own => Some(own.map_or("unnamed".to_owned(), |own| own.to_string())),
        Reading::Inet(client) => Some(client.to_string()),
        // Which may have whatever is in a path.
        Reading::Unix => return assert!(address.is_some(), "{data:?} is answered {answer}"),
    };
    assert_eq!(address, expected.as_deref(), "{data:?}");
}

/// How many were refused for their headers, and how many were served to their ends.
fn counted(host: &Host) -> (u64, u64) {
    let mut control = ControlClient::connect(&host.control_socket()).unwrap();
    let Ok(Answer::Status(status)) = control.ask(&Command::Status {}) else { panic!("no status") };
    let refused = status.servers.iter().map(|server| server.refused.proxy_header).sum();
    (refused, status.slots[0].versions[0].total)
}

#[test]
fn proxy_headers() {
    let headers = headers();
    for_each_strategy(|strategy| {
        let directory = tempfile::tempdir().unwrap();
        let unix = format!("unix://{}", directory.path().join("socket").display());
        let handler = guest("server_info");
        let args = ["tcp://127.0.0.1:0", &unix, &handler, "--proxy-protocol", "127.0.0.1,unix"];
        let host = Host::serve(&[&args[..], &["--concurrency", strategy]].concat());
        let (count, served_as_read) = (Cell::new(0), Cell::new(0));
        let is_served = |client: &Client, data: &[u8]| {
            is_served_as_read(client, data);
            served_as_read.set(served_as_read.get() + u64::from(read(data) != Reading::Refused));
        };
        let good = |address| {
            let client = Client::connect(address);
            client.send(LINE);
            is_served(&client, LINE);
            count.set(count.get() + 1);
        };
        // An answer is there before its request has ended.
        let all_have_ended = || wait_until(|| counted(&host).0 + counted(&host).1 == count.get());
        host.addresses.iter().for_each(good);
        all_have_ended();
        let before = host.resources();
        for address in &host.addresses {
            let seeds = for_each_seed(60, |random| {
                let client = Client::connect(address);
                let header = random.pick(&headers).clone();
                let header = if random.below(4) == 0 { header } else { random.mutated(&header) };
                let data = [header, random.pick(&[&b""[..], b"hello", LINE]).to_vec()].concat();
                random.in_pieces(&client.socket, &data);
                match random.below(8) {
                    0 => client.reset(),
                    1 => drop(client),
                    _ => is_served(&client, &data),
                }
            });
            count.set(count.get() + seeds as u64);
            good(address);
        }
        all_have_ended();
        let (refused, served) = counted(&host);
        assert!(refused > 0 && served >= served_as_read.get(), "{refused}, {served}, {served_as_read:?}");
        assert_eq!(host.log.lines_with("panicked"), [""; 0]);
        host.wait_for_resources(&before);
    });
}
