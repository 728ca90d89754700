//! What reaches a child while its guest runs: signals, since a thread for it would cost a child of a millisecond a tenth of
//! its life. A timer of its processor time lets time pass for the guest, and the status socket tells of the host; a
//! child that waits for its client is woken by neither.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering::Relaxed};
use std::time::Instant;

use nix::libc;
use rustix::event::{PollFd, PollFlags};
use rustix::fs::OFlags;

use crate::sandbox::{Sandbox, TICK};
use crate::wake::poll_until;

/// What a child gets that has used a whole tick of processor time: it gives way to those that have just begun, and to the
/// fork server.
const LOWER_PRIORITY: i32 = 15;

static IS_LOWERED: AtomicBool = AtomicBool::new(false);

/// The child's status socket.
static STATUS: AtomicI32 = AtomicI32::new(-1);

/// Prepares the fork server, once for all children: what happens at each signal.
pub(super) fn prepare(sandbox: &Sandbox) -> io::Result<()> {
    let sandbox = sandbox.clone();
    let tick = move || {
        sandbox.tick();
        if !IS_LOWERED.swap(true, Relaxed) {
            // Where that is not possible it goes on as it is.
            let _ = rustix::process::setpriority_process(None, LOWER_PRIORITY);
        }
    };
    // SAFETY: both handlers read or change atomic numbers and make system calls that a signal handler may make; they
    // neither allocate nor lock.
    unsafe {
        signal_hook::low_level::register(libc::SIGPROF, tick)?;
        signal_hook::low_level::register(libc::SIGIO, || end_if_called_off(STATUS.load(Relaxed)))?;
    }
    Ok(())
}

/// Has signals come to this child; a fork inherits neither the timer nor who is told of a socket.
pub(super) fn start(status: impl AsFd) -> io::Result<()> {
    let fd = status.as_fd().as_raw_fd();
    STATUS.store(fd, Relaxed);
    // SAFETY: `getpid` has no precondition, and F_SETOWN takes an integer and leaves the process's memory alone.
    if unsafe { libc::fcntl(fd, libc::F_SETOWN, libc::getpid()) } == -1 {
        return Err(io::Error::last_os_error());
    }
    // Of the flags that can be set it has no other.
    rustix::fs::fcntl_setfl(status, OFlags::from_bits_retain(libc::O_ASYNC as _))?;
    // It may have happened before anybody was told.
    end_if_called_off(fd);
    let tick = libc::timeval { tv_sec: 0, tv_usec: TICK.subsec_micros().into() };
    let timer = libc::itimerval { it_interval: tick, it_value: tick };
    // SAFETY: `timer` is valid for the call, and the old timer is not asked for.
    match unsafe { libc::setitimer(libc::ITIMER_PROF, &timer, std::ptr::null_mut()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Ends this child if nobody wants its answer: the host has gone, or has cut the request off.
fn end_if_called_off(status: RawFd) {
    // SAFETY: a child keeps its status socket open to its end.
    let status = unsafe { BorrowedFd::borrow_raw(status) };
    let mut fds = [PollFd::from_borrowed_fd(status, PollFlags::RDHUP)];
    if matches!(poll_until(&mut fds, Some(Instant::now())), Ok(true)) {
        // SAFETY: `_exit` may be called in a signal handler; it only ends the process.
        unsafe { libc::_exit(1) };
    }
}
