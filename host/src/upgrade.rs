//! Seamless restart: a new process of this program takes the bound sockets over, and the old one ends when the
//! new one is ready.
//!
//! ```text
//!  old process                                  new process
//!  starts the executable anew ────────────────▶ is told what it takes over
//!  sends sockets, locks, components ──────────▶ loads handlers, adopts the sockets, starts to accept
//!  sends what is in memory      ◀────────────── asks for it
//!  stops accepting, serves what it has ◀─────── says that it is ready
//! ```
//!
//! Both accept for a moment, so no client is refused. If the new process ends before it is ready, or is not
//! ready in time, the old one serves on.

use std::io::{self, Read};
use std::mem::take;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use serde::{Deserialize, Serialize};

use crate::address::ServeAddress;
use crate::child_process::ChildProcess;
use crate::control::ControlSocket;
use crate::error::{HandlerError, shown};
use crate::events::{EventKind, emit};
use crate::helper_process::Channel;
pub use crate::listener::HandedSocket;
use crate::listener::{Listener, SocketOptions};
use crate::metrics::MetricsSocket;
use crate::sandbox::{Handler, Origin, Sandbox};
use crate::server::Server;
use crate::slot::{Slot, SlotOptions};
use crate::stores::{Arrival, Departure, has_memory};
use crate::tls::{Sessions, Tls};
use crate::wake::poll_until;

/// Marks the process that takes over.
const MARKER: &str = "PLUGSOCK_UPGRADE";

/// How long the new process may take to be ready; it may have to compile its handlers.
const READY_TIME: Duration = Duration::from_secs(600);

/// How long it may take from what was in memory on, for which operations wait meanwhile.
const MEMORY_TIME: Duration = Duration::from_secs(30);

/// A slot as the old process served it. A canary on trial is not handed over.
#[derive(Debug)]
pub struct HandedSlot {
    /// Its name.
    pub name: String,
    /// What its watcher last saw of the file that it is told to serve, in bytes that mean something to the program
    /// alone.
    pub seen: Option<Vec<u8>>,
    handler: HandedHandler,
    /// The component of that handler, sealed; `None` for the built-in echo, or where it could not be kept.
    component: Option<OwnedFd>,
    /// The generation that served last.
    generation: u64,
    /// Digests that were rolled back by themselves, and why.
    refused: Vec<(String, String)>,
    /// The digest of a canary on trial.
    canary: Option<String>,
}

/// The handler that a slot gave all new requests that were not a canary's.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct HandedHandler {
    name: String,
    /// Where it was loaded from, as [`Origin`] writes it; `None` for the built-in echo.
    origin: Option<Vec<u8>>,
    digest: String,
}

impl HandedSlot {
    /// A slot as it serves now.
    pub fn of(slot: &Slot) -> io::Result<Self> {
        // What serves before what is refused: a rollback refuses before it publishes.
        let (handler, canary) = slot.serving();
        let component = handler.component().map(|component| component.try_clone_to_owned()).transpose()?;
        Ok(Self {
            name: slot.name().to_owned(),
            seen: None,
            handler: HandedHandler {
                name: handler.name().to_owned(),
                origin: handler.origin().map(Origin::to_bytes),
                digest: handler.digest().to_owned(),
            },
            component,
            generation: slot.last_generation(),
            refused: slot.refused(),
            canary: canary.map(|canary| canary.digest().to_owned()),
        })
    }

    /// Loads the handler that served: the component itself if it came along, or else its file, which must be the
    /// same still.
    pub fn load(&self, sandbox: &Sandbox) -> Result<Handler, HandlerError> {
        let HandedHandler { name, origin, digest } = &self.handler;
        let origin = origin.as_deref().map(Origin::from_bytes);
        let unreadable = |reason| HandlerError::Read { name: name.clone(), reason };
        match (&self.component, origin) {
            (Some(component), origin) => {
                let component = component.try_clone().map_err(unreadable)?;
                sandbox.load_handed_over(name, origin, component)
            }
            (None, Some(Origin::File(file))) => {
                let digest = digest.parse().map_err(|error| unreadable(io::Error::other(error)))?;
                sandbox.load_pinned(file, digest).map_err(|error| match error {
                    HandlerError::Untrusted { name, reason } => HandlerError::Untrusted {
                        name,
                        reason: format!(
                            "{reason}, since that serves and could not be kept in memory; swap to the file \
                             first, or put the other back"
                        ),
                    },
                    other => other,
                })
            }
            (None, Some(Origin::Registry(reference))) => Err(HandlerError::Fetch {
                name: reference,
                reason: "it serves, could not be kept in memory, and is not fetched again in an upgrade: swap to a file \
                         first, or restart"
                    .to_owned(),
            }),
            (None, None) => sandbox.echo(),
        }
    }

