//! Whether the system lets a host serve at all, and as many open requests as were asked for; if not, what to set.

use std::thread;

use anyhow::{Context, bail, ensure};
use crossbeam::channel::bounded;
use plugsock::Concurrency;
use plugsock::surroundings::raise_limit;
use rustix::process::{Resource, getrlimit};

/// The least stack of a main thread: as much as other threads have.
const STACK_MIN: u64 = 2 << 20;

/// With fewer descriptors a host could accept nobody.
const DESCRIPTORS_MIN: u64 = 32;

/// Descriptors beyond one for each request: listeners, the log, epoll, the cache.
const OWN_DESCRIPTORS: u64 = 64;

/// Memory areas of an open request: linear memory, table and stack, each beside what is not accessible.
const AREAS_A_REQUEST: u64 = 5;

/// Memory areas of a host without requests.
const OWN_AREAS: u64 = 2000;

/// Refuses what no host could live with.
pub fn check() -> anyhow::Result<()> {
    std::fs::read_link("/proc/self/exe").context(
        "there is no /proc, by which the host finds its own program: mount it with `mount -t proc proc /proc`",
    )?;
    let stack = getrlimit(Resource::Stack).current;
    ensure!(
        stack.is_none_or(|stack| stack >= STACK_MIN),
        "this process may have a stack of {} bytes and needs {STACK_MIN}: raise `ulimit -s` to {}",
        stack.unwrap_or_default(),
        STACK_MIN >> 10
    );
    let descriptors = raise_limit(Resource::Nofile, DESCRIPTORS_MIN);
    ensure!(
        descriptors.is_none(),
        "this process may have {} descriptors and needs {DESCRIPTORS_MIN} and one more for each open request: raise \
         `ulimit -n`",
        descriptors.unwrap_or_default()
    );
    let time = getrlimit(Resource::Cpu).current;
    ensure!(
        time.is_none(),
        "this process may use {} s of CPU time, after which the host would end, and all its clients with it: start it \
         with `ulimit -t unlimited`; --cpu-time limits requests",
        time.unwrap_or_default()
    );
    Ok(())
}

/// Refuses to serve without the threads that serving itself takes: those of each server, of its strategy, and for signals
/// and the control socket.
pub fn check_threads(servers: usize, concurrency: &Concurrency) -> anyhow::Result<()> {
    let of_strategy = match *concurrency {
        Concurrency::Sync | Concurrency::Threading { .. } => 0,
        // For the end of its fork server, and for what its children say.
        Concurrency::Forking { .. } => 2,
        Concurrency::Pool { workers, .. } | Concurrency::Async { workers } => workers,
    };
    let needed = servers * (1 + of_strategy) + 2;
    // All are there until this is dropped.
    let (all, wait) = bounded::<()>(0);
    thread::scope(|scope| {
        let _all = all;
        for number in 0..needed {
            if let Err(error) = thread::Builder::new().spawn_scoped(scope, || wait.recv()) {
                bail!(
                    "serving takes {needed} threads and the system gives {number} ({error}): raise `ulimit -u`, or take \
                     fewer --workers"
                );
            }
        }
        Ok(())
    })
}

/// Raises the limit on descriptors as far as this user may, and warns of what will not do. A forked request takes another one,
/// to its process.
pub fn prepare(max_requests: usize, max_children: usize) {
    let requests = max_requests as u64;
    let descriptors = requests + max_requests.min(max_children) as u64 + OWN_DESCRIPTORS;
    if let Some(allowed) = raise_limit(Resource::Nofile, descriptors) {
        tracing::warn!(
            "{requests} open requests need {descriptors} descriptors and this process may have {allowed}: raise \
             `ulimit -Hn` to {descriptors} before the start, or lower --max-requests"
        );
    }
    let areas = requests * AREAS_A_REQUEST + OWN_AREAS;
    if max_map_count().is_some_and(|max| max < areas) {
        tracing::warn!(
            "{requests} open requests may need {areas} memory areas and the kernel allows fewer: run `sysctl -w \
             vm.max_map_count={areas}` as root, or lower --max-requests"
        );
    }
}

fn max_map_count() -> Option<u64> {
    std::fs::read_to_string("/proc/sys/vm/max_map_count").ok()?.trim().parse().ok()
}
