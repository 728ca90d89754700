//! Errors, by whose fault they are: the operator's, who starts a server; the guest's and the client's, which
//! end one request; and the host's own.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::address::{AddressError, ServeAddress, ServerType};
use crate::request::MinRate;

/// Why a server could not be bound: the operator's to mend.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The address itself is wrong.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// The system refused the address.
    #[error("cannot serve {}: {}", one_line(.address), one_line(.reason))]
    Refused {
        /// What was to be bound.
        address: String,
        /// Why not, and what to do.
        reason: String,
    },
    /// An adopted socket is not of the server's type.
    #[error("the socket given is {}, not one for a {wanted:?} server", found.map_or("of another kind".to_owned(), |found| format!("one for a {found:?} server")))]
    WrongSocket {
        /// The server type that was asked for.
        wanted: ServerType,
        /// The one that the socket suits.
        found: Option<ServerType>,
    },
    /// It is to be protected by TLS, and there is no certificate.
    #[error("cannot serve {}: TLS needs a certificate: give --tls NAME=CERT.pem,KEY.pem (`plugsock keygen --tls` makes them)", one_line(.0))]
    NoCertificate(String),
    /// A system call failed that has no reason to.
    #[error("cannot prepare the socket")]
    Socket(#[from] io::Error),
}

impl BindError {
    pub(crate) fn new(address: &ServeAddress, error: io::Error) -> Self {
        use io::ErrorKind::{AddrInUse, AddrNotAvailable, NotFound, PermissionDenied};
        let is_unix = matches!(address.server_type(), ServerType::UnixStream | ServerType::UnixDatagram);
        let reason = match error.kind() {
            AddrInUse => "another server uses this address; stop it or choose another".to_owned(),
            AddrNotAvailable => "this machine has no such address; `ip addr` lists those it has".to_owned(),
            PermissionDenied if is_unix => {
                "permission denied: its directory must be writable for you".to_owned()
            }
            PermissionDenied => {
                "permission denied: ports below 1024 need root or CAP_NET_BIND_SERVICE".to_owned()
            }
            NotFound if is_unix => "its directory does not exist; create it first".to_owned(),
            _ => error.to_string(),
        };
        Self::Refused { address: address.to_string(), reason }
    }
}

/// Why a handler cannot be served: its author's or the operator's to mend.
#[derive(Debug, thiserror::Error)]
pub enum HandlerError {
    /// The file cannot be read.
    #[error("cannot read handler {}: {reason}", one_line(.name))]
    Read {
        /// The file.
        name: String,
        /// Why not.
        reason: io::Error,
    },
    /// The registry does not give it.
    #[error("cannot fetch handler {}: {}", one_line(.name), one_line(.reason))]
    Fetch {
        /// The reference.
        name: String,
        /// Why not, and what to do.
        reason: String,
    },
    /// The file is not one that the operator trusts: see [`Trust`](crate::Trust).
    #[error("will not load handler {}: {}", one_line(.name), one_line(.reason))]
    Untrusted {
        /// The file.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The file is no WebAssembly component of this contract, or asks for what the host does not have.
    #[error("cannot serve handler {}: {}", one_line(.name), one_line(.reason))]
    Unfit {
        /// The file.
        name: String,
        /// What is wrong with it, and what to do.
        reason: String,
    },
}

/// Why a version did not take another's place. The one before serves on.
#[derive(Debug, thiserror::Error)]
pub enum SwapError {
    /// The component cannot be served at all.
    #[error(transparent)]
    Handler(#[from] HandlerError),
    /// It did not serve the probe as it should.
    #[error("the probe of {} {}", one_line(.server), one_line(.reason))]
    Probe {
        /// The server that it was probed for.
        server: String,
        /// What went wrong.
        reason: String,
    },
    /// While it waited for its turn another swap was asked for.
    #[error("a later swap has taken its place")]
    Superseded,
    /// The component was rolled back before.
    #[error("{digest} was rolled back before, because {}; `plugsock ctl swap --force` has it tried again", one_line(.reason))]
    Refused {
        /// The component's SHA-256.
        digest: String,
        /// Why it was rolled back.
        reason: String,
    },
    /// The system refuses what the new version needs.
    #[error("cannot make the new version ready: {0}")]
    Prepare(io::Error),
    /// The slot has had one version, or the one before was rolled back.
    #[error("there is no version to go back to: put one in place with `plugsock ctl swap`")]
    NothingBefore,
    /// Nothing to promote or abort.
    #[error("no canary is on trial: `plugsock ctl swap FILE --canary SHARE` begins one")]
    NoCanary,
    /// It is unclear what a rollback is to replace.
    #[error("a canary is on trial: promote or abort it first")]
    CanaryOnTrial,
}

/// Why the sandbox could not be set up: the operator's to mend.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// wasmtime refuses the limits.
    #[error("cannot set up the sandbox: {}", one_line(.0))]
    Engine(String),
    /// A handler may have more than its sandbox has room for.
    #[error(
        "a handler's --{limit} of {asked} is more than the {room} that the engine was started with room for; start anew \
         with room for it"
    )]
    NoRoom {
        /// The limit, by its option's name.
        limit: &'static str,
        /// What a handler is to have of it.
        asked: usize,
        /// What there is room for.
        room: usize,
    },
    /// The directory for core dumps cannot be used.
    #[error("cannot keep core dumps in {}: {reason}", one_line(.path))]
    CoreDumps {
        /// The directory.
        path: String,
        /// Why not.
        reason: io::Error,
    },
    /// A granted store cannot be opened.
    #[error("cannot grant --state {}: {}", one_line(.grant), one_line(.reason))]
    State {
        /// The grant.
        grant: String,
        /// Why not.
        reason: String,
    },
    /// A granted directory cannot be used.
    #[error("cannot grant directory {}: {reason}", one_line(.path))]
    Directory {
        /// The directory on the host.
        path: String,
        /// Why not.
        reason: io::Error,
    },
}

