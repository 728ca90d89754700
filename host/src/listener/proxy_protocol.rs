//! The PROXY protocol, by which a load balancer says whose connection it passes on: the header at the beginning
//! of a connection, of version 1 (a line) or 2 (binary).
//!
//! A connection whose header is not there yet waits in an `epoll` set and keeps nobody else waiting.

use std::collections::{HashMap, VecDeque};
use std::ffi::OsStr;
use std::io;
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ppp::{v1, v2};
use rustix::event::{Timespec, epoll};
use rustix::net::{RecvFlags, recv};

use super::Incoming;
use crate::address::{SocketAddress, UnixAddress};
use crate::clients::Proxies;
use crate::request::Request;

/// How long a sender may take for its header, as the protocol advises: enough for a lost packet to be sent again.
const HEADER_TIME: Duration = Duration::from_secs(5);

/// A header with more than this is refused; a kernel's receive buffer holds it in any case.
const HEADER_MAX: usize = 4096;

/// A line of version 1 is no longer.
const LINE_MAX: usize = 107;

/// What comes before the length in version 2, and the length.
const FIXED_PART: usize = 16;

/// Version 2 for a connection of the sender's own, as for a health check: what else it says is to be ignored.
const LOCAL: u8 = 0x20;

/// How many connections may wait for their headers; the oldest goes when there are more.
const AWAITED_MAX: usize = 256;

/// The listening socket's own mark in the `epoll` set. Requests are numbered from 1.
const LISTENER: u64 = 0;

/// Takes the headers off connections that must begin with one.
#[derive(Debug)]
pub(super) struct ProxyHeaders {
    proxies: Proxies,
    /// Holds the listening socket and the connections that are awaited.
    epoll: Arc<OwnedFd>,
    awaited: Mutex<Awaited>,
}

/// The connections whose headers have not come, and what became of others.
#[derive(Debug)]
struct Awaited {
    epoll: Arc<OwnedFd>,
    connections: HashMap<u64, Request>,
    /// Of the same, oldest first; some are not awaited any more.
    deadlines: VecDeque<(Instant, u64)>,
    arrived: VecDeque<Incoming>,
}

/// What a header says.
#[derive(Debug, PartialEq)]
struct Header {
    length: usize,
    /// `None` if the connection is the sender's own or its client is not known.
    client_address: Option<SocketAddress>,
}

impl ProxyHeaders {
    pub(super) fn new(proxies: Proxies, listener: BorrowedFd<'_>) -> io::Result<Self> {
        let epoll = Arc::new(epoll::create(epoll::CreateFlags::CLOEXEC)?);
        epoll::add(&epoll, listener, epoll::EventData::new_u64(LISTENER), epoll::EventFlags::IN)?;
        let awaited = Awaited {
            epoll: epoll.clone(),
            connections: HashMap::new(),
            deadlines: VecDeque::new(),
            arrived: VecDeque::new(),
        };
        Ok(Self { proxies, epoll, awaited: Mutex::new(awaited) })
    }

    /// Readable when there may be something new.
    pub(super) fn ready_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }

    /// When a connection's time for its header will be over.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.awaited().deadlines.front().map(|(at, _)| *at)
    }

    /// A connection that has its header or needs none, or one that is refused for it; never blocks.
    pub(super) fn get_request(
        &self,
        mut accept: impl FnMut() -> io::Result<Request>,
    ) -> io::Result<Incoming> {
        let mut awaited = self.awaited();
        loop {
            if let Some(incoming) = awaited.next()? {
                return Ok(incoming);
            }
            let request = accept()?;
            if !self.proxies.contains(request.client_address()) {
                return Ok(Incoming::Request(request));
            }
            awaited.expect(request)?;
        }
    }

    /// The connections that were not handed out: those that have their headers, and those that have not.
    pub(super) fn give_up(&self) -> (Vec<Request>, Vec<Request>) {
        let mut awaited = self.awaited();
        let arrived =
            std::mem::take(&mut awaited.arrived).into_iter().filter_map(|incoming| match incoming {
                Incoming::Request(request) => Some(request),
                _ => None,
            });
        (arrived.collect(), awaited.connections.drain().map(|(_, request)| request).collect())
    }

    fn awaited(&self) -> MutexGuard<'_, Awaited> {
        self.awaited.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Awaited {
    /// Takes a new connection, which must begin with a header.
    fn expect(&mut self, request: Request) -> io::Result<()> {
        if let Some(request) = self.advance(request) {
            if self.connections.len() >= AWAITED_MAX
                && let Some(oldest) = std::iter::from_fn(|| self.deadlines.pop_front())
                    .find_map(|(_, id)| self.connections.remove(&id))
            {
                self.refuse(oldest, "others came before it was there");
            }
            let id = request.id();
            let flags = epoll::EventFlags::IN | epoll::EventFlags::RDHUP | epoll::EventFlags::ET;
            if let Some(socket) = request.stream_socket() {
                epoll::add(&self.epoll, socket, epoll::EventData::new_u64(id), flags)?;
            }
            self.deadlines.push_back((Instant::now() + HEADER_TIME, id));
            self.connections.insert(id, request);
        }
        Ok(())
    }

    /// A connection whose header has come, or one that is refused for it; never blocks.
    fn next(&mut self) -> io::Result<Option<Incoming>> {
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
            let Some(request) = self.connections.remove(&event.data.u64()) else { continue };
            let (id, flags) = (request.id(), event.flags);
            match self.advance(request) {
                Some(request) if flags.contains(epoll::EventFlags::RDHUP) => {
                    self.refuse(request, "its sender ended in the middle of it");
                }
                // It stays in the set, and keeps its deadline.
                Some(request) => drop(self.connections.insert(id, request)),
                None => {}
            }
        }
        Ok(())
    }

    fn expire(&mut self) {
        let now = Instant::now();
        while self.deadlines.front().is_some_and(|(at, id)| *at <= now || !self.connections.contains_key(id))
        {
            let late = self.deadlines.pop_front().and_then(|(_, id)| self.connections.remove(&id));
            if let Some(request) = late.and_then(|request| self.advance(request)) {
                self.refuse(request, "it did not come in time");
            }
        }
    }

    /// Looks at what has come of a connection's header; the connection, if that is not all of it.
    fn advance(&mut self, mut request: Request) -> Option<Request> {
        match take_header(&request) {
            Ok(None) => return Some(request),
            Ok(Some(header)) => {
                if let Some(socket) = request.stream_socket() {
                    // Not in the set if it was complete from the start.
                    let _ = epoll::delete(&self.epoll, socket);
                }
                if let Some(client_address) = header.client_address {
                    request.pass_on_for(client_address);
                }
                self.arrived.push_back(Incoming::Request(request));
            }
            Err(reason) => self.refuse(request, reason),
        }
        None
    }

    /// Closing it takes it out of the set.
    fn refuse(&mut self, request: Request, reason: &'static str) {
        self.arrived.push_back(Incoming::BadProxyHeader { request, reason });
    }
}

