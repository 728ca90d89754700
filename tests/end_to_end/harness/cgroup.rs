//! A cgroup, which takes from its processes what a small machine would.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread;
use std::time::Instant;

use super::{PATIENCE, plugsock};

/// A cgroup that is gone when this is dropped, after its processes.
pub struct Cgroup(PathBuf);

impl Cgroup {
    /// With so many bytes of memory; `None`, and says why, where none can be made.
    pub fn memory(limit: u64) -> Option<Self> {
        Self::new("memory", |cgroup| {
            let is_first_version = cgroup.join("memory.limit_in_bytes").exists();
            let (memory, swap, swap_limit) = match is_first_version {
                true => ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes", limit),
                false => ("memory.max", "memory.swap.max", 0),
            };
            fs::write(cgroup.join(memory), limit.to_string())?;
            // Not every kernel counts what is swapped out.
            let _ = fs::write(cgroup.join(swap), swap_limit.to_string());
            Ok(())
        })
    }

    /// With so many processes and threads.
    pub fn processes(limit: u64) -> Option<Self> {
        Self::new("pids", |cgroup| fs::write(cgroup.join("pids.max"), limit.to_string()))
    }

    /// With so many milliseconds of every 100 of one processor.
    pub fn processors(milliseconds: u64) -> Option<Self> {
        Self::new("cpu", |cgroup| {
            match fs::write(cgroup.join("cpu.max"), format!("{milliseconds}000 100000")) {
                Ok(()) => Ok(()),
                Err(_) => fs::write(cgroup.join("cpu.cfs_quota_us"), format!("{milliseconds}000")),
            }
        })
    }

    fn new(controller: &str, limit: impl Fn(&Path) -> io::Result<()>) -> Option<Self> {
        let own = own(controller);
        // Beside this process's own, where one that has processes can have none below.
        let parents = own.iter().flat_map(|own| [Some(own.as_path()), own.parent()]).flatten();
        let mut refused = format!("this process is in no cgroup for {controller}");
        for parent in parents {
            match Self::below(parent, &limit) {
                Ok(cgroup) => return Some(cgroup),
                Err(error) => refused = format!("{}: {error}", parent.display()),
            }
        }
        eprintln!("skipped: no cgroup for {controller} can be made: {refused}");
        None
    }

    fn below(parent: &Path, limit: impl Fn(&Path) -> io::Result<()>) -> io::Result<Self> {
        static LAST: AtomicUsize = AtomicUsize::new(0);
        let number = LAST.fetch_add(1, Relaxed) + 1;
        let cgroup = Self(parent.join(format!("plugsock-test-{}-{number}", std::process::id())));
        fs::create_dir(&cgroup.0)?;
        limit(&cgroup.0)?;
        Ok(cgroup)
    }

    /// A `plugsock` in it.
    pub fn plugsock(&self) -> Command {
        let mut command = Command::new("sh");
        let enter = format!("echo $$ > {} && exec \"$0\" \"$@\"", self.0.join("cgroup.procs").display());
        command.args(["-c", &enter]).arg(plugsock().get_program());
        command
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        // Its processes have been killed, and nothing tells of the end of the last.
        while fs::remove_dir(&self.0).is_err() && self.0.exists() && Instant::now() < deadline {
            thread::yield_now();
        }
        assert!(thread::panicking() || !self.0.exists(), "{} cannot be removed", self.0.display());
    }
}

/// The cgroup for this that this process is in: `HIERARCHY:CONTROLLERS:PATH`, without controllers in version 2.
fn own(controller: &str) -> Option<PathBuf> {
    let cgroups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    let find = |controllers: &dyn Fn(&str) -> bool, mount: &dyn Fn(&str) -> bool| {
        let path = cgroups.lines().find_map(|line| {
            let (names, path) = line.split_once(':')?.1.split_once(':')?;
            controllers(names).then_some(path)
        })?;
        let line = mounts.lines().find(|line| line.split_once(" - ").is_some_and(|(_, what)| mount(what)))?;
        // `ID PARENT DEVICE ROOT MOUNTPOINT …`
        let fields: Vec<&str> = line.split(' ').collect();
        Some(Path::new(fields[4]).join(path.strip_prefix(fields[3])?.trim_start_matches('/')))
    };
    find(&|names| names.split(',').any(|name| name == controller), &|what| {
        what.starts_with("cgroup ") && what.split([' ', ',']).any(|option| option == controller)
    })
    .or_else(|| find(&|names| names.is_empty(), &|what| what.starts_with("cgroup2 ")))
}
