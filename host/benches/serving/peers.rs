//! Who is compared: Plugsock's strategies and their peers, which all echo, each in a process of its own.
//!
//! A contender says `ready` and its address on standard output when it can be connected to. All have the same
//! listen queue, and none sets a socket option that another does not.

mod inetd;
mod native;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::LazyLock;

use anyhow::anyhow;

use crate::process::{Process, Silence};
use crate::report::{self, CACHE};
use crate::transport::Transport;
use crate::trial::Failure;
use crate::{PATIENCE, made, tls};
pub use inetd::Inetd;
pub use native::Native;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Contender {
    /// `plugsock serve` with its built-in `echo`, a fresh instance for each request; the strategy.
    Plugsock(&'static str),
    /// The same with instances that serve up to a thousand requests; its rows are never mixed with the others.
    PlugsockReuse(&'static str),
    /// `plugsock serve` with a handler as its author makes it; the strategy and the language.
    Made(&'static str, &'static str),
    /// Rust's standard library, one connection after the other.
    NativeSync,
    /// Rust's standard library, a thread for each connection.
    NativeThread,
    /// Rust's standard library, as many threads as `pool` has workers, which all accept.
    NativeAccept,
    /// Rust's standard library, a process for each connection.
    NativeFork,
    /// tokio, a task for each connection.
    NativeTokio,
    /// Rust's standard library, one datagram after the other.
    NativeDatagram,
    /// Python's `ThreadingTCPServer`.
    PythonThreading,
    /// Python's `ForkingTCPServer`.
    PythonForking,
    /// Python's `ThreadingUDPServer`.
    PythonDatagram,
    /// hyper, with a tokio task for each connection.
    NativeHyper,
    /// `wasmtime serve` with the handler of HTTP that ours is, a fresh instance for each request.
    WasmtimeServe,
    /// The `wasmtime` command with a WASI command, started for each connection.
    InetdWasmtime,
    /// `cat`, started for each connection: the least that a process for each connection costs.
    InetdCat,
}

use Contender::*;

/// A contender that is ready.
pub struct Running {
    pub address: SocketAddr,
    process: Process,
}

impl Running {
    /// Starts a contender and waits until it is ready.
    pub fn start(command: Command, name: impl fmt::Display) -> Result<Self, Failure> {
        let mut process = Process::start(command)?;
        match process.line(PATIENCE) {
            Ok(line) => Ok(Self { address: address(&line)?, process }),
            Err(Silence::Ended { status, words }) if status.code() == Some(USAGE_ERROR) => {
                Err(Failure::Unavailable(words.lines().next().unwrap_or_default().to_owned()))
            }
            Err(silence) => Err(match too_few_areas(&process.words()) {
                Some(failure) => failure,
                None => anyhow!(silence).context(format!("{name} is not ready")).into(),
            }),
        }
    }

    /// What it said on standard error.
    pub fn words(&mut self) -> String {
        self.process.words()
    }

    pub fn pid(&self) -> u32 {
        self.process.pid()
    }
}

/// The host has said at its start how many memory areas it lacks, which may be why it failed.
pub fn too_few_areas(words: &str) -> Option<Failure> {
    let warning = words.lines().find(|line| line.contains("vm.max_map_count"))?;
    let (_, reason) = warning.rsplit_once("capacity: ").unwrap_or(("", warning));
    Some(Failure::Unavailable(reason.to_owned()))
}

/// A listen queue in which the connections of all clients have room.
const REQUEST_QUEUE_SIZE: i32 = 1024;

impl Contender {
    /// Starts it and waits until it is ready for that many connections at once.
    pub fn launch(self, transport: Transport, connections: usize) -> Result<Running, Failure> {
        Running::start(self.command(transport, connections)?, self)
    }

    fn command(self, transport: Transport, connections: usize) -> Result<Command, Failure> {
        let identity = match transport {
            Transport::Tls | Transport::TlsResumed => Some(tls::Identity::make()?),
            Transport::Tcp | Transport::Udp | Transport::Http => None,
        };
        Ok(match self {
            PlugsockReuse(strategy) => {
                let mut command = Plugsock(strategy).command(transport, connections)?;
                command.args(["--reuse", "1000"]);
                command
            }
            Made(strategy, language) => {
                let mut command = Plugsock(strategy).command(transport, connections)?;
                command.arg(made::component("stream", language)?);
                command
            }
            Plugsock(strategy) => {
                let mut command = serve(&format!("{}://127.0.0.1:0", transport.scheme()), strategy, CACHE)?;
                if let Some(tls::Identity { certificate, key }) = identity {
                    command.arg("--tls");
                    command.arg(format!("localhost={},{}", certificate.display(), key.display()));
                }
                if transport == Transport::Http {
                    command.arg(made::http()?);
                }
                if connections > 1000 {
                    command.args(["--max-requests", &connections.to_string()]);
                }
                command
            }
            NativeSync | NativeThread | NativeAccept | NativeFork | NativeTokio | NativeDatagram
            | NativeHyper => {
                let mut command = Process::role("native")?;
                command.arg(self.to_string().trim_start_matches("native-"));
                if let Some(tls::Identity { certificate, key }) = identity {
                    command.arg("--tls").args([certificate, key]);
                }
                command
            }
            PythonThreading => python("ThreadingTCPServer")?,
            PythonForking => python("ForkingTCPServer")?,
            PythonDatagram => python("ThreadingUDPServer")?,
            WasmtimeServe => wasmtime_serve()?,
            InetdWasmtime => inetd(&["wasmtime", "run", CAT_WAT])?,
            InetdCat => inetd(&["cat"])?,
        })
    }
}

/// `plugsock serve` with a cache of the benchmark's.
pub fn serve(address: &str, strategy: &str, cache: &str) -> io::Result<Command> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_plugsock"));
    command.args(["serve", address, "--concurrency", strategy]);
    command.arg("--cache-dir").arg(report::cache(cache)?.directory);
    Ok(command)
}

/// What a program exits with when it does not know an option, such as a strategy.
const USAGE_ERROR: i32 = 2;

/// A WASI command that echoes.
const CAT_WAT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/serving/peers/cat.wat");

const SOCKETSERVER_ECHO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/serving/peers/echo.py");

/// The interpreter itself, since `python3` may be a script that looks for one.
static PYTHON: LazyLock<Option<String>> = LazyLock::new(|| {
    let print = "import sys; print(sys.executable)";
    let output = Command::new("python3").args(["-c", print]).output().ok()?;
    Some(String::from_utf8(output.stdout).ok()?.trim().to_owned()).filter(|path| !path.is_empty())
});

fn python(class: &str) -> Result<Command, Failure> {
    let interpreter = PYTHON.as_ref();
    let interpreter =
        interpreter.ok_or_else(|| Failure::Unavailable("no python3 is installed".to_owned()))?;
    let mut command = Command::new(interpreter);
    command.args([SOCKETSERVER_ECHO, class, &REQUEST_QUEUE_SIZE.to_string()]);
    Ok(command)
}

/// `wasmtime serve` with what the component imports, and as it is otherwise, except that it says on its standard output that
/// it is ready.
fn wasmtime_serve() -> Result<Command, Failure> {
    installed("wasmtime")?;
    let mut command = Command::new("sh");
    command.args(["-c", "exec \"$@\" 2>&1", "sh", "wasmtime", "serve", "-Scli", "--addr", "127.0.0.1:0"]);
    command.arg(made::http()?);
    Ok(command)
}

fn installed(program: &str) -> Result<(), Failure> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    if std::env::split_paths(&path).any(|directory| Path::new(&directory).join(program).is_file()) {
        return Ok(());
    }
    Err(Failure::Unavailable(format!("no {program} is installed")))
}