/// Takes the header off the beginning of a connection, and nothing after it; `None` if it is not all there.
fn take_header(request: &Request) -> Result<Option<Header>, &'static str> {
    let Some(socket) = request.stream_socket() else { return Ok(None) };
    let mut buffer = [MaybeUninit::uninit(); HEADER_MAX];
    let ((seen, _), _) = match recv(socket, &mut buffer, RecvFlags::PEEK | RecvFlags::DONTWAIT) {
        Err(rustix::io::Errno::AGAIN) => return Ok(None),
        received => received.map_err(|_| "its sender went")?,
    };
    if seen.is_empty() {
        return Err("its sender ended without one");
    }
    let Some(header) = parse(seen)? else { return Ok(None) };
    let taken = recv(socket, &mut buffer[..header.length], RecvFlags::DONTWAIT);
    match taken {
        Ok(((taken, _), _)) if taken.len() == header.length => Ok(Some(header)),
        _ => Err("it cannot be read whole"),
    }
}

/// The header at the beginning of `data`; `None` if more has to come.
fn parse(data: &[u8]) -> Result<Option<Header>, &'static str> {
    let (line_start, binary_start) = (b"PROXY ", v2::PROTOCOL_PREFIX);
    let begins_with = |start: &[u8]| data.iter().zip(start).all(|(byte, expected)| byte == expected);
    if begins_with(binary_start) {
        return parse_binary(data);
    }
    if !begins_with(line_start) {
        return Err("there is none");
    }
    match data.iter().take(LINE_MAX).position(|byte| *byte == b'\n') {
        Some(end) => parse_line(&data[..=end]).map(Some),
        None if data.len() < LINE_MAX => Ok(None),
        None => Err("its line is too long"),
    }
}

fn parse_line(line: &[u8]) -> Result<Header, &'static str> {
    const MALFORMED: &str = "its line is malformed";
    // What follows is to be ignored, whatever it is.
    const UNKNOWN: &[u8] = b"PROXY UNKNOWN";
    let length = line.len();
    let rest = line.strip_suffix(b"\r\n").ok_or(MALFORMED)?.strip_prefix(UNKNOWN);
    if rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(b" ")) {
        return Ok(Header { length, client_address: None });
    }
    // `ppp` takes a sign before a port.
    let header = v1::Header::try_from(line).ok().filter(|_| !line.contains(&b'+')).ok_or(MALFORMED)?;
    let client = match header.addresses {
        v1::Addresses::Unknown => None,
        v1::Addresses::Tcp4(v4) => Some(SocketAddr::from((v4.source_address, v4.source_port))),
        v1::Addresses::Tcp6(v6) => Some(SocketAddr::from((v6.source_address, v6.source_port))),
    };
    Ok(Header { length, client_address: client.map(SocketAddress::Inet) })
}

fn parse_binary(data: &[u8]) -> Result<Option<Header>, &'static str> {
    let Some(fixed) = data.get(..FIXED_PART) else { return Ok(None) };
    let length = FIXED_PART + usize::from(u16::from_be_bytes([fixed[14], fixed[15]]));
    if length > HEADER_MAX {
        return Err("it is too long");
    }
    let Some(whole) = data.get(..length) else { return Ok(None) };
    if fixed[12] == LOCAL {
        return Ok(Some(Header { length, client_address: None }));
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
    Ok(Some(Header { length, client_address }))
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

    fn carried(data: &[u8]) -> Option<String> {
        let header = parse(data).unwrap().expect("it is whole");
        assert_eq!(header.length, data.len());
        header.client_address.map(|address| address.to_string())
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
            assert_eq!(parse(&[header, b"PROXY hello\r\n"].concat()).unwrap().unwrap().length, header.len());
            for cut in 1..header.len() {
                assert_eq!(parse(&header[..cut]), Ok(None), "{cut} bytes of {header:?}");
            }
        }
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
            &binary(1, 0x11, &[0; HEADER_MAX])[..20],
        ] {
            assert!(parse(data).is_err(), "{data:?}");
        }
    }
}