    /// The slot, going on with this handler under a new generation, and refusing what it refused.
    pub fn resume(&self, handler: Handler, options: SlotOptions) -> io::Result<Slot> {
        let slot = Slot::beginning_with(self.generation + 1, handler, options)?;
        self.refused.iter().for_each(|(digest, reason)| slot.refuse(digest.clone(), reason.clone()));
        Ok(slot)
    }
}

/// From the old process to the new one.
#[derive(Debug, Serialize, Deserialize)]
enum Handed {
    /// Beside it a bound socket and, where it has one, its lock.
    Socket { address: String },
    /// Beside it the handler's component, if it was kept.
    Slot {
        name: String,
        seen: Option<Vec<u8>>,
        handler: HandedHandler,
        generation: u64,
        refused: Vec<(String, String)>,
    },
    /// Beside it the control socket and its lock.
    Control,
    /// There is no more.
    End,
    /// What sessions of TLS are resumed by. From here on new ones come last, since older processes know the others by their
    /// numbers.
    Tickets(Sessions),
    /// Beside it the socket for metrics and, where it has one, its lock.
    Metrics { address: String },
    /// Of the sockets those that somebody else has bound for a process before. Older processes do not say it.
    Inherited { addresses: Vec<String> },
    /// Before tickets, where there are several: of which certificates they are, by their digests.
    Certificates(Vec<Vec<u8>>),
    /// There are stores in memory, which the new process asks for when all else is ready.
    Memory,
    /// One of them.
    Store(Arrival),
}

/// What the new process says.
#[derive(Debug, Serialize, Deserialize)]
enum Answer {
    Ready,
    /// It wants what is in memory, and is ready soon.
    Memory,
}

/// All that a process hands over to the one that takes its place.
#[derive(Debug)]
pub struct HandOver<'a> {
    /// Each under the address that it was asked to bind.
    pub servers: Vec<(ServeAddress, &'a Server)>,
    /// Those of their addresses that somebody else has bound, and who takes over serves whatever it is told.
    pub inherited: Vec<ServeAddress>,
    /// What they serve.
    pub slots: Vec<HandedSlot>,
    /// What sessions of TLS are resumed by, of each in its order.
    pub tls: Vec<&'a Tls>,
    /// Handed over if it has a path of its own: any other is named for its process.
    pub control: Option<&'a ControlSocket>,
    /// No longer served here afterwards.
    pub metrics: Option<&'a MetricsSocket>,
}

