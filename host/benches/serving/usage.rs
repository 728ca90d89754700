//! What a contender uses: of memory and of CPU time, all processes of its group together.

use std::fs::read_to_string;

use crate::machine::kibibytes;

#[derive(Debug, Default)]
pub struct Memory {
    /// Resident memory in KiB; a page that several processes share is counted once.
    pub resident: f64,
    /// Page tables in KiB: the kernel's share, which is not among the resident memory.
    pub page_tables: f64,
}

pub fn memory(group: u32) -> Memory {
    let mut memory = Memory::default();
    for (pid, _) in members(group) {
        memory.resident += kibibytes(&format!("/proc/{pid}/smaps_rollup"), "Pss").unwrap_or(0) as f64;
        memory.page_tables += kibibytes(&format!("/proc/{pid}/status"), "VmPTE").unwrap_or(0) as f64;
    }
    memory
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
