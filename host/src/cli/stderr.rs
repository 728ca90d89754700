//! Standard error as the log has it: what it does not take is lost. A full disk or a closed pipe ends neither a request
//! nor the host; and where a process serves, no thread waits for whoever should read the pipe and does not.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::sync::{Mutex, PoisonError};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, OFlags, fcntl_getfl, fstat};
use rustix::io::Errno;
use rustix::net::{SendFlags, send};
use rustix::pipe::{PIPE_BUF, fcntl_setpipe_size};
use rustix::stdio::{dup2_stderr, stderr};

/// What a pipe is to hold if it may: a reader is often late.
const PIPE_SIZE: usize = 1 << 20;

pub struct Stderr {
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
    /// Lines that it did not take, since it was last said how many.
    lost: u64,
    /// The last line has no end.
    is_cut: bool,
}

impl Stderr {
    /// Waits for whoever reads it, as is usual.
    pub fn as_it_is() -> Self {
        Self { how: How::Plainly, state: Mutex::default() }
    }

    /// Never waits. A pipe or terminal is opened anew, so that those with whom this process shares it notice nothing;
    /// what it starts inherits that.
    pub fn that_never_waits() -> Self {
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
        Self { how, state: Mutex::default() }
    }

    /// Writes a line; whether it was taken.
    fn put(&self, line: &[u8]) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let line = [if state.is_cut { &b"\n"[..] } else { b"" }, line].concat();
        let mut rest = &line[..];
        while !rest.is_empty() {
            match self.write_some(rest) {
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

    fn write_some(&self, bytes: &[u8]) -> rustix::io::Result<usize> {
        match self.how {
            How::Plainly => rustix::io::write(stderr(), bytes),
            How::Socket => match send(stderr(), bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
                // A compiler's has become a file.
                Err(Errno::NOTSOCK) => rustix::io::write(stderr(), bytes),
                sent => sent,
            },
            How::IfThereIsRoom => {
                let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
                match poll(&mut [PollFd::from_borrowed_fd(stderr(), PollFlags::OUT)], Some(&at_once))? {
                    0 => Err(Errno::AGAIN),
                    // A pipe with any room has room for so much.
                    _ => rustix::io::write(stderr(), &bytes[..bytes.len().min(PIPE_BUF)]),
                }
            }
        }
    }

    /// Says how many lines were lost, once it takes some again.
    fn tell_lost(&self) {
        let state = || self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let lost = std::mem::take(&mut state().lost);
        if lost > 0 {
            tracing::warn!("{lost} lines of the log were lost: standard error took no more");
            // Unless this was lost, too, and counted as another.
            let mut state = state();
            if state.lost > 0 {
                state.lost += lost - 1;
            }
        }
    }
}

impl Write for &Stderr {
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
