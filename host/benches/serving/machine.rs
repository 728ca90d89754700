//! Where and when the benchmark ran, since figures of different machines don't compare.

use std::fmt;
use std::fs::read_to_string;
use std::time::SystemTime;

use serde::Serialize;

#[derive(Debug, Serialize)]
pub struct Machine {
    date: String,
    cores: usize,
    cpu: String,
    kernel: String,
    memory_kib: u64,
}

impl Machine {
    pub fn this() -> Self {
        Self {
            date: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            cpu: field("/proc/cpuinfo", "model name").unwrap_or_else(|| std::env::consts::ARCH.to_owned()),
            kernel: read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned(),
            memory_kib: kibibytes("/proc/meminfo", "MemTotal").unwrap_or_default(),
        }
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { date, cores, cpu, kernel, memory_kib } = self;
        write!(f, "{date}, {cores} × {cpu}, {} GiB, Linux {kernel}", memory_kib / (1 << 20))
    }
}

/// A line of the kind `name: value` in a file of `/proc`.
fn field(path: &str, name: &str) -> Option<String> {
    let text = read_to_string(path).ok()?;
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.trim_start().strip_prefix(':'))?;
    Some(value.trim().to_owned())
}

/// A line of the kind `name: number kB`.
pub fn kibibytes(path: &str, name: &str) -> Option<u64> {
    field(path, name)?.strip_suffix(" kB")?.trim().parse().ok()
}

/// What the processes of a group have used.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// Resident memory in KiB; a page that several processes share is counted once.
    pub resident: f64,
    /// Page tables in KiB: the kernel's share, which is not among the resident memory.
    pub page_tables: f64,
}

/// The memory of a group; a contender and its children are one.
pub fn usage(group: u32) -> Usage {
    let mut usage = Usage::default();
    for (pid, _) in members(group) {
        usage.resident += kibibytes(&format!("/proc/{pid}/smaps_rollup"), "Pss").unwrap_or(0) as f64;
        usage.page_tables += kibibytes(&format!("/proc/{pid}/status"), "VmPTE").unwrap_or(0) as f64;
    }
    usage
}

/// CPU time of a group's processes and of their children that have ended, in seconds.
pub fn cpu_seconds(group: u32) -> f64 {
    let ticks: u64 = members(group).map(|(_, stat)| stat.cpu_ticks).sum();
    ticks as f64 / rustix::param::clock_ticks_per_second() as f64
}

struct Stat {
    group: u32,
    cpu_ticks: u64,
}

fn members(group: u32) -> impl Iterator<Item = (u32, Stat)> {
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(|pid| Some((pid, stat(pid)?))).filter(move |(_, stat)| stat.group == group)
}

fn stat(pid: u32) -> Option<Stat> {
    let text = read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may contain anything.
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    let number = |index: usize| fields.get(index)?.parse::<u64>().ok();
    // Counted from the state: its group is the third, and user, system, and both of ended children follow.
    Some(Stat { group: number(2)? as u32, cpu_ticks: (11..15).filter_map(number).sum() })
}
