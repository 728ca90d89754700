//! What the kernel can do, and what whoever started this process lets it ask for.

use plugsock::surroundings::try_walls;
use rustix::fs::inotify;
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use rustix::io::{Errno, Result};
use rustix::process::{PidfdFlags, getpid, pidfd_open};

use super::{Finding, Verdict, number};

/// What helpers give up before they touch what nobody trusts.
pub fn walls() -> Vec<Finding> {
    match try_walls() {
        Ok(walls) => walls.into_iter().map(|(name, wall)| of_wall(name, wall)).collect(),
        Err(error) => vec![of_wall("second wall", Err(error))],
    }
}

fn of_wall(what: &'static str, tried: std::io::Result<()>) -> Finding {
    match tried {
        Ok(()) => Finding::good(what, "there"),
        Err(error) => Finding::good(what, error.to_string()).but(
            Verdict::Lacking,
            "compilers, and the processes of --concurrency forking, run without it, and the WebAssembly sandbox alone is \
             between a handler and this user: take a kernel that has it (Linux 6.12 has all), or a container runtime \
             that lets it be",
        ),
    }
}

/// Components and code pass between processes in files in memory that nobody can change any more.
pub fn memory_files() -> Finding {
    let what = "sealed files";
    let make = || -> Result<()> {
        let file = memfd_create("doctor", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
        fcntl_add_seals(&file, SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK)
    };
    match make() {
        Ok(()) => Finding::good(what, "there"),
        Err(error) => Finding::good(what, error.to_string()).but(
            Verdict::Fatal,
            "components cannot be handed to the process that compiles them: allow memfd_create(2) and F_ADD_SEALS",
        ),
    }
}

pub fn process_handles() -> Finding {
    let what = "pidfd";
    match pidfd_open(getpid(), PidfdFlags::empty()) {
        Ok(_) => Finding::good(what, "there"),
        Err(error) => Finding::good(what, error.to_string()).but(
            Verdict::Lacking,
            "processes are known by their numbers alone, which may be another's later: allow pidfd_open(2)",
        ),
    }
}

/// For `--watch` and `dev`.
pub fn inotify() -> Finding {
    let setting = |name: &str| number::<u64>(format!("/proc/sys/fs/inotify/{name}")).unwrap_or(0);
    let (instances, watches) = (setting("max_user_instances"), setting("max_user_watches"));
    let found = format!("{instances} instances, {watches} watches a user");
    let finding = Finding::good("inotify", found);
    let tried = inotify::init(inotify::CreateFlags::CLOEXEC)
        .and_then(|watcher| inotify::add_watch(&watcher, "/", inotify::WatchFlags::DELETE_SELF));
    let remedy = match tried {
        Ok(_) => return finding,
        Err(Errno::NOSPC) => {
            format!("run `sysctl -w fs.inotify.max_user_watches={}` as root", watches.max(1) * 2)
        }
        Err(Errno::MFILE) => {
            format!("run `sysctl -w fs.inotify.max_user_instances={}` as root", instances.max(1) * 2)
        }
        Err(error) => error.to_string(),
    };
    finding.but(
        Verdict::Lacking,
        format!("--watch looks at files once a second instead of being told: {remedy}"),
    )
}

pub fn listen_queue(wanted: u64) -> Finding {
    let what = "listen queue";
    let Some(max) = number::<u64>("/proc/sys/net/core/somaxconn") else {
        return Finding::good(what, "not known");
    };
    Finding::good(what, format!("net.core.somaxconn {max}")).but_if(max < wanted, Verdict::Lacking, || {
        format!(
            "no more than {max} connections wait to be accepted, whatever --request-queue-size says: run `sysctl -w \
             net.core.somaxconn={wanted}` as root"
        )
    })
}
