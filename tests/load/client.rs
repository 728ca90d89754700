//! One client, which asks again and again.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream, UdpSocket};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{self, UnixDatagram, UnixStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::{io, time};

use crate::count::{Count, Failure};
use crate::http;

pub enum Address {
    Tcp(SocketAddr),
    Udp(SocketAddr),
    Unix(PathBuf),
    Unixgram(PathBuf),
    Http(SocketAddr),
}

/// How long a connection lasts.
#[derive(Clone, Copy)]
pub enum Duration {
    /// A few lines.
    Line,
    /// Many lines.
    Lines,
    /// To the end.
    Stay,
}

/// An answer that takes longer never comes.
const PATIENCE: time::Duration = time::Duration::from_secs(30);

/// What a client of a lasting connection does between two lines is not to fill the machine.
const THINKING: time::Duration = time::Duration::from_millis(1);

const FEW: u64 = 3;
pub const MANY: u64 = 50;

impl Address {
    /// Reads what a host says that it serves.
    pub fn parse(text: &str) -> Option<Self> {
        let (scheme, rest) = text.split_once("://")?;
        Some(match scheme {
            "tcp" => Self::Tcp(rest.parse().ok()?),
            "udp" => Self::Udp(rest.parse().ok()?),
            "unix" => Self::Unix(rest.into()),
            "unixgram" => Self::Unixgram(rest.into()),
            "http" => Self::Http(rest.parse().ok()?),
            _ => return None,
        })
    }

    pub fn is_datagram(&self) -> bool {
        matches!(self, Self::Udp(_) | Self::Unixgram(_))
    }
}

/// Asks until it is over.
pub fn run(address: &Address, duration: Duration, count: &Count) {
    // The version that answered last.
    let mut last = String::new();
    while !count.is_over.load(Ordering::SeqCst) {
        let served = match address {
            Address::Tcp(address) => connect(address)
                .and_then(|stream| talk(&stream, || stream.shutdown(Shutdown::Write), duration, count)),
            Address::Unix(path) => UnixStream::connect(path).map_err(Failure::from).and_then(|stream| {
                stream.set_read_timeout(Some(PATIENCE))?;
                talk(&stream, || stream.shutdown(Shutdown::Write), duration, count)
            }),
            Address::Udp(_) | Address::Unixgram(_) => exchange_datagrams(address, count),
            Address::Http(address) => {
                connect(address).and_then(|stream| http::talk(&stream, duration, &mut last, count))
            }
        };
        if let Err(failure) = served {
            count.request(Err(failure));
            // One that is refused again and again would fill the log.
            std::thread::sleep(THINKING);
        }
    }
}

fn connect(address: &SocketAddr) -> Result<TcpStream, Failure> {
    let stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// One connection, which one version has to answer.
fn talk<'a, S>(
    stream: &'a S,
    half_close: impl FnOnce() -> io::Result<()>,
    duration: Duration,
    count: &Count,
) -> Result<(), Failure>
where
    &'a S: Read + Write,
{
    let mut reader = BufReader::new(stream);
    let mut version: Option<String> = None;
    let mut number = 0;
    loop {
        let line = unique_line();
        { stream }.write_all(line.as_bytes())?;
        let mut answer = String::new();
        reader.read_line(&mut answer)?;
        let answered_by = check(&answer, &line)?.to_owned();
        count.line();
        match &version {
            Some(first) if *first != answered_by => {
                return Err(Failure::Mixed(format!(
                    "{first} and then {answered_by} answered one connection"
                )));
            }
            _ => version = Some(answered_by),
        }
        number += 1;
        let is_over = match duration {
            Duration::Line => number == FEW,
            Duration::Lines => number == MANY,
            Duration::Stay => count.is_over.load(Ordering::SeqCst),
        };
        if is_over {
            break;
        }
        if !matches!(duration, Duration::Line) {
            std::thread::sleep(THINKING);
        }
    }
    half_close()?;
    nothing_is_left(reader)?;
    count.request(Ok(version.expect("a line was answered")));
    Ok(())
}

pub fn nothing_is_left(mut reader: impl Read) -> Result<(), Failure> {
    let mut rest = String::new();
    reader.read_to_string(&mut rest)?;
    match rest.is_empty() {
        true => Ok(()),
        false => Err(Failure::Failed(format!("{rest:?} was left over"))),
    }
}

/// Datagrams through one socket, one after the other until it is over. An answer too many shows at the next.
fn exchange_datagrams(address: &Address, count: &Count) -> Result<(), Failure> {
    enum Socket {
        Udp(UdpSocket),
        Unix(UnixDatagram),
    }
    let socket = match address {
        Address::Udp(address) => {
            let socket = UdpSocket::bind("127.0.0.1:0")?;
            socket.connect(address)?;
            socket.set_read_timeout(Some(PATIENCE))?;
            Socket::Udp(socket)
        }
        Address::Unixgram(path) => {
            let name = format!("load-{}-{}", std::process::id(), unique_line().trim_end());
            let socket = UnixDatagram::bind_addr(&net::SocketAddr::from_abstract_name(name)?)?;
            socket.connect(path)?;
            socket.set_read_timeout(Some(PATIENCE))?;
            Socket::Unix(socket)
        }
        Address::Tcp(_) | Address::Unix(_) | Address::Http(_) => unreachable!("they are streams"),
    };
    while !count.is_over.load(Ordering::SeqCst) {
        let line = unique_line();
        let mut buffer = [0; 256];
        let length = match &socket {
            Socket::Udp(socket) => socket.send(line.as_bytes()).and_then(|_| socket.recv(&mut buffer)),
            Socket::Unix(socket) => socket.send(line.as_bytes()).and_then(|_| socket.recv(&mut buffer)),
        };
        let answer = String::from_utf8_lossy(&buffer[..length?]).into_owned();
        count.line();
        count.request(Ok(check(&answer, &line)?.to_owned()));
    }
    Ok(())
}

/// The version that answered this line.
pub fn check<'a>(answer: &'a str, line: &str) -> Result<&'a str, Failure> {
    match answer.split_once(' ') {
        Some((version, answered)) if answered == line => Ok(version),
        _ => Err(Failure::Failed(format!("{line:?} was answered with {answer:?}"))),
    }
}

/// So that no other answer passes for the one to it.
pub fn unique_line() -> String {
    static LAST: AtomicU64 = AtomicU64::new(0);
    format!("{}\n", LAST.fetch_add(1, Ordering::Relaxed) + 1)
}
