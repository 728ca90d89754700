//! Where the log goes, of whatever kind: what it does not take is lost and counted. A full disk or a closed pipe ends
//! neither a request nor the host; and where a process serves, no thread waits for whoever should read and does not.
//!
//! There is no thread between the log and its target, which forked children could not have, and whose queue would be lost
//! with a process that ends at once.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, OFlags, fcntl_getfl, fstat};
use rustix::io::Errno;
use rustix::net::{SendFlags, send};
use rustix::pipe::{PIPE_BUF, fcntl_setpipe_size};
use rustix::stdio::{dup2_stderr, stderr};

/// What a pipe is to hold if it may: a reader is often late.
const PIPE_SIZE: usize = 1 << 20;

pub struct Sink {
    /// What it is, for people.
    name: &'static str,
    how: How,
    state: Mutex<State>,
}

/// How it is written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    /// A file takes what it is given; so does what need not be waited for.
    Plainly,
    /// A socket, which is told with each message that nobody waits.
    Socket,
    /// The description of a pipe or terminal that others have too and that would make them wait or not: it is asked for
    /// room first. Another process may take the room meanwhile.
    IfThereIsRoom,
}

#[derive(Debug, Default)]
struct State {
    /// What it writes to; `None` for standard error.
    own: Option<OwnedFd>,
    /// Lines that it did not take, since it was last said how many.
    lost: u64,
    /// The last line has no end.
    is_cut: bool,
}

impl Sink {
    /// Standard error, which waits for whoever reads it, as is usual.
    pub fn stderr_as_it_is() -> Self {
        Self { name: "standard error", how: How::Plainly, state: Mutex::default() }
    }

    /// A file, which need not be waited for.
    pub fn file(file: OwnedFd) -> Self {
        Self { name: "its file", how: How::Plainly, state: State::of(file) }
    }

    /// A datagram socket that is connected to who gets the lines.
    pub fn socket(name: &'static str, socket: OwnedFd) -> Self {
        Self { name, how: How::Socket, state: State::of(socket) }
    }

    /// From now on writes here.
    pub fn replace(&self, own: OwnedFd) {
        self.state().own = Some(own);
    }

    /// What helpers are to write to, if that is not what they have anyway.
    pub fn to_share(&self) -> io::Result<Option<OwnedFd>> {
        self.state().own.as_ref().map(OwnedFd::try_clone).transpose()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Standard error, which never waits. A pipe or terminal is opened anew, so that those with whom this process shares it notice nothing;
    /// what it starts inherits that.
    pub fn stderr_that_never_waits() -> Self {
        let kind = fstat(stderr()).map(|stat| FileType::from_raw_mode(stat.st_mode));
        let how = match kind {
            Ok(FileType::Socket) => How::Socket,
            Ok(FileType::Fifo) => {
                let how = open_anew();
                let _ = fcntl_setpipe_size(stderr(), PIPE_SIZE);
                how
            }
            Ok(FileType::CharacterDevice) if rustix::termios::isatty(stderr()) => open_anew(),
            _ => How::Plainly,
        };
        Self { name: "standard error", how, state: Mutex::default() }
    }

    /// Writes a line; whether it was taken.
    fn put(&self, line: &[u8]) -> bool {
        let mut state = self.state();
        let line = [if state.is_cut { &b"\n"[..] } else { b"" }, line].concat();
        let mut rest = &line[..];
        while !rest.is_empty() {
            match self.write_some(state.fd(), rest) {
                Ok(0) => break,
                Ok(length) => rest = &rest[length..],
                Err(Errno::INTR) => {}
                Err(_) => break,
            }
            state.is_cut = !rest.is_empty();
        }
        let is_taken = rest.is_empty();
        state.lost += u64::from(!is_taken);
        is_taken
    }

    fn write_some(&self, fd: BorrowedFd<'_>, bytes: &[u8]) -> rustix::io::Result<usize> {
        match self.how {
            How::Plainly => rustix::io::write(fd, bytes),
            How::Socket => match send(fd, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
                // A compiler's has become a file.
                Err(Errno::NOTSOCK) => rustix::io::write(fd, bytes),
                sent => sent,
            },
            How::IfThereIsRoom => {
                let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
                match poll(&mut [PollFd::from_borrowed_fd(fd, PollFlags::OUT)], Some(&at_once))? {
                    0 => Err(Errno::AGAIN),
                    // A pipe with any room has room for so much.
                    _ => rustix::io::write(fd, &bytes[..bytes.len().min(PIPE_BUF)]),
                }
            }
        }
    }

    /// Says how many lines were lost, once it takes some again.
    fn tell_lost(&self) {
        let lost = std::mem::take(&mut self.state().lost);
        if lost > 0 {
            tracing::warn!("{lost} lines of the log were lost: {} took no more", self.name);
            // Unless this was lost, too, and counted as another.
            let mut state = self.state();
            if state.lost > 0 {
                state.lost += lost - 1;
            }
        }
    }
}

impl State {
    fn of(own: OwnedFd) -> Mutex<Self> {
        Mutex::new(Self { own: Some(own), ..Self::default() })
    }

    fn fd(&self) -> BorrowedFd<'_> {
        self.own.as_ref().map_or(stderr(), OwnedFd::as_fd)
    }
}

impl Write for &Sink {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.put(line) {
            self.tell_lost();
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Gives this process a description of its own, which does not wait.
fn open_anew() -> How {
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let opened = File::options().write(true).custom_flags(flags.bits() as i32).open("/proc/self/fd/2");
    match opened.and_then(|own| Ok(dup2_stderr(own)?)) {
        Ok(()) => How::Plainly,
        // It may belong to another user; then a host that has become this one has opened it.
        Err(_) if fcntl_getfl(stderr()).is_ok_and(|flags| flags.contains(OFlags::NONBLOCK)) => How::Plainly,
        Err(_) => How::IfThereIsRoom,
    }
}
