//! What lets time pass for the guest of a child: a timer's signal, since a thread for it would cost a child of
//! a millisecond a tenth of its life.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;

use nix::libc;
use rustix::event::{PollFd, PollFlags};

use crate::helper_process::Channel;
use crate::sandbox::{Sandbox, TICK};
use crate::wake::poll_until;

/// Prepares the fork server, once for all children: what happens at each tick.
pub(super) fn prepare(sandbox: &Sandbox, channel: &Channel) -> io::Result<()> {
    let sandbox = sandbox.clone();
    let channel: OwnedFd = channel.as_fd().try_clone_to_owned()?;
    let tick = move || {
        sandbox.tick();
        // Without an event to wait for, `poll` reports the end of the channel alone: the host has gone, and
        // nobody wants the answer.
        let mut fds = [PollFd::new(&channel, PollFlags::empty())];
        if matches!(poll_until(&mut fds, Some(Instant::now())), Ok(true)) {
            // SAFETY: `_exit` may be called in a signal handler; it only ends the process.
            unsafe { libc::_exit(1) };
        }
    };
    // SAFETY: the handler adds to an atomic number and makes system calls that a signal handler may make;
    // it neither allocates nor locks.
    unsafe { signal_hook::low_level::register(libc::SIGALRM, tick) }.map(drop)
}

/// Starts the timer of this child; a fork does not inherit one.
pub(super) fn start() -> io::Result<()> {
    let tick = libc::timeval { tv_sec: 0, tv_usec: TICK.subsec_micros().into() };
    let timer = libc::itimerval { it_interval: tick, it_value: tick };
    // SAFETY: `timer` is valid for the call, and the old timer is not asked for.
    match unsafe { libc::setitimer(libc::ITIMER_REAL, &timer, std::ptr::null_mut()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
