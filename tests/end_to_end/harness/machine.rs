//! A machine of its own for what is installed: a real systemd, as the first process of namespaces, over this machine's root. What
//! it changes is gone with it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread;
use std::time::Instant;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::{Ended, PATIENCE, children, is_installed, run};

pub struct Machine {
    process: Child,
    systemd: Pid,
    cgroups: Vec<PathBuf>,
    _directory: TempDir,
}

impl Machine {
    /// `None`, and says why, where there can be none.
    pub fn start() -> Option<Self> {
        let programs = ["unshare", "nsenter", "pivot_root", "systemctl"];
        if !programs.into_iter().all(is_installed) || !Path::new("/lib/systemd/systemd").exists() {
            return None;
        }
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: only root can start a systemd");
            return None;
        }
        let directory = TempDir::new().unwrap();
        let cgroups = make_cgroups();
        // In cgroups of its own before these are the roots that it sees.
        let enter: String =
            cgroups.iter().map(|path| format!("echo $$ > {}/cgroup.procs;", path.display())).collect();
        let namespaces = "--mount --pid --fork --kill-child --cgroup --ipc --uts --net";
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/end_to_end/harness/machine.sh");
        let process = Command::new("sh")
            .args(["-c", &format!("{enter} exec unshare {namespaces} sh {script} \"$0\"")])
            .arg(directory.path())
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let unshare = Pid::from_child(&process);
        let deadline = Instant::now() + PATIENCE;
        let systemd = loop {
            let first = children(unshare).first().copied();
            let name = |pid: Pid| fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            if let Some(first) = first.filter(|first| name(*first) == "systemd\n") {
                break Some(first);
            }
            let has_ended =
                fs::read_to_string(format!("/proc/{unshare}/stat")).is_ok_and(|stat| stat.contains(") Z "));
            if has_ended || Instant::now() > deadline {
                break None;
            }
            thread::yield_now();
        };
        let machine = Self { process, systemd: systemd.unwrap_or(unshare), cgroups, _directory: directory };
        if systemd.is_none() {
            eprintln!("skipped: this process may not start a systemd of its own");
            return None;
        }
        while machine.run("systemctl is-system-running").stdout.trim() != "running" {
            assert!(
                Instant::now() < deadline,
                "systemd does not start: {:?}",
                machine.run("systemctl --failed")
            );
        }
        Some(machine)
    }

    /// Runs a script there.
    pub fn run(&self, script: &str) -> Ended {
        let mut command = Command::new("nsenter");
        let target = self.systemd.to_string();
        command.args([
            "--target", &target, "--mount", "--pid", "--cgroup", "--ipc", "--uts", "--net", "--root",
            "--wd=/",
        ]);
        run(command.args(["--", "sh", "-euc", &format!("cd /; {script}")]).env_remove("XDG_RUNTIME_DIR"))
    }

    /// Runs a script there that succeeds; what it prints.
    pub fn succeeds(&self, script: &str) -> String {
        let ended = self.run(script);
        let journal = || self.run("journalctl --no-pager --lines 40").stdout;
        assert_eq!(ended.code, Some(0), "{script}: {ended:?}\n{}", journal());
        ended.stdout
    }

    /// Puts a file there.
    pub fn put(&self, from: impl AsRef<Path>, to: &str) {
        fs::copy(from, format!("/proc/{}/root{to}", self.systemd)).unwrap();
    }
}

/// One in each hierarchy that there is.
fn make_cgroups() -> Vec<PathBuf> {
    static LAST: AtomicUsize = AtomicUsize::new(0);
    let name = format!("plugsock-machine-{}-{}", std::process::id(), LAST.fetch_add(1, Relaxed));
    let top = Path::new("/sys/fs/cgroup");
    let hierarchies: Vec<PathBuf> = match top.join("cgroup.controllers").exists() {
        true => vec![top.to_owned()],
        false => fs::read_dir(top).into_iter().flatten().flatten().map(|entry| entry.path()).collect(),
    };
    let made = hierarchies.into_iter().map(|hierarchy| hierarchy.join(&name));
    made.filter(|path| fs::create_dir(path).is_ok() && copy_cpuset(path).is_some()).collect()
}

/// Those of version 1 have no processors and no memory at first.
fn copy_cpuset(path: &Path) -> Option<()> {
    for name in ["cpuset.cpus", "cpuset.mems"] {
        let above = path.parent()?.join(name);
        if path.join(name).exists() && above.exists() {
            fs::write(path.join(name), fs::read_to_string(above).ok()?).ok()?;
        }
    }
    Some(())
}

fn remove(cgroup: &Path) -> bool {
    let below = fs::read_dir(cgroup).into_iter().flatten().flatten();
    below.filter(|entry| entry.path().is_dir()).for_each(|entry| {
        remove(&entry.path());
    });
    fs::remove_dir(cgroup).is_ok() || !cgroup.exists()
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = kill_process(self.systemd, Signal::KILL);
        let _ = self.process.kill();
        let _ = self.process.wait();
        let deadline = Instant::now() + PATIENCE;
        // Nothing tells of the end of the last of its processes.
        while !self.cgroups.iter().all(|cgroup| remove(cgroup)) && Instant::now() < deadline {
            thread::yield_now();
        }
    }
}
