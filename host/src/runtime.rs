//! A tokio runtime for what a blocking strategy's guests leave to it: timers and polling several things.

use std::future::pending;
use std::io;
use std::sync::{Mutex, PoisonError};
use std::thread;

use tokio::runtime::{Builder, Handle};

static RUNTIME: Mutex<Option<Handle>> = Mutex::new(None);

/// Makes the runtime the one of this thread, unless it has one. It starts with the first guest that needs it, and fails
/// while the system has no thread or descriptor for it.
pub(crate) fn enter() -> io::Result<()> {
    if Handle::try_current().is_err() {
        let started = handle();
        let handle = started.map_err(|error| {
            io::Error::other(format!("the system has no thread to wait on for handlers: {error}"))
        })?;
        // The thread serves other requests later: it may as well stay entered.
        std::mem::forget(handle.enter());
    }
    Ok(())
}

fn handle() -> io::Result<Handle> {
    let mut started = RUNTIME.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(handle) = &*started {
        return Ok(handle.clone());
    }
    // With a thread of our own: where tokio gets none it panics.
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let handle = runtime.handle().clone();
    thread::Builder::new().name("io".to_owned()).spawn(move || runtime.block_on(pending::<()>()))?;
    Ok(started.insert(handle).clone())
}
