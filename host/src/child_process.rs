//! Processes that this one starts. Each is waited for and killed by a descriptor, since its id may be another's as soon
//! as somebody else has its status: the kernel where SIGCHLD is ignored, or a program that waits for any child.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

use rustix::io::Errno;
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, child_subreaper, getpid, kill_process_group, pidfd_open,
    pidfd_send_signal, waitid,
};
use signal_hook::consts::SIGCHLD;
use signal_hook::iterator::Signals;

/// The ids of those whose status is for whoever started them.
static OWN: Mutex<BTreeSet<i32>> = Mutex::new(BTreeSet::new());

/// A process that was started here, whose status nobody else takes.
#[derive(Debug)]
pub struct ChildProcess {
    pid: Pid,
    /// `None` for one that ended at once and whose status somebody else has.
    pidfd: Option<OwnedFd>,
}

impl ChildProcess {
    /// Starts it. What the command has of pipes goes with the command.
    pub fn start(command: &mut Command) -> io::Result<Self> {
        // Not let go before it is known as our own: otherwise it might be reaped as another's.
        let mut own = own();
        let mut child = command.spawn()?;
        let pid = Pid::from_child(&child);
        let pidfd = match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(pidfd) => Some(pidfd),
            Err(Errno::SRCH) => None,
            Err(error) => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(error.into());
            }
        };
        own.insert(pid.as_raw_pid());
        Ok(Self { pid, pidfd })
    }

    pub(crate) fn id(&self) -> u32 {
        self.pid.as_raw_pid().unsigned_abs()
    }

    /// What is readable when it has ended.
    pub fn pidfd(&self) -> Option<BorrowedFd<'_>> {
        self.pidfd.as_ref().map(AsFd::as_fd)
    }

    pub(crate) fn kill(&self) {
        if let Some(pidfd) = &self.pidfd {
            let _ = pidfd_send_signal(pidfd, Signal::KILL);
        }
    }

    /// Kills it and what it has started, where it was given a process group of its own.
    pub fn kill_group(&self) {
        // As long as it has not been waited for, its id is nobody else's.
        if self.pidfd.is_some() {
            let _ = kill_process_group(self.pid, Signal::KILL);
        }
    }

    /// Waits for its end; `None` if somebody else has its status.
    pub fn wait(&mut self) -> Option<ExitStatus> {
        // With its status its id may be another's: from here on nobody is killed by it.
        let pidfd = self.pidfd.take()?;
        let status = loop {
            match waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED) {
                Ok(status) => break status?,
                Err(Errno::INTR) => {}
                Err(_) => return None,
            }
        };
        // As wait(2) has them.
        let raw = status.exit_status().map(|code| code << 8).or(status.terminating_signal())?;
        Some(ExitStatus::from_raw(raw))
    }
}

impl Drop for ChildProcess {
    fn drop(&mut self) {
        own().remove(&self.pid.as_raw_pid());
    }
}

fn own() -> MutexGuard<'static, BTreeSet<i32>> {
    OWN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Reaps the children that this process adopts, if it is one that does: the first of its PID namespace, or a subreaper.
/// Then every process whose parent has ended comes to it, such as those that served when their fork server died.
///
/// Only for a program that starts no processes beside those of its servers: it could not have their status. Where a
/// process adopts none, nothing happens, and children that it did not start are left to whoever did.
pub fn reap_adopted() -> io::Result<()> {
    let is_subreaper = child_subreaper().is_ok_and(|reaper| reaper.is_some());
    if getpid() != Pid::INIT && !is_subreaper {
        return Ok(());
    }
    let mut ended = Signals::new([SIGCHLD])?;
    thread::Builder::new().name("reaper".to_owned()).spawn(move || {
        // Some may have ended before.
        reap();
        ended.forever().for_each(|_| reap());
    })?;
    Ok(())
}

fn reap() {
    // None is started meanwhile.
    let own = own();
    let threads = fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let children = threads.filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    for children in children {
        let pids = children.split_whitespace().filter_map(|pid| pid.parse().ok());
        for pid in pids.filter(|pid| !own.contains(pid)).filter_map(Pid::from_raw) {
            let _ = waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOHANG);
        }
    }
}

#[cfg(test)]
mod tests {
    use rustix::process::{WaitOptions, waitpid};

    use super::*;

    fn start(script: &str) -> ChildProcess {
        ChildProcess::start(Command::new("sh").args(["-c", script])).unwrap()
    }

    #[test]
    fn it_is_known_how_a_process_ended() {
        assert_eq!(start("exit 3").wait().unwrap().code(), Some(3));
        let mut killed = start("exec sleep 1000");
        killed.kill();
        assert_eq!(killed.wait().unwrap().signal(), Some(9));
    }

    /// As the kernel takes it where SIGCHLD is ignored.
    #[test]
    fn a_process_whose_status_was_taken_has_ended() {
        let mut process = start("exit 3");
        waitpid(Some(process.pid), WaitOptions::empty()).unwrap();
        assert_eq!(process.wait(), None);
        // Whoever has its id now is left alone.
        process.kill();
    }
}
