//! How what is in memory goes along to a process that takes over: at any time one of the two has it, and does what both are asked.
//!
//! ```text
//!  old process                                          new process
//!  operations wait; all entries ──────────────────────▶ has them
//!  goes on, or has them again  ◀─────────────────────── is ready, or has failed
//!  operations of requests that are still open here ───▶ are done
//! ```

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use rustix::net::RecvFlags;
use serde::{Deserialize, Serialize};

use super::limits::Quota;
use super::memory::{Asked, Moving, gone};
use super::operation::Operation;
use super::url::StoreUrl;
use super::{Backend, Failure, Outcome, registry};
use crate::block_on::block_on;
use crate::helper_process::{message_buffer, message_pair, recv, send};
use crate::packed::Packed;

/// Whether this process has any store in its memory.
pub(crate) fn has_memory() -> bool {
    !registry::in_memory().is_empty()
}

/// A store in this process's memory on its way to another process. Dropped, it is here again.
#[derive(Debug)]
pub(crate) struct Departure {
    name: String,
    moving: Moving,
    there: Sender<Asked>,
    /// For the other process, which is asked by it later.
    socket: OwnedFd,
}

/// All of a store. Beside it the socket by which it is asked for, and a file if there is one.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Arrival {
    name: String,
    entries: Packed,
}

impl Departure {
    /// Of all stores; from here on their operations wait.
    pub(crate) fn begin() -> io::Result<Vec<Self>> {
        let begun = registry::in_memory().into_iter().map(|(name, memory)| {
            let (there, asked) = channel();
            let (own, socket) = message_pair()?;
            thread::Builder::new().name("state-there".to_owned()).spawn(move || ask_all(&own, &asked))?;
            Ok(memory.begin_to_move().map(|moving| Self { name, moving, there, socket }))
        });
        begun.filter_map(io::Result::transpose).collect()
    }

    /// What the other process is to get, with what goes beside it.
    pub(crate) fn arrival(&self) -> io::Result<(Arrival, Vec<OwnedFd>)> {
        let (entries, file) = Packed::pack(self.moving.entries())?;
        let beside = std::iter::once(self.socket.try_clone()?).chain(file).collect();
        Ok((Arrival { name: self.name.clone(), entries }, beside))
    }

    /// The other process has it, and serves.
    pub(crate) fn finish(self) {
        self.moving.finish(self.there);
    }
}

/// Has the other process do what is asked, until there is nobody here who asks.
fn ask_all(socket: &OwnedFd, asked: &Receiver<Asked>) {
    for Asked { operation, quota, reply } in asked {
        if !reply.is_closed() {
            let _ = reply.send(ask(socket, &(operation, quota)).unwrap_or_else(|_| Err(gone())));
        }
    }
}

fn ask(socket: &OwnedFd, asked: &(Operation, Quota)) -> io::Result<Outcome> {
    send_packed(socket, asked)?;
    let answered = recv::<Packed>(socket, &mut message_buffer(), RecvFlags::empty())?;
    let (answer, fds) = answered.ok_or(io::ErrorKind::UnexpectedEof)?;
    answer.unpack(fds.into_iter().next(), u64::MAX)
}

fn send_packed(socket: &OwnedFd, value: &impl Serialize) -> io::Result<()> {
    let (packed, file) = Packed::pack(value)?;
    let beside: Vec<_> = file.iter().map(AsFd::as_fd).collect();
    send(socket, &packed, &beside)
}

impl Arrival {
    /// Has what the process before this one had, and does what that still has to ask.
    pub(crate) fn take_over(self, beside: Vec<OwnedFd>) -> io::Result<()> {
        let mut beside = beside.into_iter();
        let socket = beside.next().ok_or_else(|| io::Error::other("a store's socket is missing"))?;
        let entries: BTreeMap<String, Vec<u8>> = self.entries.unpack(beside.next(), u64::MAX)?;
        let store = registry::open_by(&self.name, &StoreUrl::Memory).map_err(io::Error::other)?;
        if let Some(memory) = store.as_memory() {
            memory.take_over(entries);
        }
        thread::Builder::new().name("state-here".to_owned()).spawn(move || answer_all(&socket, &store))?;
        Ok(())
    }
}

/// Does what another process asks, until that ends.
fn answer_all(socket: &OwnedFd, store: &Arc<dyn Backend>) {
    let mut buffer = message_buffer();
    while let Ok(Some((asked, fds))) = recv::<Packed>(socket, &mut buffer, RecvFlags::empty()) {
        let outcome = match asked.unpack::<(Operation, Quota)>(fds.into_iter().next(), u64::MAX) {
            Ok((operation, quota)) => block_on(store.run(operation, quota)),
            Err(error) => Err(Failure::other(error)),
        };
        if send_packed(socket, &outcome).is_err() {
            return;
        }
    }
}
