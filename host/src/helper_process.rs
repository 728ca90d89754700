//! Processes of the host's own executable, started anew for what must not happen in the host itself: the fork
//! server, which forks for each request, the compiler, which a component may make run wild, and what reads debug
//! information, which may do the same.

mod channel;
pub(crate) mod confine;
pub(crate) mod log_filter;

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

pub use confine::{Walls, try_walls};

pub(crate) use channel::{Channel, message_buffer, message_pair, recv, send, send_now};

use crate::child_process::ChildProcess;
use crate::{fork_server, sandbox, surroundings};

/// Marks a process that is to become a helper, and says which.
const MARKER: &str = "PLUGSOCK_HELPER_PROCESS";

/// What a helper does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    ForkServer,
    Compiler,
    SourceLines,
}

impl Role {
    const ALL: [Self; 3] = [Self::ForkServer, Self::Compiler, Self::SourceLines];

    fn name(self) -> &'static str {
        match self {
            Self::ForkServer => "fork-server",
            Self::Compiler => "compiler",
            Self::SourceLines => "reader of source lines",
        }
    }
}

/// Becomes a helper of the host and never returns, if this process was started to be one.
///
/// A program that embeds a server calls this first in its `main`, before it starts a thread: the host starts
/// the program's own executable anew, to fork for each request with
/// [`Concurrency::Forking`](crate::Concurrency), and to compile components within the limits of
/// [`CompileOptions`](crate::CompileOptions). Without this call there is no forking, and components are compiled
/// in the host's own process, without limits. What helpers log goes to the `tracing` subscriber that was set up
/// before this call. Of the environment they get the variables `LD_*`, `RUST_*`, `NO_COLOR` and `TZ` alone.
pub fn become_helper_process_if_asked() {
    CAN_BE_STARTED.store(true, Relaxed);
    let Some(asked) = std::env::var_os(MARKER) else { return };
    let role = Role::ALL.into_iter().find(|role| asked == role.name());
    let ended = match role {
        Some(role) => run(role),
        None => Err(io::Error::other(format!("this version has no {}", asked.display()))),
    };
    let code = match ended {
        Ok(()) => 0,
        Err(error) => {
            tracing::error!("{}: {error}", asked.display());
            1
        }
    };
    std::process::exit(code);
}

fn run(role: Role) -> io::Result<()> {
    surroundings::settle();
    let channel = Channel::from_stdin()?;
    match role {
        Role::ForkServer => fork_server::run(channel),
        Role::Compiler => sandbox::run_compiler(channel),
        Role::SourceLines => sandbox::run_source_lines(channel),
    }
}

/// Whether this program would become a helper if it were started as one.
pub(crate) fn can_be_started() -> bool {
    CAN_BE_STARTED.load(Relaxed)
}

static CAN_BE_STARTED: AtomicBool = AtomicBool::new(false);

/// What helpers have as their standard error; `None` if it is this process's.
static STDERR: Mutex<Option<OwnedFd>> = Mutex::new(None);

/// Has helpers that are started from now on write their log here.
pub(crate) fn set_stderr(stderr: Option<OwnedFd>) {
    *STDERR.lock().unwrap_or_else(PoisonError::into_inner) = stderr;
}

/// What helpers have as their standard error, if it is not this process's.
pub(crate) fn stderr() -> io::Result<Option<OwnedFd>> {
    STDERR.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(OwnedFd::try_clone).transpose()
}

/// Starts a helper, with the arguments by which this program calls [`become_helper_process_if_asked`].
pub(crate) fn start(role: Role, arguments: &[OsString]) -> io::Result<(Channel, ChildProcess)> {
    let (channel, given) = Channel::pair()?;
    let process = ChildProcess::start(
        Command::new("/proc/self/exe")
            .arg0("plugsock")
            .args(arguments)
            .env_clear()
            .envs(std::env::vars_os().filter(|(name, _)| is_passed_on(name)))
            .env(MARKER, role.name())
            .stdin(Stdio::from(given))
            .stdout(Stdio::null())
            .stderr(stderr()?.map_or_else(Stdio::inherit, Stdio::from))
            // A Ctrl-C at the terminal is for the host, which then says what to do.
            .process_group(0),
    )?;
    Ok((channel, process))
}

/// Whether a helper gets an environment variable: those that say how programs are loaded and how they log. The rest may
/// be secrets, and a guest that broke out would find them.
fn is_passed_on(name: &OsStr) -> bool {
    let name = name.as_encoded_bytes();
    name.starts_with(b"LD_") || name.starts_with(b"RUST_") || [&b"NO_COLOR"[..], b"TZ"].contains(&name)
}
