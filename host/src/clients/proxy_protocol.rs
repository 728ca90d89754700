//! The PROXY protocol, by which a load balancer says whose connection it passes on: the header at the beginning
//! of a connection, of version 1 (a line) or 2 (binary).
//!
//! It is read before a newcomer is asked anything else: limits and hooks are about the client that it names. A connection
//! whose header is not there yet waits in an `epoll` set, has no place among the open requests, and keeps nobody else
//! waiting.

use std::collections::{HashMap, VecDeque};
use std::ffi::OsStr;
use std::io;
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::time::{Duration, Instant};

use ppp::{v1, v2};
use rustix::event::{Timespec, epoll};
use rustix::net::{RecvFlags, recv};

use super::Proxies;
use crate::address::{SocketAddress, UnixAddress};
use crate::request::Request;

/// How long a sender may take for its header, as the protocol advises: enough for a lost packet to be sent again.
const HEADER_TIME: Duration = Duration::from_secs(5);

/// No header of either version is shorter, so that so much can be read before it is known which it is.
const BEGINNING: usize = v2::PROTOCOL_PREFIX.len();

/// A line of version 1 is no longer.
const LINE_MAX: usize = 107;

/// What comes before the length in version 2, and the length.
const FIXED_PART: usize = 16;

/// Version 2 for a connection of the sender's own, as for a health check: what else it says is to be ignored.
const LOCAL: u8 = 0x20;

/// How many connections may wait for their headers; the oldest goes when there are more. Of each, no more is kept than
/// the 65,551 bytes that a header may have.
const AWAITED_MAX: usize = 256;

/// Takes the headers off connections that must begin with one.
#[derive(Debug)]
pub(crate) struct ProxyHeaders {
    proxies: Proxies,
    /// Holds the connections that are awaited.
    epoll: OwnedFd,
    connections: HashMap<u64, Awaited>,
    /// Of the same, oldest first; some are not awaited any more.
    deadlines: VecDeque<(Instant, u64)>,
    arrived: VecDeque<Arrival>,
}

/// A connection that has its header, or one that is refused for it, and why.
pub(crate) type Arrival = Result<Request, (Request, &'static str)>;

/// A connection, and what has come of its header.
#[derive(Debug)]
struct Awaited {
    request: Request,
    header: Vec<u8>,
}

/// What a header says: `None` if the connection is the sender's own or its client is not known.
#[derive(Debug, PartialEq)]
struct Header(Option<SocketAddress>);

/// What is still to be read of a header.
#[derive(Debug)]
enum Missing {
    Nothing(Header),
    Bytes(usize),
    /// All up to the end of the line, and so many bytes at most.
    Line(usize),
}

impl ProxyHeaders {
    pub(crate) fn new(proxies: Proxies) -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let (connections, deadlines, arrived) = Default::default();
        Ok(Self { proxies, epoll, connections, deadlines, arrived })
    }

    /// Whether a connection must begin with a header.
    pub(crate) fn concern(&self, request: &Request) -> bool {
        self.proxies.contains(request.client_address())
    }

    /// Whether no connection is awaited, nor one there that was.
    pub(crate) fn is_empty(&self) -> bool {
        self.connections.is_empty() && self.arrived.is_empty()
    }

    /// When a connection's time for its header will be over.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.front().map(|(at, _)| *at)
    }

    /// Takes a new connection, which must begin with a header.
    pub(crate) fn expect(&mut self, request: Request) -> io::Result<()> {
        let Some(awaited) = self.advance(Awaited { request, header: Vec::new() }) else { return Ok(()) };
        if self.connections.len() >= AWAITED_MAX
            && let Some(oldest) = std::iter::from_fn(|| self.deadlines.pop_front())
                .find_map(|(_, id)| self.connections.remove(&id))
        {
            self.arrived.push_back(Err((oldest.request, "others came before it was there")));
        }
        let id = awaited.request.id();
        let flags = epoll::EventFlags::IN | epoll::EventFlags::RDHUP | epoll::EventFlags::ET;
        if let Some(socket) = awaited.request.stream_socket() {
            epoll::add(&self.epoll, socket, epoll::EventData::new_u64(id), flags)?;
        }
        self.deadlines.push_back((Instant::now() + HEADER_TIME, id));
        self.connections.insert(id, awaited);
        Ok(())
    }

    /// A connection whose header has come, or one that is refused for it; never blocks.
    pub(crate) fn next(&mut self) -> io::Result<Option<Arrival>> {
        if self.arrived.is_empty() && !self.connections.is_empty() {
            self.read_all()?;
            self.expire();
        }
        Ok(self.arrived.pop_front())
    }

    /// Reads on wherever something new has come.
    fn read_all(&mut self) -> io::Result<()> {
        let mut events = [const { MaybeUninit::<epoll::Event>::uninit() }; 64];
        let (events, _) = epoll::wait(&self.epoll, &mut events, Some(&Timespec::default()))?;
        for event in events {
            let Some(awaited) = self.connections.remove(&event.data.u64()) else { continue };
            if let Some(awaited) = self.advance(awaited) {
                // It stays in the set, and keeps its deadline.
                self.connections.insert(event.data.u64(), awaited);
            }
        }
        Ok(())
    }

    fn expire(&mut self) {
        let now = Instant::now();
        while self.deadlines.front().is_some_and(|(at, id)| *at <= now || !self.connections.contains_key(id))
        {
            let late = self.deadlines.pop_front().and_then(|(_, id)| self.connections.remove(&id));
            if let Some(awaited) = late.and_then(|awaited| self.advance(awaited)) {
                self.arrived.push_back(Err((awaited.request, "it did not come in time")));
            }
        }
    }

    /// Reads what has come of a connection's header; the connection, if that is not all of it.
    fn advance(&mut self, mut awaited: Awaited) -> Option<Awaited> {
        let arrival = match awaited.read() {
            Ok(None) => return Some(awaited),
            Ok(Some(Header(client_address))) => {
                if let Some(socket) = awaited.request.stream_socket() {
                    // Not in the set if it was complete from the start.
                    let _ = epoll::delete(&self.epoll, socket);
                }
                let mut request = awaited.request;
                if let Some(client_address) = client_address {
                    request.pass_on_for(client_address);
                }
                Ok(request)
            }
            // Closing it takes it out of the set.
            Err(reason) => Err((awaited.request, reason)),
        };
        self.arrived.push_back(arrival);
        None
    }
}