/// Why `serve_forever` or `handle_request` gave up.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The server is closed.
    #[error("the server is closed")]
    Closed,
    /// `serve_forever` runs already, in another thread.
    #[error("the server is being served by another thread already")]
    Busy,
    /// The listening socket is unusable: a bug of the host, or of whoever supplied the socket.
    #[error("cannot wait for requests: {0}")]
    Listener(io::Error),
    /// What the strategy needs could not be had.
    #[error("cannot start {0}: {1}")]
    Strategy(&'static str, io::Error),
}

/// The part of a request in which it failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// Before the handler: the `verify-request` hook.
    Verify,
    /// Before the handler: the TLS handshake of a listener.
    Handshake,
    /// Making the instance.
    Instantiate,
    /// The handler's `setup`.
    Setup,
    /// The handler's `handle`.
    Handle,
    /// The handler's `finish`.
    Finish,
}

impl Phase {
    pub(crate) const ALL: [Self; 6] =
        [Self::Verify, Self::Handshake, Self::Instantiate, Self::Setup, Self::Handle, Self::Finish];

    /// Those that are the handler's own.
    pub(crate) const OF_HANDLER: [Self; 4] = [Self::Instantiate, Self::Setup, Self::Handle, Self::Finish];
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Verify => "verify-request",
            Self::Handshake => "TLS handshake",
            Self::Instantiate => "instantiate",
            Self::Setup => "setup",
            Self::Handle => "handle",
            Self::Finish => "finish",
        })
    }
}

/// A limit that a request reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum Limit {
    /// Linear memory, in bytes.
    #[error("memory limit of {0} bytes reached")]
    Memory(usize),
    /// The stack of its code, in bytes.
    #[error("stack limit of {0} bytes reached")]
    Stack(usize),
    /// Elements of all tables.
    #[error("table limit of {0} elements reached")]
    Table(usize),
    /// Contract and WASI resources held at once.
    #[error("limit of {0} resources reached")]
    Resources(usize),
    /// Bytes in one call to the host.
    #[error("limit of {0} bytes in one call reached")]
    CallBytes(usize),
    /// Wall-clock time for the whole request.
    #[error("time limit of {0:?} reached")]
    Time(Duration),
    /// CPU time for the whole request.
    #[error("CPU time limit of {0:?} reached")]
    CpuTime(Duration),
    /// How long one `recv` or `send` waits for the client.
    #[error("idle time limit of {0:?} reached")]
    IdleTime(Duration),
    /// How long a TLS handshake may take.
    #[error("TLS handshake limit of {0:?} reached")]
    TlsHandshake(Duration),
    /// How fast the client must be.
    #[error("it was slower than {0}")]
    MinRate(MinRate),
    /// The server is closing and waits no longer.
    #[error("cut off because the server closes")]
    Closing,
    /// The version that serves it was replaced, and has had its time to drain.
    #[error("cut off because its version was replaced and has drained for long enough")]
    Draining,
}

impl Limit {
    /// Its name, for counters.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Memory(_) => "memory",
            Self::Stack(_) => "stack",
            Self::Table(_) => "table-elements",
            Self::Resources(_) => "resources",
            Self::CallBytes(_) => "call-bytes",
            Self::Time(_) => "request-time",
            Self::CpuTime(_) => "cpu-time",
            Self::IdleTime(_) => "idle-time",
            Self::TlsHandshake(_) => "tls-handshake",
            Self::MinRate(_) => "min-rate",
            Self::Closing => "closing",
            Self::Draining => "draining",
        }
    }

    /// What ends a request by no fault of the handler's.
    pub(crate) const CUTS: [Self; 2] = [Self::Closing, Self::Draining];

    pub(crate) fn is_a_cut(&self) -> bool {
        Self::CUTS.contains(self)
    }

    /// Whether it was the client's to keep.
    pub(crate) fn is_the_clients(&self) -> bool {
        matches!(self, Self::IdleTime(_) | Self::MinRate(_) | Self::TlsHandshake(_))
    }
}

