//! Lines of a bounded length, within a bounded time.

use std::io::{self, Read};
use std::os::unix::net::UnixStream;
use std::time::Instant;

/// Reads lines from one end of a connection.
#[derive(Debug)]
pub(super) struct Lines {
    stream: UnixStream,
    /// What came after the last line.
    buffer: Vec<u8>,
    max: usize,
}

/// Why there is no line.
#[derive(Debug)]
pub(super) enum NoLine {
    /// The other end has said all, and the last line was whole.
    End,
    /// It ended in the middle of a line.
    Unfinished,
    TooLong,
    TimedOut,
    Broken(io::Error),
}

impl Lines {
    /// Of lines with up to `max` bytes.
    pub(super) fn new(stream: UnixStream, max: usize) -> Self {
        Self { stream, buffer: Vec::new(), max }
    }

    /// The next line without its line feed, if all of it comes before the deadline.
    pub(super) fn next(&mut self, deadline: Option<Instant>) -> Result<Vec<u8>, NoLine> {
        let mut searched = 0;
        loop {
            let end = self.buffer[searched..].iter().position(|byte| *byte == b'\n');
            if let Some(end) = end.map(|end| searched + end).filter(|end| *end <= self.max) {
                let rest = self.buffer.split_off(end + 1);
                let mut line = std::mem::replace(&mut self.buffer, rest);
                line.pop();
                return Ok(line);
            }
            searched = self.buffer.len();
            if searched > self.max {
                return Err(NoLine::TooLong);
            }
            let mut chunk = [0; 4096];
            match self.read(&mut chunk, deadline)? {
                0 if self.buffer.is_empty() => return Err(NoLine::End),
                0 => return Err(NoLine::Unfinished),
                length => self.buffer.extend_from_slice(&chunk[..length]),
            }
        }
    }

    fn read(&mut self, chunk: &mut [u8], deadline: Option<Instant>) -> Result<usize, NoLine> {
        loop {
            let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return Err(NoLine::TimedOut);
            }
            self.stream.set_read_timeout(left).map_err(NoLine::Broken)?;
            match self.stream.read(chunk) {
                Ok(length) => return Ok(length),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // The loop finds out whether it is the deadline's.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(NoLine::Broken(error)),
            }
        }
    }
}
