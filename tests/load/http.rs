//! A client that speaks HTTP.

use std::io::{BufRead, BufReader, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::Ordering;

use crate::client::{Duration, MANY, check, nothing_is_left, unique_line};
use crate::count::{Count, Failure};

/// Requests by one connection, each of which is counted. `last` is the version that answered the client last.
pub fn talk(
    mut stream: &TcpStream,
    duration: Duration,
    last: &mut String,
    count: &Count,
) -> Result<(), Failure> {
    let mut reader = BufReader::new(stream);
    let connection = if matches!(duration, Duration::Line) { "close" } else { "keep-alive" };
    for number in 1.. {
        let target = format!("/{}", unique_line());
        let head =
            format!("GET {} HTTP/1.1\r\nHost: load\r\nConnection: {connection}\r\n\r\n", target.trim_end());
        stream.write_all(head.as_bytes())?;
        let answer = Answer::read(&mut reader)?;
        let version = check(&answer.body, &target)?;
        if version < &**last {
            return Err(Failure::Mixed(format!("{version} answered after {last}")));
        }
        version.clone_into(last);
        count.request(Ok(version.to_owned()));
        let is_over = match duration {
            Duration::Line => true,
            Duration::Lines => number == MANY,
            Duration::Stay => false,
        };
        if is_over || answer.is_last || count.is_over.load(Ordering::SeqCst) {
            break;
        }
    }
    // A server that has closed has nothing to be told.
    let _ = stream.shutdown(Shutdown::Write);
    nothing_is_left(reader)
}

struct Answer {
    body: String,
    /// No other comes by the connection.
    is_last: bool,
}

impl Answer {
    fn read(reader: &mut impl BufRead) -> Result<Self, Failure> {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if reader.read_line(&mut head)? == 0 {
                return Err(Failure::Failed(format!("the answer ended after {head:?}")));
            }
        }
        let head = head.to_lowercase();
        let header = |name| head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        let length = header("content-length").and_then(|length| length.parse().ok());
        let Some(length) = length.filter(|_| head.starts_with("http/1.1 200 ")) else {
            return Err(Failure::Failed(format!("the answer was {head:?}")));
        };
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        let is_last = header("connection") == Some("close");
        Ok(Self { body: String::from_utf8_lossy(&body).into_owned(), is_last })
    }
}