/// Whose fault a failed request is, and what happened.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Cause {
    /// The handler returned an error.
    Error(String),
    /// The handler trapped; with the WebAssembly backtrace.
    Trap {
        /// The kind of trap, in words.
        message: String,
        /// One frame a line, innermost first.
        backtrace: String,
        /// Where each of them is in the component's file, in bytes.
        offsets: Vec<u64>,
        /// The file with its core dump, if there is one.
        core_dump: Option<PathBuf>,
    },
    /// The handler or the client reached a limit.
    Limit(Limit),
    /// The client broke the connection off, or was silent for longer than the handler would wait.
    Client(String),
    /// The client and the server did not come to terms in TLS, or the client broke its rules later.
    Tls(String),
    /// The host could not serve it.
    Host(String),
}

impl Cause {
    /// What [`name`](Self::name) may say.
    pub(crate) const NAMES: [&str; 7] = ["error", "trap", "limit", "cut", "client", "tls", "host"];

    /// Its name's place among them.
    pub(crate) fn number(&self) -> usize {
        match self {
            Self::Error(_) => 0,
            Self::Trap { .. } => 1,
            Self::Limit(limit) if !limit.is_a_cut() => 2,
            Self::Limit(_) => 3,
            Self::Client(_) => 4,
            Self::Tls(_) => 5,
            Self::Host(_) => 6,
        }
    }

    /// Its name, for counters.
    pub(crate) fn name(&self) -> &'static str {
        Self::NAMES[self.number()]
    }

    /// Whether it was the client's doing.
    pub(crate) fn is_the_clients(&self) -> bool {
        match self {
            Self::Client(_) | Self::Tls(_) => true,
            Self::Limit(limit) => limit.is_the_clients(),
            Self::Error(_) | Self::Trap { .. } | Self::Host(_) => false,
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Error(message) => write!(f, "handler error: {}", one_line(message)),
            Self::Trap { message, .. } => write!(f, "handler trapped: {}", one_line(message)),
            Self::Limit(limit) if limit.is_the_clients() => write!(f, "client dropped: {limit}"),
            Self::Limit(limit) => write!(f, "handler stopped: {limit}"),
            Self::Client(message) => write!(f, "client went or fell silent: {}", one_line(message)),
            Self::Tls(message) => f.write_str(&one_line(message)),
            Self::Host(message) => write!(f, "host error: {}", one_line(message)),
        }
    }
}

/// Why a request failed. It ends that request alone.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RequestError {
    /// Where.
    pub phase: Phase,
    /// What, and whose fault.
    pub cause: Cause,
}

impl RequestError {
    pub(crate) fn host(phase: Phase, message: String) -> Self {
        Self { phase, cause: Cause::Host(message) }
    }
}

impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in {}", self.cause, self.phase)
    }
}

impl std::error::Error for RequestError {}

/// Whether the system has run out of something that others will give back: descriptors, or memory of the kernel's.
pub(crate) fn is_exhausted(error: &io::Error) -> bool {
    let exhausted = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM];
    Errno::from_io_error(error).is_some_and(|errno| exhausted.contains(&errno))
}

/// A text from outside with its control characters escaped, so that it stays one line and moves no cursor.
pub fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\t' => line.push('\t'),
            control if control.is_control() => line.extend(control.escape_default()),
            other => line.push(other),
        }
    }
    line
}

/// An error with what caused it, in one line.
pub fn causes(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source()).map(ToString::to_string);
    let mut words: Vec<String> = Vec::new();
    for cause in causes {
        // Many say their cause themselves.
        if !words.iter().any(|said| said.contains(&cause)) {
            words.push(cause);
        }
    }
    one_line(&words.join(": "))
}

/// A path, in one line.
pub fn shown(path: &Path) -> String {
    one_line(&path.display().to_string())
}

/// The most that is kept of one text from outside, in bytes.
const EXCERPT_MAX: usize = 8 * 1024;

/// A text from outside, without its end if it is long; says how much of it is missing.
pub(crate) fn excerpt(text: &str) -> String {
    excerpt_of(text, EXCERPT_MAX)
}

/// Likewise, with so many bytes of it.
pub(crate) fn excerpt_of(text: &str, max: usize) -> String {
    if text.len() <= max {
        return text.to_owned();
    }
    let kept = &text[..text.floor_char_boundary(max)];
    format!("{kept} [and {} bytes more]", text.len() - kept.len())
}
