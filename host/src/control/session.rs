//! One client of the control socket: its requests one after the other, each with its answer.

use std::convert::Infallible;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use crossbeam::channel::Sender;
use serde::Serialize;
use socket2::SockRef;

use super::Controlled;
use super::execute::execute;
use super::follow::follow;
use super::lines::{Lines, NoLine};
use super::protocol::{Answer, Command, REQUEST_MAX, Refusal, RefusalKind, line, parse_request};
use crate::listener::peer_credentials;
use crate::request::UnixCredentials;
use crate::wake::Wake;

/// How long a client may take for a whole request.
const REQUEST_TIME: Duration = Duration::from_secs(30);

/// How long a client may take to receive an answer.
const ANSWER_TIME: Duration = Duration::from_secs(10);

/// What every client's thread needs of the server.
#[derive(Clone)]
pub(super) struct Session {
    pub(super) host: Arc<dyn Controlled>,
    pub(super) since: Instant,
    /// Readable when the server ends.
    pub(super) closing: Arc<Wake>,
    /// Held by those whom the server waits for before it ends: who follow events, and who have come and are not answered.
    pub(super) untold: Weak<Sender<Infallible>>,
}

/// Converses until the client goes, or does what it may not. `untold` is let go of with the first answer.
pub(super) fn converse(stream: &UnixStream, session: &Session, mut untold: Option<Arc<Sender<Infallible>>>) {
    let host = &*session.host;
    let peer = match check_peer(stream) {
        Ok(peer) => peer,
        Err(refusal) => {
            tracing::warn!("a client of the control socket was turned away: {refusal}");
            return refuse(stream, refusal);
        }
    };
    let Ok(incoming) = stream.try_clone() else { return };
    let mut lines = Lines::new(incoming, REQUEST_MAX);
    loop {
        let command = match lines.next(Some(Instant::now() + REQUEST_TIME)) {
            Ok(line) => parse_request(&line).inspect(|command| note(command, &peer)),
            Err(NoLine::End | NoLine::Broken(_)) => return,
            Err(NoLine::Unfinished) => return refuse(stream, malformed("it does not end with a line feed")),
            Err(NoLine::TooLong) => {
                return refuse(stream, malformed(&format!("it is longer than {REQUEST_MAX} bytes")));
            }
            Err(NoLine::TimedOut) => {
                let reason = format!("no request came for {REQUEST_TIME:?}");
                return refuse(stream, Refusal::new(RefusalKind::Idle, reason));
            }
        };
        if let Ok(Command::Events {}) = command {
            let _told_of_the_end = untold.or_else(|| session.untold.upgrade());
            return follow(stream, session.closing.as_fd());
        }
        let may_be_end = matches!(command, Ok(Command::Shutdown {} | Command::Upgrade {}));
        let answer = command.and_then(|command| execute(host, session.since.elapsed(), command));
        let is_end = may_be_end && answer.is_ok();
        let sent = send(stream, &answer.unwrap_or_else(Answer::Error));
        untold = None;
        if is_end {
            host.shutdown();
        }
        if sent.is_err() {
            return;
        }
    }
}

/// Answers that nothing is done. A client that does not listen misses it.
pub(super) fn refuse(stream: &UnixStream, refusal: Refusal) {
    let _ = send(stream, &Answer::Error(refusal));
}

fn malformed(what: &str) -> Refusal {
    Refusal::new(RefusalKind::Malformed, format!("not a request: {what}"))
}

/// Only this process's user, and root, may give commands: whatever the file's mode has become.
fn check_peer(stream: &UnixStream) -> Result<UnixCredentials, Refusal> {
    let own = rustix::process::geteuid().as_raw();
    match peer_credentials(SockRef::from(stream)) {
        Some(peer) if peer.uid == own || peer.uid == 0 => Ok(peer),
        Some(peer) => Err(Refusal::new(
            RefusalKind::Forbidden,
            format!("user {} has no say here: only user {own} and root have", peer.uid),
        )),
        None => Err(Refusal::new(RefusalKind::Forbidden, "the kernel does not say whose client this is")),
    }
}

/// Says in the log who changes what.
fn note(command: &Command, peer: &UnixCredentials) {
    if matches!(command, Command::Status {} | Command::Versions { .. } | Command::Events {}) {
        return;
    }
    let command = serde_json::to_string(command).unwrap_or_default();
    tracing::info!(pid = peer.pid, uid = peer.uid, "asked for {command}");
}

fn send(mut stream: &UnixStream, answer: &impl Serialize) -> io::Result<()> {
    stream.set_write_timeout(Some(ANSWER_TIME))?;
    stream.write_all(&line(answer)?)
}
