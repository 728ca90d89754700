//! Processes, threads, and the processors that run them.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::thread;

use plugsock::Concurrency;
use rustix::process::{Resource, geteuid, getrlimit};

use super::{Finding, Verdict, cgroup, number};

/// Threads of a host without requests: for signals, the control socket, the ticker, each address, and compiling.
const OWN: u64 = 16;

/// Who counts: the kernel, the user's limit, or a cgroup; how many more it allows, and what to do for more.
struct Bound {
    shown: String,
    room: u64,
    remedy: String,
}

/// Threads and processes are one to the kernel.
pub fn processes(requests: u64, concurrency: &Concurrency) -> Finding {
    let needed = match concurrency {
        Concurrency::Threading { .. } => requests,
        Concurrency::Forking { max_children, .. } => requests.min(*max_children as u64),
        Concurrency::Pool { workers, .. } | Concurrency::Async { workers } => *workers as u64,
        Concurrency::Sync => 0,
    };
    let bounds = [of_kernel(), of_user(), of_cgroup()].into_iter().flatten();
    let Some(Bound { shown, room, remedy }) = bounds.min_by_key(|bound| bound.room) else {
        return Finding::good("processes", "not known");
    };
    let room = room.saturating_sub(OWN);
    let finding = Finding::good("processes", shown);
    let finding = match concurrency {
        Concurrency::Threading { .. } => finding.for_requests(room),
        _ => finding,
    };
    let verdict = match concurrency {
        Concurrency::Threading { .. } | Concurrency::Forking { .. } => Verdict::TooLow,
        _ => Verdict::Fatal,
    };
    finding.but_if(room < needed, verdict, || {
        format!(
            "{concurrency} needs {needed} threads or processes and there is room for {room} more: {remedy}"
        )
    })
}

fn of_kernel() -> Option<Bound> {
    let [threads, ids] = ["threads-max", "pid_max"]
        .map(|name| number::<u64>(format!("/proc/sys/kernel/{name}")).unwrap_or(u64::MAX));
    let max = threads.min(ids);
    let name = if threads < ids { "kernel.threads-max" } else { "kernel.pid_max" };
    // `1MIN 5MIN 15MIN RUNNABLE/ALL LAST`
    let load = fs::read_to_string("/proc/loadavg").ok()?;
    let used = load.split(' ').nth(3)?.split_once('/')?.1.parse().ok()?;
    Some(Bound {
        shown: format!("{used} of {name} {max}"),
        room: max.saturating_sub(used),
        remedy: format!("run `sysctl -w {name}={}` as root", max.saturating_mul(2)),
    })
}

/// Root may have any number.
fn of_user() -> Option<Bound> {
    let max = getrlimit(Resource::Nproc).current.filter(|_| !geteuid().is_root())?;
    let used = of_this_user();
    Some(Bound {
        shown: format!("{used} of `ulimit -u` {max}"),
        room: max.saturating_sub(used),
        remedy: "raise `ulimit -u`".to_owned(),
    })
}

fn of_this_user() -> u64 {
    let user = geteuid().as_raw();
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let own = processes.filter(|entry| entry.metadata().is_ok_and(|metadata| metadata.uid() == user));
    own.filter_map(|entry| fs::read_dir(entry.path().join("task")).ok())
        .map(|tasks| tasks.count() as u64)
        .sum()
}

fn of_cgroup() -> Option<Bound> {
    let limit = cgroup::processes()?;
    let file = limit.file.display();
    Some(Bound {
        shown: format!("{} of the {} in {file}", limit.used, limit.max),
        room: limit.room(),
        remedy: format!("raise {file} (`systemctl set-property UNIT TasksMax=`)"),
    })
}

pub fn processors() -> Finding {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let quota = cgroup::processors();
    let found = match &quota {
        Some((quota, file)) => format!("{cores}, {quota:.2} of their time by {}", file.display()),
        None => cores.to_string(),
    };
    let share = quota.filter(|(quota, _)| *quota < 1.0);
    Finding::good("processors", found).but_if(share.is_some(), Verdict::Lacking, || {
        "less than one processor's time is had in slices, and between two of them every request waits: raise the quota \
         (`systemctl set-property UNIT CPUQuota=`)"
            .to_owned()
    })
}