/// Readable when there may be something new of an awaited connection.
impl AsFd for ProxyHeaders {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}

impl Awaited {
    /// Takes the header off the beginning of the connection, and nothing after it; `None` if it is not all there.
    fn read(&mut self) -> Result<Option<Header>, &'static str> {
        let Some(socket) = self.request.stream_socket() else { return Ok(None) };
        let mut buffer = [MaybeUninit::uninit(); 4096];
        loop {
            let (wanted, is_line) = match missing(&self.header)? {
                Missing::Nothing(header) => return Ok(Some(header)),
                Missing::Bytes(count) => (count, false),
                Missing::Line(most) => (most, true),
            };
            let wanted = wanted.min(buffer.len());
            let mut get = |count: usize, flags| match recv(socket, &mut buffer[..count], flags) {
                Err(rustix::io::Errno::AGAIN) => Ok(None),
                Ok(((bytes, _), _)) if !bytes.is_empty() => Ok(Some(bytes.to_vec())),
                Ok(_) if self.header.is_empty() => Err("its sender ended without one"),
                Ok(_) => Err("its sender ended in the middle of it"),
                Err(_) => Err("its sender went"),
            };
            let wanted = match is_line {
                false => wanted,
                true => match get(wanted, RecvFlags::PEEK | RecvFlags::DONTWAIT)? {
                    None => return Ok(None),
                    Some(seen) => line_end(&seen).unwrap_or(seen.len()),
                },
            };
            match get(wanted, RecvFlags::DONTWAIT)? {
                None => return Ok(None),
                Some(bytes) => self.header.extend(bytes),
            }
        }
    }
}

/// How long the line is at the beginning of `data`, if it ends there.
fn line_end(data: &[u8]) -> Option<usize> {
    data.iter().position(|byte| *byte == b'\n').map(|end| end + 1)
}

