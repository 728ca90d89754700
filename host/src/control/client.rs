//! The connecting end: finds a server, and asks it.

use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::Deserialize;

use super::lines::{Lines, NoLine};
use super::protocol::{Answer, Command, Refusal, line};
use super::status::{ServerState, Status};
use super::{ControlError, directory};
use crate::events::Event;

/// The longest answer that is read.
const ANSWER_MAX: usize = 16 << 20;

/// How long a server that only has to look something up may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// A connection to a control socket.
#[derive(Debug)]
pub struct ControlClient {
    path: PathBuf,
    stream: UnixStream,
    answers: Lines,
}

impl ControlClient {
    /// Connects to a control socket.
    pub fn connect(path: &Path) -> Result<Self, ControlError> {
        let connect = || {
            let stream = UnixStream::connect(path)?;
            stream.set_write_timeout(Some(PATIENCE))?;
            let answers = Lines::new(stream.try_clone()?, ANSWER_MAX);
            Ok(Self { path: path.to_owned(), stream, answers })
        };
        connect().map_err(|error: io::Error| {
            let path = path.display();
            let reason = match error.kind() {
                io::ErrorKind::NotFound => {
                    format!("there is no control socket {path}: name one that there is with --control")
                }
                io::ErrorKind::ConnectionRefused => {
                    format!("the server of {path} has ended: name one that runs with --control")
                }
                io::ErrorKind::PermissionDenied => {
                    format!("{path} is for its user and root alone: ask as one of them")
                }
                _ => format!("cannot connect to {path}: {error}"),
            };
            ControlError::NoServer(reason)
        })
    }

    /// Where it is connected to.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Sends a command and waits for its answer; one that refuses is an error. A swap may take as long as it
    /// takes to compile.
    pub fn ask(&mut self, command: &Command) -> Result<Answer, ControlError> {
        let is_quick = !matches!(command, Command::Swap { .. });
        let deadline = is_quick.then(|| Instant::now() + PATIENCE);
        let request = line(command).map_err(|error| self.lost(format!("cannot be asked that: {error}")))?;
        // Whoever is turned away finds the reason in the answer, even if nobody reads the request.
        let sent = self.stream.write_all(&request);
        let answer = match (self.answers.next(deadline), sent) {
            (Ok(line), _) => line,
            (Err(NoLine::TimedOut), _) => return Err(self.lost(format!("did not answer for {PATIENCE:?}"))),
            (Err(NoLine::Broken(error)), _) | (Err(_), Err(error)) => {
                return Err(self.lost(format!("broke off: {error}")));
            }
            (Err(_), Ok(())) => return Err(self.lost("ended before it answered")),
        };
        match serde_json::from_slice(&answer) {
            Ok(Answer::Error(refusal)) => Err(ControlError::Refused(refusal)),
            Ok(answer) => Ok(answer),
            Err(error) => Err(self.lost(format!("answers in another language: {error}"))),
        }
    }

    /// Follows what happens, until the server ends.
    pub fn events(mut self) -> Result<Events, ControlError> {
        let request =
            line(&Command::Events {}).map_err(|error| self.lost(format!("cannot be asked that: {error}")))?;
        // As above.
        let _ = self.stream.write_all(&request);
        Ok(Events(self))
    }

    fn lost(&self, reason: impl Into<String>) -> ControlError {
        ControlError::Lost { path: self.path.display().to_string(), reason: reason.into() }
    }
}

/// What happens at a server, as it happens. The first that comes is [`EventKind::Following`](super::EventKind::Following).
#[derive(Debug)]
pub struct Events(ControlClient);

impl Iterator for Events {
    type Item = Result<Event, ControlError>;

    /// `None` when the server has ended.
    fn next(&mut self) -> Option<Self::Item> {
        /// An event, or why there will be none.
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Told {
            Refused { error: Refusal },
            Event(Event),
        }
        let line = match self.0.answers.next(None) {
            Ok(line) => line,
            Err(NoLine::End) => return None,
            Err(NoLine::Broken(error)) => return Some(Err(self.0.lost(format!("broke off: {error}")))),
            Err(_) => return Some(Err(self.0.lost("broke off in the middle of an event"))),
        };
        Some(match serde_json::from_slice(&line) {
            Ok(Told::Event(event)) => Ok(event),
            Ok(Told::Refused { error }) => Err(ControlError::Refused(error)),
            Err(error) => Err(self.0.lost(format!("answers in another language: {error}"))),
        })
    }
}

/// Where the control socket of a process is, or of the only server that this user runs or systemd runs for it.
pub fn find_control_socket(pid: Option<u32>) -> Result<PathBuf, ControlError> {
    match pid {
        Some(pid) => of_process(pid),
        None => the_only_one(),
    }
}

fn of_process(pid: u32) -> Result<PathBuf, ControlError> {
    let process = std::fs::metadata(format!("/proc/{pid}")).map_err(|_| {
        ControlError::NoServer(format!("there is no process {pid}: name one that serves with --control"))
    })?;
    let places = directory::of_user(process.uid());
    let mut sockets = places.iter().map(|place| directory::socket_in(place, pid));
    sockets.find(|socket| socket.exists()).ok_or_else(|| {
        ControlError::NoServer(format!(
            "process {pid} has no control socket where they are by default: give the path of the one that it has, with --control"
        ))
    })
}

fn the_only_one() -> Result<PathBuf, ControlError> {
    directory::remove_stale();
    let mut sockets = directory::own_sockets();
    let is_mine = |socket: &PathBuf| UnixStream::connect(socket).is_ok();
    sockets.extend(directory::sockets_in(&directory::of_service()).into_iter().filter(is_mine));
    if sockets.len() == 1 {
        return Ok(sockets.remove(0));
    }
    let mut serving: Vec<_> =
        sockets.into_iter().filter_map(|socket| Some((socket.clone(), describe(&socket)?))).collect();
    match serving.len() {
        0 => Err(ControlError::NoServer(format!(
            "none runs whose control socket is in {} or {}; is it another user's, or was it started with --control or \
             --no-control? Name it with --control",
            directory::own().display(),
            directory::of_service().display()
        ))),
        1 => Ok(serving.remove(0).0),
        _ => Err(ControlError::SeveralServers(serving)),
    }
}

/// What a server serves, in a few words; `None` if it only ends what it has begun.
fn describe(socket: &Path) -> Option<String> {
    let asked = ControlClient::connect(socket).and_then(|mut client| client.ask(&Command::Status {}));
    match asked {
        Ok(Answer::Status(Status { servers, .. })) => {
            let is_serving = servers.iter().any(|server| server.state != ServerState::Closed);
            let addresses: Vec<_> = servers.into_iter().map(|server| server.address).collect();
            is_serving.then(|| addresses.join(" "))
        }
        Ok(_) => Some("it answers something else".to_owned()),
        Err(error) => Some(error.to_string()),
    }
}
