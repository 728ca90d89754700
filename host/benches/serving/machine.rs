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
