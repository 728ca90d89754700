//! What a process finds that its parent and its place left it: signals, limits, descriptors, a mask for the modes of
//! files. [`settle`] sets each to what a host and its helpers need, so that they behave as from a clean shell
//! whatever started them.

#![allow(unsafe_code, reason = "no crate here sets what a signal does without a function that handles it")]

use std::fs;
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, RawFd};
use std::ptr::null_mut;

use nix::libc::{self, c_int};
use rustix::fs::Mode;
use rustix::io::{FdFlags, fcntl_getfd, fcntl_setfd};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit, umask};

pub use crate::child_process::{ChildProcess, reap_adopted};
pub use crate::helper_process::{Walls, try_walls};

/// The stack of a main thread as from a clean shell; requests of forked children may run on it.
pub const STACK: u64 = 8 << 20;

/// A write to a closed pipe or beyond the largest size of a file, and a word with a terminal that another process
/// has, are to fail where they happen, and to end or stop nobody.
const IGNORED: [c_int; 4] = [libc::SIGPIPE, libc::SIGXFSZ, libc::SIGTTIN, libc::SIGTTOU];

/// Sets what this process has inherited to what serving needs. `plugsock serve` calls it first of all, and so does each
/// helper; it must be called while there is one thread.
///
/// No signal is blocked or ignored, except those that would end or stop a process for a write that fails; limits on CPU
/// time and on the stack are raised as far as they may be; no descriptor beyond the standard streams is passed on to
/// processes that are started later; and no file is made that its owner cannot use.
pub fn settle() {
    settle_signals();
    settle_descriptors();
    umask(umask(Mode::empty()) & !Mode::RWXU);
    let time = getrlimit(Resource::Cpu);
    let _ = setrlimit(Resource::Cpu, Rlimit { current: time.maximum, ..time });
    raise_limit(Resource::Stack, STACK);
}

/// Raises a limit that is lower as far as this user may, for root beyond its maximum; what it is then, if it is still
/// lower.
pub fn raise_limit(resource: Resource, wanted: u64) -> Option<u64> {
    let limit = getrlimit(resource);
    if limit.current.is_some_and(|current| current < wanted) {
        let most = limit.maximum.map_or(wanted, |maximum| maximum.max(wanted));
        let raised = Rlimit { current: Some(wanted), maximum: limit.maximum.map(|_| most) };
        if setrlimit(resource, raised).is_err() {
            let _ = setrlimit(resource, Rlimit { current: limit.maximum, ..limit });
        }
    }
    getrlimit(resource).current.filter(|current| *current < wanted)
}

fn settle_signals() {
    for signal in 1..=libc::SIGRTMAX() {
        let wanted = if IGNORED.contains(&signal) { libc::SIG_IGN } else { libc::SIG_DFL };
        let mut action = MaybeUninit::<libc::sigaction>::zeroed();
        // SAFETY: the old action is written to `action`, which is valid for it; nothing is changed.
        let asked = unsafe { libc::sigaction(signal, null_mut(), action.as_mut_ptr()) };
        // SAFETY: all of it has a value, since zeroes are one.
        let mut action = unsafe { action.assume_init() };
        // What handles a signal was put there by this program. The C library keeps some signals to itself.
        let is_inherited = [libc::SIG_IGN, libc::SIG_DFL].contains(&action.sa_sigaction);
        if asked == 0 && is_inherited && action.sa_sigaction != wanted {
            action.sa_sigaction = wanted;
            // SAFETY: `action` is what was there, with no function to handle the signal.
            unsafe { libc::sigaction(signal, &action, null_mut()) };
        }
    }
    let mut none = MaybeUninit::<libc::sigset_t>::zeroed();
    // SAFETY: `none` is valid for both calls and has a value after the first; only this thread's mask is changed.
    unsafe {
        libc::sigemptyset(none.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_SETMASK, none.as_ptr(), null_mut());
    }
}

fn settle_descriptors() {
    // Without /proc `plugsock serve` goes no further.
    let entries = fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
    let open: Vec<RawFd> =
        entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter(|fd| *fd > 2).collect();
    for fd in open {
        // SAFETY: it is open, or, as the descriptor of the directory itself, has been; the kernel says so if it is not.
        let fd = unsafe { BorrowedFd::borrow_raw(fd) };
        if let Ok(flags) = fcntl_getfd(fd) {
            let _ = fcntl_setfd(fd, flags | FdFlags::CLOEXEC);
        }
    }
}
