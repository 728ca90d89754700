//! What every process of Prometheus's world says of itself, under the names that dashboards know.

use std::time::{Duration, SystemTime};

use rustix::param::page_size;
use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};

use super::family::{Family, Labels, Unit};

pub(super) fn families(started: SystemTime) -> Vec<Family> {
    let one = |value| [(Labels::new(), value)];
    let version = vec![("version", env!("CARGO_PKG_VERSION").to_owned())];
    let started = started.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let cpu = clock_gettime(ClockId::ProcessCPUTime);
    let cpu = Duration::new(cpu.tv_sec as u64, cpu.tv_nsec as u32);
    let descriptors = std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
    let descriptors_max = getrlimit(Resource::Nofile).current.map_or(f64::INFINITY, |max| max as f64);
    vec![
        Family::gauge("plugsock_build_info", "The version of Plugsock").with([(version, 1_u64)]),
        Family::gauge("process_start_time", "When the process started, in seconds since 1970")
            .in_unit(Unit::Seconds)
            .with(one(started.as_secs_f64())),
        Family::counter("process_cpu", "CPU time that the process has had; that of its children apart")
            .in_unit(Unit::Seconds)
            .with(one(cpu.as_secs_f64())),
        Family::gauge(
            "process_resident_memory",
            "Memory that the process occupies; that of its children apart",
        )
        .in_unit(Unit::Bytes)
        .with(one(resident_memory() as f64)),
        Family::gauge("process_open_fds", "Descriptors that are open").with(one(descriptors as f64)),
        Family::gauge("process_max_fds", "Descriptors that may be open").with(one(descriptors_max)),
    ]
}

/// In bytes; 0 where `/proc` does not say.
fn resident_memory() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: Option<u64> = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok());
    pages.unwrap_or(0) * page_size() as u64
}
