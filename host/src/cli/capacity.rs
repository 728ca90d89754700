//! Whether the system lets a host serve at all, and as many open requests as were asked for; if not, what to set.

use std::thread;

use anyhow::bail;
use crossbeam::channel::bounded;
use plugsock::Concurrency;

use super::machine::{self, Finding, Size, Verdict};

/// Refuses what no host could live with.
pub fn check() -> anyhow::Result<()> {
    let any = Size::default();
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
        Concurrency::Pool { workers, .. } | Concurrency::Async { workers } => workers.saturating_add(1),
    };
    let needed = servers.map(of_server).fold(2, usize::saturating_add);
    // A thread that found no memory areas for its signals would end the host.
    let areas = machine::memory_areas(&Size { threads: needed as u64, ..Size::default() });
    if let Finding { verdict: Verdict::TooLow, advice: Some(advice), .. } = areas {
        bail!(advice);
    }
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
pub fn prepare(max_requests: usize, strategies: impl IntoIterator<Item = Concurrency>) {
    // Threads that there are in any case are looked at by themselves.
    let size = Size { threads: 0, ..Size::new(max_requests, strategies) };
    for finding in [machine::descriptors(&size), machine::memory_areas(&size)] {
        finding.advice.inspect(|advice| tracing::warn!("{advice}"));
    }
}
