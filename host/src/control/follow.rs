//! Tells a client what happens, until it goes or the server ends.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::Instant;

use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::net::{SendFlags, send};

use super::protocol::{Refusal, RefusalKind, line};
use super::session::refuse;
use crate::events::{FOLLOWERS_MAX, Follower};
use crate::wake::{is_ready, poll_until};

/// Follows for a client whose other requests are not read any more; `closing` is readable when the server ends.
pub(super) fn follow(stream: &UnixStream, closing: BorrowedFd<'_>) {
    match Follower::new() {
        // Whatever goes wrong: there is nobody to be told.
        Ok(Some(follower)) => drop(tell(stream, follower, closing)),
        Ok(None) => {
            let reason = format!("{FOLLOWERS_MAX} clients follow events, the most allowed: try again later");
            refuse(stream, Refusal::new(RefusalKind::Busy, reason));
        }
        Err(error) => {
            let reason = format!("nothing to wait for events with: {error}: try again later");
            refuse(stream, Refusal::new(RefusalKind::Busy, reason));
        }
    }
}

fn tell(stream: &UnixStream, mut follower: Follower, closing: BorrowedFd<'_>) -> io::Result<()> {
    // What is told, and not sent yet. No more is taken meanwhile: what does not fit the queue is counted there.
    let mut unsent = Vec::new();
    loop {
        let is_end = is_ready(closing, PollFlags::IN);
        let mut next: Option<Instant> = None;
        if unsent.is_empty() {
            let (events, until) = if is_end { follower.take_last() } else { follower.take() };
            next = until;
            events.iter().try_for_each(|event| line(event).map(|line| unsent.extend(line)))?;
        }
        if send_some(stream, &mut unsent)? {
            continue;
        }
        if is_end {
            return Ok(());
        }
        // Without flags a client that has gone is noticed; one that has only said all is told on.
        let of_client = if unsent.is_empty() { PollFlags::empty() } else { PollFlags::OUT };
        let mut fds = vec![
            PollFd::new(stream, of_client),
            PollFd::from_borrowed_fd(closing, PollFlags::IN),
            PollFd::new(&follower, PollFlags::IN),
        ];
        if !unsent.is_empty() {
            // It is readable all the time.
            fds.pop();
        }
        poll_until(&mut fds, next)?;
        if fds[0].revents().intersects(PollFlags::HUP | PollFlags::ERR) {
            return Ok(());
        }
    }
}

/// Sends what the client has room for, and never waits for it; whether it was anything.
fn send_some(stream: &UnixStream, unsent: &mut Vec<u8>) -> io::Result<bool> {
    if unsent.is_empty() {
        return Ok(false);
    }
    match send(stream.as_fd(), unsent, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
        Ok(sent) => {
            unsent.drain(..sent);
            Ok(true)
        }
        Err(Errno::AGAIN | Errno::INTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}
