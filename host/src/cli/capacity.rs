//! Whether the system lets a host serve at all, and as many open requests as were asked for; if not, what to set.

use std::thread;

use anyhow::bail;
use crossbeam::channel::bounded;
use plugsock::Concurrency;

use super::machine::{self, Finding, Size, Verdict};

/// Refuses what no host could live with.
pub fn check() -> anyhow::Result<()> {
    let any = Size { requests: 0, children: 0 };
    for finding in [machine::proc(), machine::stack(), machine::descriptors(&any), machine::cpu_time()] {
        if let Finding { verdict: Verdict::Fatal, advice: Some(advice), .. } = finding {
            bail!(advice);
        }
    }
    Ok(())
}

/// Refuses to serve without the threads that serving itself takes: those of each server, of its strategy, and for signals
/// and the control socket.
pub fn check_threads(servers: impl Iterator<Item = Concurrency>) -> anyhow::Result<()> {
    let of_server = |concurrency| match concurrency {
        Concurrency::Sync | Concurrency::Threading { .. } => 1,
        // For the end of its fork server, and for what its children say.
        Concurrency::Forking { .. } => 3,
        Concurrency::Pool { workers, .. } | Concurrency::Async { workers } => 1 + workers,
    };
    let needed = servers.map(of_server).sum::<usize>() + 2;
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

/// Raises the limit on descriptors as far as this user may, and warns of what will not do.
pub fn prepare(max_requests: usize, max_children: usize) {
    let children = max_requests.min(max_children);
    let size = Size { requests: max_requests as u64, children: children as u64 };
    for finding in [machine::descriptors(&size), machine::memory_areas(&size)] {
        finding.advice.inspect(|advice| tracing::warn!("{advice}"));
    }
}
