//! What a client has sent, as lines.

use plugsock_sdk::{HandlerError, Result};

/// No line is longer.
const LONGEST: usize = 1000;

/// What has come and is no whole line yet.
#[derive(Default)]
pub struct Lines(Vec<u8>);

impl Lines {
    pub fn push(&mut self, data: &[u8]) -> Result {
        self.0.extend_from_slice(data);
        let last = self.0.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        match self.0.len() - last > LONGEST {
            true => Err(HandlerError::new("the client's line is too long")),
            false => Ok(()),
        }
    }

    /// The next line; the last one need not be whole.
    pub fn next(&mut self, is_over: bool) -> Option<String> {
        let end = match self.0.iter().position(|byte| *byte == b'\n') {
            Some(end) => end + 1,
            None if is_over && !self.0.is_empty() => self.0.len(),
            None => return None,
        };
        let line: Vec<u8> = self.0.drain(..end).collect();
        let line = String::from_utf8_lossy(&line);
        // What others say is not to control anybody's terminal.
        Some(line.trim_end().chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect())
    }
}
