//! State that outlives requests: the stores that handlers are granted by name, whoever keeps them.
//!
//! ```text
//!  a guest ─▶ sandbox/keyvalue ─▶ Access: grant, limits, count ─▶ Backend: memory, file, Redis, NATS
//!  a forked child's guest ─▶ fork_server ─▶ its host ─▶ ┘
//! ```
//!
//! A store is opened once in a process, however many handlers name it, and closed with the last of them.

mod access;
mod backoff;
mod entries;
mod file;
mod grant;
mod limits;
mod memory;
mod moving;
mod nats;
mod operation;
mod operator;
mod redis;
mod registry;
mod server;
mod url;

use std::fmt::Debug;
use std::future::{Future, ready};
use std::pin::Pin;

use tokio_util::task::AbortOnDropHandle;

pub(crate) use access::Access;
pub use file::close_stores;
pub use grant::{StateGrant, StateGrantError};
pub use limits::StateLimits;
pub(crate) use moving::{Arrival, Departure, has_memory};
pub(crate) use operation::{Answer, Failure, Operation};
pub use operator::{OpenStore, StoreError};
pub(crate) use registry::counts;
pub use server::advised;
pub use url::{StoreUrl, StoreUrlError};

use crate::runtime;
use limits::Quota;
use memory::Memory;

/// What comes of an operation.
pub(crate) type Outcome = Result<Answer, Failure>;

/// Where a store's entries are kept. Grants and limits were looked at before, but for what only the store knows: how much it
/// holds.
pub(crate) trait Backend: Debug + Send + Sync {
    /// Runs one operation, which is atomic if it is about one key. It never blocks the thread for long; whoever gives up
    /// waiting drops it, and need not know what has become of it.
    fn run(&self, operation: Operation, quota: Quota) -> Running<'_>;

    /// Itself, if it is in this process's memory.
    fn as_memory(&self) -> Option<&Memory> {
        None
    }
}

/// An operation under way.
pub(crate) type Running<'a> = Pin<Box<dyn Future<Output = Outcome> + Send + 'a>>;

/// Has an operation run where connections are driven. It ends with whoever waits for it.
fn on_runtime(operation: impl Future<Output = Outcome> + Send + 'static) -> Running<'static> {
    match runtime::spawn(operation) {
        Ok(task) => {
            let task = AbortOnDropHandle::new(task);
            Box::pin(async { task.await.unwrap_or_else(|error| Err(Failure::other(error))) })
        }
        Err(error) => Box::pin(ready(Err(Failure::other(error)))),
    }
}
