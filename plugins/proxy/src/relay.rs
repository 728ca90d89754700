//! Bytes from one stream to another, and two of these at once.

use plugsock_sdk::wasi::io::error::Error;
use plugsock_sdk::wasi::io::poll::{Pollable, poll};
use plugsock_sdk::wasi::io::streams::{InputStream, OutputStream, StreamError};
use plugsock_sdk::{HandlerError, Result};

/// The most that is read before it is written: what one slow side may make the other wait with.
const CHUNK: u64 = 64 * 1024;

/// One direction.
pub struct Relay<'a> {
    from: &'a InputStream,
    to: &'a OutputStream,
    /// Read, and not written yet.
    chunk: Vec<u8>,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    /// The source has ended, and the last bytes are on their way.
    Draining,
    Ended,
}

impl<'a> Relay<'a> {
    pub fn new(from: &'a InputStream, to: &'a OutputStream) -> Self {
        Self { from, to, chunk: Vec::new(), state: State::Open }
    }

    /// What it waits for; nothing once it has ended.
    fn subscribe(&self) -> Option<Pollable> {
        match self.state {
            State::Ended => None,
            State::Open if self.chunk.is_empty() => Some(self.from.subscribe()),
            State::Open | State::Draining => Some(self.to.subscribe()),
        }
    }

    /// Moves what can be moved without waiting; whether that was the last.
    fn step(&mut self) -> Result<bool> {
        self.try_step().map_err(in_words)
    }

    fn try_step(&mut self) -> Result<bool, StreamError> {
        if self.state == State::Open && self.chunk.is_empty() {
            match self.from.read(CHUNK) {
                Ok(data) => self.chunk = data,
                Err(StreamError::Closed) => {
                    self.to.flush()?;
                    self.state = State::Draining;
                }
                Err(error) => return Err(error),
            }
        }
        let room = match self.state {
            State::Open if self.chunk.is_empty() => return Ok(false),
            State::Ended => return Ok(false),
            State::Open | State::Draining => self.to.check_write()?,
        };
        if self.state == State::Draining && room > 0 {
            self.state = State::Ended;
            return Ok(true);
        }
        let length = self.chunk.len().min(room as usize);
        if length > 0 {
            self.to.write(&self.chunk[..length])?;
            self.chunk.drain(..length);
        }
        Ok(false)
    }
}

/// Moves bytes both ways, and tells each side by its `end` when the other has ended.
pub fn run(
    there: (&mut Relay<'_>, impl Fn() -> Result),
    back: (&mut Relay<'_>, impl Fn() -> Result),
) -> Result {
    loop {
        let waits: Vec<Pollable> = [there.0.subscribe(), back.0.subscribe()].into_iter().flatten().collect();
        if waits.is_empty() {
            return Ok(());
        }
        poll(&waits.iter().collect::<Vec<_>>());
        drop(waits);
        if there.0.step()? {
            there.1()?;
        }
        if back.0.step()? {
            back.1()?;
        }
    }
}

/// A stream's failure, without what the host adds for whoever looks for faults.
pub fn in_words(error: StreamError) -> HandlerError {
    match error {
        StreamError::LastOperationFailed(error) => HandlerError::new(first_line(&error)),
        StreamError::Closed => HandlerError::new("the connection is closed"),
    }
}

/// What an error says of itself.
pub fn first_line(error: &Error) -> String {
    error.to_debug_string().lines().next().unwrap_or_default().to_owned()
}
