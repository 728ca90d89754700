//! A tokio runtime for what a blocking strategy's guests leave to it: timers and polling several things.

use std::sync::LazyLock;

use tokio::runtime::{Builder, Handle, Runtime};

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    let runtime = Builder::new_multi_thread().worker_threads(1).thread_name("io").enable_all().build();
    runtime.expect("the host has a thread and a descriptor left for its timers")
});

/// Makes the runtime the one of this thread, unless it has one. It starts with the first guest that needs it.
pub(crate) fn enter() {
    if Handle::try_current().is_err() {
        // The thread serves other requests later: it may as well stay entered.
        std::mem::forget(RUNTIME.enter());
    }
}