impl HandOver<'_> {
    /// Starts `successor` and hands everything over to it. Returns the new process's id when it serves; the caller then
    /// closes its servers.
    pub fn to(self, successor: Command) -> io::Result<u32> {
        emit(|| EventKind::Upgrading {});
        let upgraded = self.start(successor);
        emit(|| match &upgraded {
            Ok(pid) => EventKind::Upgraded { pid: *pid },
            Err(error) => EventKind::NotUpgraded { reason: error.to_string() },
        });
        upgraded
    }

    fn start(mut self, mut successor: Command) -> io::Result<u32> {
        self.control = self.control.filter(|control| control.is_named());
        let (channel, given) = Channel::pair()?;
        // Not kept: the end of the channel that it was given shows that it has ended.
        let spawned = ChildProcess::start(
            // What its supervisor wants to hear is asked of whoever is the main process.
            successor.env(MARKER, "1").env_remove("WATCHDOG_PID").stdin(Stdio::from(given)),
        );
        let mut process = spawned.map_err(|error| cannot_start(&successor, error))?;
        // With it goes the end of the channel that is the other process's.
        drop(successor);
        match self.send_all(&channel).and_then(|()| wait_until_ready(&channel)) {
            Ok(departed) => {
                departed.into_iter().for_each(Departure::finish);
                self.let_go();
                Ok(process.id())
            }
            Err(error) => {
                let reason = match error.kind() {
                    io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => {
                        "it ended before it was ready".to_owned()
                    }
                    _ => error.to_string(),
                };
                Err(io::Error::other(format!("{reason}{}", end(&mut process))))
            }
        }
    }

    fn send_all(&self, channel: &Channel) -> io::Result<()> {
        for (address, server) in &self.servers {
            send_socket(channel, &Handed::Socket { address: address.to_string() }, &server.hand_out()?)?;
        }
        let addresses = self.inherited.iter().map(ToString::to_string).collect();
        channel.send(&Handed::Inherited { addresses }, &[])?;
        for tls in &self.tls {
            if self.tls.len() > 1 {
                channel.send(&Handed::Certificates(tls.certificates()), &[])?;
            }
            channel.send(&Handed::Tickets(tls.sessions()), &[])?;
        }
        if let Some(control) = self.control {
            send_socket(channel, &Handed::Control, &control.hand_out()?)?;
        }
        if let Some(metrics) = self.metrics {
            let address = metrics.asked().to_string();
            send_socket(channel, &Handed::Metrics { address }, &metrics.hand_out()?)?;
        }
        for slot in &self.slots {
            let handed = Handed::Slot {
                name: slot.name.clone(),
                seen: slot.seen.clone(),
                handler: slot.handler.clone(),
                generation: slot.generation,
                refused: slot.refused.clone(),
            };
            let component: Vec<_> = slot.component.iter().map(AsFd::as_fd).collect();
            channel.send(&handed, &component)?;
        }
        if has_memory() {
            channel.send(&Handed::Memory, &[])?;
        }
        channel.send(&Handed::End, &[])
    }

    /// From here on the other process owns all of it.
    fn let_go(&self) {
        for HandedSlot { name, canary, .. } in &self.slots {
            if let Some(digest) = canary {
                tracing::warn!(slot = name, "the canary is given up: {digest} was not handed over");
            }
        }
        self.servers.iter().for_each(|(_, server)| server.set_owned(false));
        self.control.inspect(|control| {
            control.set_owned(false);
            control.stop();
        });
        self.metrics.inspect(|metrics| {
            metrics.set_owned(false);
            metrics.stop();
        });
    }
}

fn cannot_start(command: &Command, error: io::Error) -> io::Error {
    let executable = shown(Path::new(command.get_program()));
    io::Error::new(error.kind(), format!("cannot start {executable}: {error}"))
}

/// How long a program may take to say which it is.
const VERSION_TIME: Duration = Duration::from_secs(10);

/// The most of that which is read.
const VERSION_MAX: usize = 4096;

