//! Compiles components, in a process of their own where that can be had: a component that makes the compiler run
//! for ever, fill the memory or crash then costs its own loading and nothing else.
//!
//! ```text
//!  host                                     compiler
//!  starts it ───room, component (memfd)──▶ gives up what compiling does not need, compiles
//!  waits, at most so long  ◀──code (memfd)── says how it went, exits
//! ```

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::panic::catch_unwind;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use rustix::process::Signal;
use serde::{Deserialize, Serialize};

use super::code::Code;
use super::sealed_file::{memfd, read_sealed, sealed_file};
use super::{Sandbox, engine};
use crate::child_process::ChildProcess;
use crate::error::{excerpt, one_line};
use crate::helper_process::{self, Channel, Role, confine};
use crate::sandbox::Limits;
use crate::wake::{is_ready, poll_until};

/// What compiling one component may take, where it has a process of its own.
#[derive(Clone, Debug)]
pub struct CompileOptions {
    /// Wall-clock time (10 min); `None` for no limit. A compiler has a low priority and so may have to wait.
    pub time: Option<Duration>,
    /// Memory in bytes (2 GiB).
    pub memory: u64,
    /// Arguments with which the program's executable calls
    /// [`become_helper_process_if_asked`](crate::become_helper_process_if_asked) (none).
    pub arguments: Vec<OsString>,
}

impl Default for CompileOptions {
    fn default() -> Self {
        Self { time: Some(Duration::from_secs(600)), memory: 2 << 30, arguments: Vec::new() }
    }
}

/// What a compiler is asked; beside it the component, and a file for what it prints.
#[derive(Debug, Serialize, Deserialize)]
struct Order {
    /// What the engine has room for, which the code depends on.
    room: Limits,
    memory: u64,
}

/// What it answers; beside it the code.
type Answer = Result<(), String>;

/// The most of what a dying compiler printed that is repeated.
const PRINTED_MAX: u64 = 1000;

/// Compiles a component to code for this sandbox's engine.
pub(super) fn compile(sandbox: &Sandbox, component: &[u8]) -> Result<Vec<u8>, String> {
    if !helper_process::can_be_started() {
        return Code::precompile(&sandbox.host().platform.engine, component);
    }
    let compiled = Compiler::start(&sandbox.host().compile)
        .and_then(|compiler| compiler.compile(sandbox.room(), component));
    compiled.map_err(|error| format!("it cannot be compiled: {error}")).flatten()
}

/// A running compiler; gone when this is dropped.
struct Compiler<'a> {
    options: &'a CompileOptions,
    channel: Channel,
    process: ChildProcess,
}

impl<'a> Compiler<'a> {
    fn start(options: &'a CompileOptions) -> io::Result<Self> {
        let (channel, process) = helper_process::start(Role::Compiler, &options.arguments)?;
        Ok(Self { options, channel, process })
    }

    fn compile(mut self, room: &Limits, component: &[u8]) -> io::Result<Result<Vec<u8>, String>> {
        let deadline = self.options.time.and_then(|time| Instant::now().checked_add(time));
        let component = sealed_file("component", component)?;
        let mut printed = File::from(memfd("printed")?);
        let order = Order { room: room.clone(), memory: self.options.memory };
        self.channel.send(&order, &[component.as_fd(), printed.as_fd()])?;
        if !poll_until(&mut [PollFd::new(&self.channel, PollFlags::IN)], deadline)? {
            let time = self.options.time.unwrap_or_default();
            return Ok(Err(format!("to compile it takes longer than {time:?}, which is the limit")));
        }
        let Some((answer, fds)) = self.channel.recv::<Answer>()? else {
            return Ok(Err(self.epitaph(&mut printed)?));
        };
        let code = fds.into_iter().next();
        Ok(answer.and_then(|()| {
            let code = code.ok_or("the compiler sent no code")?;
            read_sealed(code, self.options.memory).map_err(|error| error.to_string())
        }))
    }

    /// What is known of the end of a compiler that did not answer.
    fn epitaph(&mut self, printed: &mut File) -> io::Result<String> {
        let how = match self.process.wait().map(|status| (status.signal(), status.code())) {
            Some((Some(signal), _)) => format!("was killed by signal {signal}"),
            Some((None, Some(code))) => format!("exited with status {code}"),
            _ => "ended".to_owned(),
        };
        let mut last_words = Vec::new();
        printed.rewind()?;
        printed.take(PRINTED_MAX).read_to_end(&mut last_words)?;
        let last_words = String::from_utf8_lossy(&last_words);
        let last_words = one_line(last_words.lines().next().unwrap_or("without a word"));
        let memory = self.options.memory;
        Ok(format!("its compiler, which has {memory} bytes of memory, {how}: {last_words}"))
    }
}

impl Drop for Compiler<'_> {
    fn drop(&mut self) {
        self.process.kill();
        self.process.wait();
    }
}

/// Compiles one component for the host that started this process.
pub(crate) fn run(channel: Channel) -> io::Result<()> {
    // Not left behind by a host that is killed: it may compile for long.
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    let (order, fds) = channel.recv::<Order>()?.ok_or_else(|| io::Error::other("the host has gone"))?;
    let Ok([component, printed]) = <[OwnedFd; 2]>::try_from(fds) else {
        return Err(io::Error::other("the host did not say what to compile"));
    };
    let component = read_sealed(component, u64::MAX)?;
    confine::confine_compiler(order.memory);
    // From here on nothing is logged: what it prints is an abort's or a panic's message, for `epitaph`.
    rustix::stdio::dup2_stderr(&printed)?;
    if is_ready(channel.as_fd(), PollFlags::empty()) {
        return Err(io::Error::other("the host has gone"));
    }
    let compiled = catch_unwind(|| {
        let engine = engine::on_demand(&order.room, false).map_err(|error| format!("{error:#}"))?;
        Code::precompile(&engine, &component)
    });
    let code = compiled.unwrap_or_else(|_| Err("the compiler panicked; please report this".to_owned()));
    match code.and_then(|code| sealed_file("code", &code).map_err(|error| error.to_string())) {
        Ok(code) => channel.send(&Answer::Ok(()), &[code.as_fd()]),
        Err(reason) => channel.send(&Answer::Err(excerpt(&reason)), &[]),
    }
}