/// What is missing of the header of which so much is there, and no more may be read; or why it is none.
fn missing(header: &[u8]) -> Result<Missing, &'static str> {
    let begins_with = |start: &[u8]| header.iter().zip(start).all(|(byte, expected)| byte == expected);
    let is_binary = begins_with(v2::PROTOCOL_PREFIX);
    if !is_binary && !begins_with(b"PROXY ") {
        return Err("there is none");
    }
    if !is_binary && line_end(header).is_some() {
        return parse_line(header).map(Missing::Nothing);
    }
    if header.len() < BEGINNING {
        return Ok(Missing::Bytes(BEGINNING - header.len()));
    }
    if !is_binary {
        return match LINE_MAX.checked_sub(header.len()) {
            None | Some(0) => Err("its line is too long"),
            Some(most) => Ok(Missing::Line(most)),
        };
    }
    let length = match header.get(FIXED_PART - 2..FIXED_PART) {
        Some(length) => FIXED_PART + usize::from(u16::from_be_bytes([length[0], length[1]])),
        None => FIXED_PART,
    };
    match length - header.len() {
        0 if header.len() >= FIXED_PART => parse_binary(header).map(Missing::Nothing),
        missing => Ok(Missing::Bytes(missing)),
    }
}

fn parse_line(line: &[u8]) -> Result<Header, &'static str> {
    const MALFORMED: &str = "its line is malformed";
    // What follows is to be ignored, whatever it is.
    const UNKNOWN: &[u8] = b"PROXY UNKNOWN";
    let rest = line.strip_suffix(b"\r\n").ok_or(MALFORMED)?.strip_prefix(UNKNOWN);
    if rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(b" ")) {
        return Ok(Header(None));
    }
    // `ppp` takes a sign before a port.
    let header = v1::Header::try_from(line).ok().filter(|_| !line.contains(&b'+')).ok_or(MALFORMED)?;
    let client = match header.addresses {
        v1::Addresses::Unknown => None,
        v1::Addresses::Tcp4(v4) => Some(SocketAddr::from((v4.source_address, v4.source_port))),
        v1::Addresses::Tcp6(v6) => Some(SocketAddr::from((v6.source_address, v6.source_port))),
    };
    Ok(Header(client.map(SocketAddress::Inet)))
}

fn parse_binary(whole: &[u8]) -> Result<Header, &'static str> {
    if whole[BEGINNING] == LOCAL {
        return Ok(Header(None));
    }
    let header = v2::Header::try_from(whole).map_err(|_| "its binary form is malformed")?;
    let client_address = match (header.command, header.protocol, &header.addresses) {
        (v2::Command::Proxy, v2::Protocol::Stream, v2::Addresses::IPv4(v4)) => {
            Some(SocketAddress::Inet((v4.source_address, v4.source_port).into()))
        }
        (v2::Command::Proxy, v2::Protocol::Stream, v2::Addresses::IPv6(v6)) => {
            Some(SocketAddress::Inet((v6.source_address, v6.source_port).into()))
        }
        (v2::Command::Proxy, v2::Protocol::Stream, v2::Addresses::Unix(unix)) => {
            Some(SocketAddress::Unix(unix_address(&unix.source)))
        }
        // Of a kind that a stream does not have.
        _ => None,
    };
    Ok(Header(client_address))
}

