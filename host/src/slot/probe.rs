//! Tries a handler out with one request, in memory, before it serves.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crate::error::RequestError;
use crate::sandbox::Handler;
use crate::server_info::ServerInfo;

/// A request that a handler must serve before clients get it.
#[derive(Clone, Debug, Default)]
pub struct Probe {
    /// What the client of the probe sends.
    pub input: Vec<u8>,
    /// What the handler must answer; `None` if it need only not fail.
    pub expected: Option<Vec<u8>>,
    /// The status that an HTTP handler must answer with.
    pub expected_status: Option<u16>,
}

/// How long a probe may take, if a request may take longer.
const TIME: Duration = Duration::from_secs(10);

/// The most of an answer that is looked at.
const ANSWER_MAX: u64 = 16 << 20;

impl Probe {
    /// Why the handler does not pass, in words.
    pub(super) fn run(&self, handler: &Handler, server: &Arc<ServerInfo>) -> Result<(), String> {
        let (answer, served) = if server.server_type.is_datagram() {
            let (replies, served) = handler.call_datagram_as(server, self.input.clone(), TIME);
            (replies.concat(), served)
        } else {
            self.call_stream(handler, server).map_err(|error| format!("cannot be made: {error}"))?
        };
        let status = self.expected_status.map(|expected| (expected, status_of(&answer)));
        match status {
            // A handler that answers so has not failed where that is what it must do.
            Some((expected, Some(status))) if status == expected => {}
            Some((expected, Some(status))) => {
                return Err(format!("was answered with status {status}, not {expected} as expected"));
            }
            Some((expected, None)) => {
                return Err(format!(
                    "was answered with {}, which has no status, not {expected}",
                    excerpt(&answer)
                ));
            }
            None => served.map_err(|error| format!("failed: {error}"))?,
        }
        match &self.expected {
            Some(expected) if *expected != answer => Err(format!(
                "was answered with {}, not with {} as expected",
                excerpt(&answer),
                excerpt(expected)
            )),
            _ => Ok(()),
        }
    }

    fn call_stream(
        &self,
        handler: &Handler,
        server: &Arc<ServerInfo>,
    ) -> io::Result<(Vec<u8>, Result<(), RequestError>)> {
        let (client, connection) = UnixStream::pair()?;
        let mut answer = Vec::new();
        let served = thread::scope(|scope| {
            scope.spawn(|| {
                // A handler need not read it all, and it sees the end of it only if it does.
                let _ = (&client).write_all(&self.input);
                let _ = client.shutdown(Shutdown::Write);
            });
            scope.spawn(|| {
                let _ = (&client).take(ANSWER_MAX).read_to_end(&mut answer);
                let _ = client.shutdown(Shutdown::Both);
            });
            handler.call_as(server, connection.into(), TIME)
        });
        Ok((answer, served))
    }
}

/// The status of an answer of HTTP/1.
fn status_of(answer: &[u8]) -> Option<u16> {
    let mut headers = [httparse::EMPTY_HEADER; 100];
    let mut response = httparse::Response::new(&mut headers);
    response.parse(answer).ok()?;
    response.code
}

/// The beginning of some bytes, on one line.
fn excerpt(bytes: &[u8]) -> String {
    const LENGTH: usize = 60;
    let text = bytes[..bytes.len().min(LENGTH)].escape_ascii();
    let more = if bytes.len() > LENGTH {
        format!(" and {} bytes more", bytes.len() - LENGTH)
    } else {
        String::new()
    };
    format!("\"{text}\"{more}")
}
