//! What a child reaches its host by: its end of the status socket.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use rustix::net::RecvFlags;
use serde::de::DeserializeOwned;

use super::message::Report;
use crate::helper_process::{message_buffer, recv, send};
use crate::sandbox::Room;
use crate::tls::{Answer, Ask, Host};
use crate::wake::poll_until;

/// How long a child waits to hear whether there is room, which its host knows at once.
const PATIENCE: Duration = Duration::from_secs(5);

/// Carries one question at a time.
#[derive(Debug)]
pub(super) struct HostSocket {
    status: OwnedFd,
    /// Whether an answer did not come in time: it would be taken for the next question's.
    has_failed: Mutex<bool>,
}

impl HostSocket {
    pub(super) fn new(status: OwnedFd) -> Self {
        Self { status, has_failed: Mutex::default() }
    }

    pub(super) fn tell(&self, report: &Report) -> io::Result<()> {
        send(self, report, &[])
    }

    /// Sends a question with what belongs to it, and waits until then for the answer.
    pub(super) fn ask<A: DeserializeOwned>(
        &self,
        report: &Report,
        fds: &[BorrowedFd<'_>],
        until: Option<Instant>,
    ) -> io::Result<(A, Vec<OwnedFd>)> {
        let mut has_failed = self.has_failed.lock().unwrap_or_else(PoisonError::into_inner);
        if *has_failed {
            return Err(io::Error::other("it gave none before"));
        }
        send(self, report, fds)?;
        let answered = self.hear(until);
        *has_failed = answered.is_err();
        answered
    }

    fn hear<A: DeserializeOwned>(&self, until: Option<Instant>) -> io::Result<(A, Vec<OwnedFd>)> {
        if !poll_until(&mut [PollFd::new(self, PollFlags::IN)], until)? {
            return Err(io::ErrorKind::TimedOut.into());
        }
        recv(self, &mut message_buffer(), RecvFlags::empty())?
            .ok_or_else(|| io::Error::other("the host has gone"))
    }

    /// Room for one request of the connection's more, if the host has some.
    pub(super) fn more_room(self: &Arc<Self>) -> Option<Room> {
        let (is_there, _) = self.ask(&Report::MoreRoom, &[], Instant::now().checked_add(PATIENCE)).ok()?;
        if is_there { Some(Box::new(LentRoom(self.clone()))) } else { None }
    }
}

impl AsFd for HostSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.status.as_fd()
    }
}

/// Room that the host has for one request, and gets back.
struct LentRoom(Arc<HostSocket>);

impl Drop for LentRoom {
    fn drop(&mut self) {
        // A host that has gone needs none.
        let _ = self.0.tell(&Report::LessRoom);
    }
}

/// The host, as a child reaches it for TLS.
#[derive(Debug)]
pub(super) struct TlsHost {
    pub(super) host: Arc<HostSocket>,
    /// How long it may take for an answer: one that has heard nonsense gives none.
    pub(super) patience: Duration,
}

impl Host for TlsHost {
    fn tell(&self, ask: Ask) -> io::Result<()> {
        self.host.tell(&Report::Tls(ask))
    }

    fn ask(&self, ask: Ask) -> io::Result<Answer> {
        let until = Instant::now().checked_add(self.patience);
        self.host.ask(&Report::Tls(ask), &[], until).map(|(answer, _)| answer)
    }
}