/// A name as the kernel writes it: ended by a zero byte, after a leading one if it is abstract.
fn unix_address(name: &[u8]) -> UnixAddress {
    let until_zero = |name: &[u8]| name.split(|byte| *byte == 0).next().unwrap_or_default().to_vec();
    match name {
        [0, rest @ ..] => match until_zero(rest) {
            name if name.is_empty() => UnixAddress::Unnamed,
            name => UnixAddress::Abstract(name),
        },
        path => UnixAddress::Path(OsStr::from_bytes(&until_zero(path)).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn binary(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
        [v2::PROTOCOL_PREFIX, &[0x20 | command, family], &length, rest].concat()
    }

    /// What is read of a connection on which this has come: the header, and how long it is.
    fn read(data: &[u8]) -> Result<Option<(Header, usize)>, &'static str> {
        let mut header = Vec::new();
        loop {
            let left = &data[header.len()..];
            let count = match missing(&header)? {
                Missing::Nothing(read) => return Ok(Some((read, header.len()))),
                Missing::Bytes(count) => count.min(left.len()),
                Missing::Line(most) => {
                    line_end(&left[..most.min(left.len())]).unwrap_or(most.min(left.len()))
                }
            };
            if count == 0 {
                return Ok(None);
            }
            header.extend(&left[..count]);
        }
    }

    fn carried(data: &[u8]) -> Option<String> {
        let (Header(client_address), length) = read(data).unwrap().expect("it is whole");
        assert_eq!(length, data.len());
        client_address.map(|address| address.to_string())
    }

    const V4: [u8; 12] = [192, 0, 2, 1, 10, 0, 0, 1, 0x30, 0x39, 0, 80];

    #[test]
    fn both_versions_carry_an_address() {
        assert_eq!(carried(b"PROXY TCP4 192.0.2.1 10.0.0.1 12345 80\r\n").unwrap(), "192.0.2.1:12345");
        assert_eq!(carried(b"PROXY TCP6 2001:db8::1 ::1 12345 80\r\n").unwrap(), "[2001:db8::1]:12345");
        assert_eq!(carried(b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n"), None);
        assert_eq!(carried(&binary(1, 0x11, &V4)).unwrap(), "192.0.2.1:12345");
        let v6 =
            [&[0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1][..], &[0; 16], &[0x30, 0x39, 0, 80]];
        assert_eq!(carried(&binary(1, 0x21, &v6.concat())).unwrap(), "[2001:db8::1]:12345");
        let mut unix = [0; 216];
        unix[..6].copy_from_slice(b"/run/x");
        assert_eq!(carried(&binary(1, 0x31, &unix)).unwrap(), "/run/x");
        unix[0] = 0;
        assert_eq!(carried(&binary(1, 0x31, &unix)).unwrap(), "@run/x");
    }

    #[test]
    fn a_connection_of_the_sender_itself_carries_none() {
        assert_eq!(carried(&binary(0, 0x11, &V4)), None);
        assert_eq!(carried(&binary(0, 0, &[])), None);
        assert_eq!(carried(&binary(0, 0xff, &V4[1..])), None);
        assert_eq!(carried(b"PROXY UNKNOWN 1 2 3 4 5 6 7 +\xff\r\n"), None);
        assert_eq!(carried(&binary(1, 0, &[])), None);
        assert_eq!(carried(&binary(1, 0x12, &V4)), None);
    }

    #[test]
    fn what_follows_is_left_and_what_is_missing_is_awaited() {
        for header in [
            &b"PROXY TCP4 192.0.2.1 10.0.0.1 12345 80\r\n"[..],
            &binary(1, 0x11, &[&V4[..], &[4, 0, 1, 0]].concat()),
        ] {
            let (_, length) = read(&[header, b"PROXY hello\r\n"].concat()).unwrap().unwrap();
            assert_eq!(length, header.len());
            for cut in 1..header.len() {
                assert_eq!(read(&header[..cut]), Ok(None), "{cut} bytes of {header:?}");
            }
        }
    }

    #[test]
    fn a_binary_header_may_be_as_long_as_its_length_can_say() {
        let longest = [&V4[..], &vec![0; usize::from(u16::MAX) - V4.len()]].concat();
        assert_eq!(carried(&binary(1, 0x11, &longest)).unwrap(), "192.0.2.1:12345");
    }

    #[test]
    fn what_is_no_header_is_refused() {
        for data in [
            &b"G"[..],
            b"PROXI",
            b"PROXY \n",
            b"PROXY TCP4 192.0.2.1\r\n",
            b"PROXY TCP4 192.0.2.256 10.0.0.1 12345 80\r\n",
            b"PROXY TCP4 192.0.2.1 10.0.0.1 65536 80\r\n",
            b"PROXY TCP4 192.0.2.1 10.0.0.1 12345 80\n",
            b"PROXY TCP4 192.0.2.1 10.0.0.1 12345 80 \n",
            b"PROXY TCP4 192.0.2.1 10.0.0.1 +12345 80\r\n",
            b"PROXY TCP4 \xff\r\n",
            b"PROXY UNKNOWNS\r\n",
            b"PROXY UNKNOWN \n",
            &[b"PROXY UNKNOWN ", &[b' '; 100][..]].concat(),
            b"\r\n\r\n\0\r\nQUIC",
            &binary(2, 0x11, &V4),
            &binary(1, 0x41, &V4),
            &binary(1, 0x13, &V4),
            &binary(1, 0x11, &V4[1..]),
            &binary(1, 0x31, &V4),
        ] {
            assert!(read(data).is_err(), "{data:?}");
        }
    }
}
