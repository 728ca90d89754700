//! What all tests use: hosts to talk to, as processes and in this process, clients that talk to them, and the
//! matrix of server types and strategies.

mod canary;
pub mod certificates;
mod cgroup;
mod client;
mod collector;
mod faults;
mod host;
mod load;
mod machine;
mod matrix;
mod panics;
mod process;
mod project;
mod recorder;
mod server;
mod versions;
pub mod wasm;

use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

pub use canary::canary;
pub use certificates::{Authority, Identity};
pub use cgroup::Cgroup;
pub use client::{Client, sockaddr};
pub use collector::{Collector, Export};
pub use faults::{Fault, Faults};
pub use host::{Ended, Host, RUNTIME_DIR, Resources, cargo, plugsock, run};
pub use load::{Clients, Counted, Load};
pub use machine::Machine;
pub use matrix::{Case, STRATEGIES, for_each_case, for_each_strategy};
pub use panics::{PANIC_ON, panic_on_client};
pub use process::{address_space, children, is_running, state, status, stop, with_descendants};
pub use project::{Project, succeeded, with_toolchains};
pub use recorder::{Event, Recorder};
pub use server::{Running, handler, sandbox, sandbox_options};
pub use versions::{Deployed, http_versioned, padded, relabelled, replace, version, versioned, who};

/// No wait in a test is longer: a hang fails, and does not stall the rest.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Whether a test with a short and a long form is to run the long one: `PLUGSOCK_LONG_TESTS` is set.
pub fn is_long_run() -> bool {
    std::env::var_os("PLUGSOCK_LONG_TESTS").is_some()
}

/// Where compiled components are kept from run to run.
pub fn cache_dir() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("cache")
}

/// The component of a guest: a handler with one behaviour, named for it.
pub fn guest(name: &str) -> String {
    component(env!("GUESTS"), name)
}

/// The component of a plugin that ships.
pub fn plugin(name: &str) -> String {
    component(env!("PLUGINS"), &name.replace('-', "_"))
}

/// A command-line tool that is published as a crate.
pub fn program(name: &str) -> String {
    component(env!("PROGRAMS"), name)
}

/// A component that is written as text in `tests/components`.
pub fn written(name: &str) -> String {
    component(env!("WRITTEN"), name)
}

fn component(directory: &str, name: &str) -> String {
    let path = Path::new(directory).join(name).with_extension("wasm");
    assert!(path.exists(), "no such component: {}", path.display());
    path.display().to_string()
}

/// Bytes that show when some are lost, doubled or swapped.
pub fn pattern(length: usize) -> Vec<u8> {
    (0..length as u64).map(|index| (index.wrapping_mul(0x9e37_79b9) >> 8) as u8).collect()
}

/// Waits for what nothing tells of.
pub fn wait_until(is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "waited in vain");
        thread::yield_now();
    }
}

/// Whether a program is there; says so if not, since the test is then skipped.
pub fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).any(|directory| directory.join(program).exists());
    if !found {
        eprintln!("skipped: {program} is not installed");
    }
    found
}