/// What a program says of its version (`--version`), if it runs here at all.
pub fn version_of(executable: &Path) -> io::Result<String> {
    let (said, given) = io::pipe()?;
    let mut command = Command::new(executable);
    command.arg("--version").env_remove(MARKER).stdin(Stdio::null()).stderr(Stdio::null()).stdout(given);
    let mut process = ChildProcess::start(&mut command).map_err(|error| cannot_start(&command, error))?;
    // With it goes this process's own end for writing.
    drop(command);
    let deadline = Instant::now() + VERSION_TIME;
    let mut text = Vec::new();
    let mut part = [0; VERSION_MAX];
    let read = loop {
        match poll_until(&mut [PollFd::new(&said, PollFlags::IN)], Some(deadline)) {
            Ok(false) => break Err(io::Error::other(format!("it does not end within {VERSION_TIME:?}"))),
            Err(error) => break Err(error),
            Ok(true) => match (&said).read(&mut part) {
                Ok(0) => break Ok(()),
                Ok(length) if text.len() + length > VERSION_MAX => {
                    break Err(io::Error::other("it says too much"));
                }
                Ok(length) => text.extend_from_slice(&part[..length]),
                Err(error) => break Err(error),
            },
        }
    };
    if read.is_err() {
        process.kill();
    }
    let ended = end(&mut process);
    read.map_err(|error| io::Error::new(error.kind(), format!("{error}{ended}")))?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// What has gone to the new process meanwhile, and is there when it serves.
fn wait_until_ready(channel: &Channel) -> io::Result<Vec<Departure>> {
    let mut departed = Vec::new();
    match wait_for_answer(channel, READY_TIME)? {
        Answer::Ready => return Ok(departed),
        Answer::Memory => departed.extend(Departure::begin()?),
    }
    for departure in &departed {
        let (arrival, beside) = departure.arrival()?;
        let beside: Vec<_> = beside.iter().map(AsFd::as_fd).collect();
        channel.send(&Handed::Store(arrival), &beside)?;
    }
    channel.send(&Handed::End, &[])?;
    match wait_for_answer(channel, MEMORY_TIME)? {
        Answer::Ready => Ok(departed),
        Answer::Memory => Err(io::Error::other("it asks twice for what is in memory")),
    }
}

fn wait_for_answer(channel: &Channel, time: Duration) -> io::Result<Answer> {
    let mut fds = [PollFd::new(channel, PollFlags::IN)];
    if !poll_until(&mut fds, Some(Instant::now() + time))? {
        return Err(io::Error::other(format!("it was not ready within {time:?}")));
    }
    let answered = channel.recv()?;
    answered.map(|(answer, _)| answer).ok_or_else(|| io::ErrorKind::BrokenPipe.into())
}

fn send_socket(
    channel: &Channel,
    what: &Handed,
    HandedSocket { socket, lock }: &HandedSocket,
) -> io::Result<()> {
    let fds: Vec<_> = std::iter::once(socket).chain(lock).map(AsFd::as_fd).collect();
    channel.send(what, &fds)
}

/// The socket that came beside a message.
fn received_socket(fds: Vec<OwnedFd>) -> io::Result<HandedSocket> {
    let mut fds = fds.into_iter();
    let socket = fds.next().ok_or_else(|| io::Error::other("a socket is missing"))?;
    Ok(HandedSocket { socket, lock: fds.next() })
}

/// How long a process that has failed may take to say why and to end.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// Sees a process end that must not accept beside this one; how it ended, in words.
fn end(process: &mut ChildProcess) -> String {
    let has_ended = process.pidfd().is_none_or(|pidfd| {
        let mut fds = [PollFd::from_borrowed_fd(pidfd, PollFlags::IN)];
        matches!(poll_until(&mut fds, Some(Instant::now() + LAST_WORDS)), Ok(true))
    });
    if !has_ended {
        process.kill();
    }
    process.wait().map_or(String::new(), |status| format!(" ({status})"))
}

/// What the process before this one handed over.
#[derive(Debug)]
pub struct Predecessor {
    channel: Channel,
    sockets: Vec<(String, HandedSocket)>,
    /// Those of them that somebody else has bound; `None` if that was not said.
    inherited: Option<Vec<String>>,
    slots: Vec<HandedSlot>,
    /// With the digests of the certificates that they belong to; without, where there is no more than one to choose from.
    tickets: Vec<(Vec<Vec<u8>>, Sessions)>,
    control: Option<HandedSocket>,
    metrics: Option<(String, HandedSocket)>,
    /// Whether it has stores in memory, too.
    has_memory: bool,
}

impl Predecessor {
    /// Takes over, if this process was started for it by [`HandOver::to`].
    pub fn take_over() -> io::Result<Option<Self>> {
        if std::env::var_os(MARKER).is_none() {
            return Ok(None);
        }
        let channel = Channel::from_stdin()?;
        let (mut sockets, mut slots, mut tickets) = (Vec::new(), Vec::new(), Vec::new());
        let (mut control, mut metrics, mut inherited) = (None, None, None);
        let (mut certificates, mut has_memory) = (Vec::new(), false);
        loop {
            match channel.recv()? {
                Some((Handed::Socket { address }, fds)) => {
                    sockets.push((address, received_socket(fds)?));
                }
                Some((Handed::Slot { name, seen, handler, generation, refused }, fds)) => {
                    let (component, canary) = (fds.into_iter().next(), None);
                    slots.push(HandedSlot { name, seen, handler, component, generation, refused, canary });
                }
                Some((Handed::Certificates(digests), _)) => certificates = digests,
                Some((Handed::Tickets(keys), _)) => tickets.push((take(&mut certificates), keys)),
                Some((Handed::Control, fds)) => control = Some(received_socket(fds)?),
                Some((Handed::Metrics { address }, fds)) => metrics = Some((address, received_socket(fds)?)),
                Some((Handed::Inherited { addresses }, _)) => inherited = Some(addresses),
                Some((Handed::Memory, _)) => has_memory = true,
                Some((Handed::Store(_), _)) => return Err(io::Error::other("a store has come unasked")),
                Some((Handed::End, _)) => {
                    return Ok(Some(Self {
                        channel,
                        sockets,
                        inherited,
                        slots,
                        tickets,
                        control,
                        metrics,
                        has_memory,
                    }));
                }
                None => return Err(io::Error::other("the process to take over from has gone")),
            }
        }
    }

    /// The socket that was bound for an address, if there was one.
    pub fn socket(&mut self, address: &ServeAddress) -> Option<HandedSocket> {
        let address = address.to_string();
        let index = self.sockets.iter().position(|(other, _)| *other == address)?;
        Some(self.sockets.remove(index).1)
    }

    /// Whether somebody else has bound one of its sockets.
    pub fn has_inherited(&self) -> bool {
        self.sockets.iter().any(|(address, _)| self.is_inherited(address))
    }

    /// The sockets that somebody else has bound, and nobody has asked for by their addresses.
    pub fn inherited(&mut self) -> Vec<(ServeAddress, HandedSocket)> {
        let sockets = take(&mut self.sockets);
        let (inherited, others) = sockets.into_iter().partition(|(address, _)| self.is_inherited(address));
        self.sockets = others;
        let parsed = |(address, socket): (String, _)| Some((address.parse().ok()?, socket));
        Vec::into_iter(inherited).filter_map(parsed).collect()
    }

    fn is_inherited(&self, address: &String) -> bool {
        self.inherited.as_ref().is_none_or(|inherited| inherited.contains(address))
    }

    /// Has sessions resumed that the process before this one has begun with one of these certificates.
    pub fn resume_sessions(&mut self, tls: &Tls) {
        let own = tls.certificates();
        let is_of = |digests: &[Vec<u8>]| digests.is_empty() || digests.iter().any(|it| own.contains(it));
        if let Some(number) = self.tickets.iter().position(|(digests, _)| is_of(digests)) {
            tls.take_over(self.tickets.remove(number).1);
        }
    }

    /// The control socket, if it had a path of its own.
    pub fn control(&mut self) -> Option<HandedSocket> {
        self.control.take()
    }

    /// The socket for metrics, if it was bound for this address.
    pub fn metrics(&mut self, address: &ServeAddress) -> Option<HandedSocket> {
        let (_, socket) = self.metrics.take_if(|(other, _)| *other == address.to_string())?;
        Some(socket)
    }

    /// The slot of this name, if there was one.
    pub fn slot(&self, name: &str) -> Option<&HandedSlot> {
        self.slots.iter().find(|slot| slot.name == name)
    }

    /// From here on what is in memory is here, unless this process fails before it is ready.
    fn take_memory_over(&self) -> io::Result<()> {
        self.channel.send(&Answer::Memory, &[])?;
        loop {
            match self.channel.recv()? {
                Some((Handed::Store(arrival), beside)) => arrival.take_over(beside)?,
                Some((Handed::End, _)) => return Ok(()),
                Some(_) => return Err(io::Error::other("something other than a store has come")),
                None => return Err(io::Error::other("the process to take over from has gone")),
            }
        }
    }

    /// Says that this process serves with `servers`, so that the one before it may end. Sockets that were not asked for are
    /// served no longer.
    pub fn ready(
        self,
        servers: &[Arc<Server>],
        control: Option<&ControlSocket>,
        metrics: Option<&MetricsSocket>,
    ) -> io::Result<()> {
        if self.has_memory {
            self.take_memory_over()?;
        }
        self.channel.send(&Answer::Ready, &[])?;
        servers.iter().for_each(|server| server.set_owned(true));
        control.inspect(|control| control.set_owned(true));
        metrics.inspect(|metrics| metrics.set_owned(true));
        for (address, handed) in self.sockets {
            give_up(&address, handed).map_err(|error| io::Error::other(format!("{address}: {error}")))?;
        }
        Ok(())
    }
}

/// Closes a socket that another process has bound, with its file if it has one.
fn give_up(address: &str, handed: HandedSocket) -> Result<(), Box<dyn std::error::Error>> {
    let address: ServeAddress = address.parse()?;
    let listener = Listener::take_over(handed, address.server_type(), &SocketOptions::default())?;
    tracing::info!("{} is served no longer", listener.address()?);
    listener.set_owned(true);
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_program_says_its_version_or_is_ended() {
        let directory = tempfile::tempdir().unwrap();
        let said = |script: &str| {
            let path = directory.path().join("program");
            fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
            fs::set_permissions(&path, Permissions::from_mode(0o700)).unwrap();
            version_of(&path).map_err(|error| error.to_string())
        };
        assert_eq!(said("echo \"plugsock $1\""), Ok("plugsock --version\n".to_owned()));
        let reason = said("exec yes").unwrap_err();
        assert!(reason.starts_with("it says too much (signal: 9"), "{reason}");
        let nowhere = version_of(Path::new("/nowhere/plugsock")).unwrap_err().to_string();
        assert!(nowhere.starts_with("cannot start /nowhere/plugsock: "), "{nowhere}");
    }
}
