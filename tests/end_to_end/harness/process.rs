//! What the kernel says of any process.

use rustix::process::{Pid, Signal, kill_process};

use super::wait_until;

/// The processes that a process has forked, zombies included.
pub fn children(parent: Pid) -> Vec<Pid> {
    let pid = parent.as_raw_pid();
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let children = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok());
    let children: Vec<String> = children.collect();
    let pids = children.iter().flat_map(|pids| pids.split_whitespace());
    pids.map(|pid| Pid::from_raw(pid.parse().unwrap()).unwrap()).collect()
}

/// A process, its children, theirs, and so on.
pub fn with_descendants(process: Pid) -> Vec<Pid> {
    let below = children(process).into_iter().flat_map(with_descendants);
    [process].into_iter().chain(below).collect()
}

/// The last word of a field of its status.
pub fn status(pid: Pid, field: &str) -> String {
    status_field(pid, field).split_whitespace().last().unwrap().to_owned()
}

/// The address space that it has mapped, in bytes.
pub fn address_space(pid: Pid) -> u64 {
    bytes(pid, "VmSize:")
}

pub(super) fn bytes(pid: Pid, field: &str) -> u64 {
    status_field(pid, field).trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

fn status_field(pid: Pid, field: &str) -> String {
    let status = std::fs::read_to_string(format!("/proc/{}/status", pid.as_raw_pid())).unwrap();
    status.lines().find_map(|line| line.strip_prefix(field)).unwrap().to_owned()
}

/// The letter for what it does; `T` if it is stopped.
pub fn state(pid: Pid) -> String {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_pid())).unwrap_or_default();
    // `PID (NAME) STATE …`, and a name may have brackets.
    stat.rsplit_once(") ").map_or(String::new(), |(_, rest)| rest.chars().take(1).collect())
}

/// Stops it, as a debugger would, and waits until it stands.
pub fn stop(pid: Pid) {
    kill_process(pid, Signal::STOP).unwrap();
    wait_until(|| state(pid) == "T");
}

/// Whether it has not ended; one that nobody has waited for yet has.
pub fn is_running(pid: Pid) -> bool {
    !matches!(state(pid).as_str(), "" | "Z" | "X")
}