fn inetd(program: &[&str]) -> Result<Command, Failure> {
    installed(program[0])?;
    let mut command = Process::role("inetd")?;
    command.arg("--").args(program);
    Ok(command)
}

/// The address in a line of the kind `ready tcp://127.0.0.1:8000`, which may go on, or, as wasmtime has it,
/// `Serving HTTP on http://127.0.0.1:8000/`.
fn address(line: &str) -> anyhow::Result<SocketAddr> {
    let words = line.strip_prefix("ready ").or_else(|| line.strip_prefix("Serving HTTP on "));
    let address = words.and_then(|words| words.split_whitespace().next());
    let (_, address) =
        address.and_then(|address| address.split_once("://")).ok_or_else(|| anyhow!("it said {line:?}"))?;
    Ok(address.trim_end_matches('/').parse()?)
}

impl fmt::Display for Contender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Plugsock(strategy) => strategy,
            PlugsockReuse(strategy) => return write!(f, "{strategy}-reuse"),
            Made(strategy, language) => return write!(f, "{strategy}-{language}"),
            NativeSync => "native-sync",
            NativeThread => "native-thread",
            NativeAccept => "native-accept",
            NativeFork => "native-fork",
            NativeTokio => "native-tokio",
            NativeDatagram => "native-datagram",
            PythonThreading => "python-threading",
            PythonForking => "python-forking",
            PythonDatagram => "python-datagram",
            NativeHyper => "native-hyper",
            WasmtimeServe => "wasmtime-serve",
            InetdWasmtime => "inetd-wasmtime",
            InetdCat => "inetd-cat",
        })
    }
}
