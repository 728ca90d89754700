//! A tokio runtime for what a blocking strategy's guests leave to it: timers and polling several things.

use std::cell::{Cell, RefCell};
use std::future::{Future, pending};
use std::io;
use std::process;
use std::rc::Rc;
use std::sync::{Mutex, PoisonError};
use std::thread;

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::task::JoinHandle;

/// And the process that it is of: a forked child has a copy of its parent's, and nobody who drives it.
static RUNTIME: Mutex<Option<(u32, Handle)>> = Mutex::new(None);

thread_local! {
    /// The process whose runtime this thread has entered.
    static ENTERED: Cell<Option<u32>> = const { Cell::new(None) };
}

/// Makes the runtime the one of this thread, unless it has one. It starts with the first guest that needs it, and fails
/// while the system has no thread or descriptor for it.
pub(crate) fn enter() -> io::Result<()> {
    let entered = ENTERED.get();
    let is_inherited = entered.is_some_and(|process| process != process::id());
    if is_inherited || Handle::try_current().is_err() {
        let started = handle();
        let handle = started.map_err(|error| {
            io::Error::other(format!("the system has no thread to wait on for handlers: {error}"))
        })?;
        // The thread serves other requests later: it may as well stay entered.
        std::mem::forget(handle.enter());
        ENTERED.set(Some(process::id()));
    }
    Ok(())
}

/// The future's output, with timers that this thread drives: a process that forks may have no other. Threads that the future
/// had read files have ended then. There is no reactor, of which tokio would keep sockets that all children shared.
pub(crate) fn block_on_alone<T>(future: impl Future<Output = T>) -> io::Result<T> {
    Ok(Builder::new_current_thread().enable_time().build()?.block_on(future))
}

thread_local! {
    /// This thread's own, for connections that it serves as a task would.
    static OWN: RefCell<Option<Rc<Runtime>>> = const { RefCell::new(None) };
}

/// Drives a future whose waits are all a task's, on this thread and by a reactor of this thread's own, so that nobody has
/// to wake another for it. Fails while the system has no descriptors for that.
pub(crate) fn drive<T>(future: impl Future<Output = T>) -> io::Result<T> {
    let runtime = OWN.with_borrow_mut(|own| match own {
        Some(runtime) => Ok(runtime.clone()),
        None => {
            let runtime = Rc::new(Builder::new_current_thread().enable_all().build()?);
            Ok::<_, io::Error>(own.insert(runtime).clone())
        }
    })?;
    Ok(runtime.block_on(future))
}

/// Has a future run on the thread that handlers' waits are left to. It must never block that.
pub(crate) fn spawn<T: Send + 'static>(
    future: impl Future<Output = T> + Send + 'static,
) -> io::Result<JoinHandle<T>> {
    handle().map(|handle| handle.spawn(future))
}

fn handle() -> io::Result<Handle> {
    let mut started = RUNTIME.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((process, handle)) = &*started
        && *process == process::id()
    {
        return Ok(handle.clone());
    }
    // With a thread of our own: where tokio gets none it panics.
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let handle = runtime.handle().clone();
    thread::Builder::new().name("io".to_owned()).spawn(move || runtime.block_on(pending::<()>()))?;
    // What a parent has is not this process's to end.
    std::mem::forget(started.replace((process::id(), handle.clone())));
    Ok(handle)
}
