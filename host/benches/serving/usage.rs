//! What a contender uses of memory and CPU time, all its processes together.

use std::collections::HashMap;
use std::fs::read_to_string;

use crate::machine::kibibytes;

#[derive(Debug, Default)]
pub struct Memory {
    /// Resident memory in KiB; a page that several processes share is counted once.
    pub resident: f64,
    /// Page tables in KiB: the kernel's share, which is not among the resident memory.
    pub page_tables: f64,
}

pub fn memory(contender: u32) -> Memory {
    let mut memory = Memory::default();
    for pid in family(contender).keys() {
        memory.resident += kibibytes(&format!("/proc/{pid}/smaps_rollup"), "Pss").unwrap_or(0) as f64;
        memory.page_tables += kibibytes(&format!("/proc/{pid}/status"), "VmPTE").unwrap_or(0) as f64;
    }
    memory
}

/// CPU time in seconds, with that of children that have ended.
pub fn cpu_seconds(contender: u32) -> f64 {
    let ticks: u64 = family(contender).values().map(|stat| stat.cpu_ticks).sum();
    ticks as f64 / rustix::param::clock_ticks_per_second() as f64
}

struct Stat {
    parent: u32,
    cpu_ticks: u64,
}

/// The contender, its children, and theirs.
fn family(contender: u32) -> HashMap<u32, Stat> {
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let mut others: HashMap<u32, Stat> = pids.filter_map(|pid| Some((pid, stat(pid)?))).collect();
    let mut family: HashMap<u32, Stat> = others.remove_entry(&contender).into_iter().collect();
    loop {
        let before = family.len();
        family.extend(others.extract_if(|_, stat| family.contains_key(&stat.parent)).collect::<Vec<_>>());
        if family.len() == before {
            return family;
        }
    }
}

fn stat(pid: u32) -> Option<Stat> {
    let text = read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may contain anything.
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    let number = |index: usize| fields.get(index)?.parse::<u64>().ok();
    // Counted from the state: the parent is the second; user and system time, and both of ended children,
    // are the twelfth to fifteenth.
    Some(Stat { parent: number(1)? as u32, cpu_ticks: (11..15).filter_map(number).sum() })
}
