//! Memory, and the address space that it is mapped to.

use std::fs;

use plugsock::{Concurrency, Limits};
use rustix::process::{Resource, getrlimit};

use super::{Finding, Verdict, cgroup, number, shown_bytes, shown_limit};

/// What a host without requests has in memory, its largest helper included.
const OWN: u64 = 64 << 20;

/// What a host maps besides its pools: itself, its heap, the stacks of its threads.
const OWN_ADDRESS_SPACE: u64 = 4 << 30;

/// What an open request that waits for its client has in memory, by measurement; what its handler allocates comes on top.
fn of_idle_request(concurrency: &Concurrency) -> u64 {
    match concurrency {
        Concurrency::Async { .. } => 55 << 10,
        Concurrency::Forking { .. } => FORKED,
        _ => 80 << 10,
    }
}

/// Of a child of the fork server, what it does not share: 290 KiB of its own, 104 of page tables, and what the kernel has of it.
const FORKED: u64 = 450 << 10;

pub fn memory(requests: u64, concurrency: &Concurrency) -> Finding {
    let available = available().unwrap_or(u64::MAX);
    let limit = cgroup::memory();
    let room = limit.as_ref().map_or(available, |limit| limit.room().min(available));
    let found = match &limit {
        Some(limit) => format!(
            "{} free of the {} in {}",
            shown_bytes(limit.room()),
            shown_bytes(limit.max),
            limit.file.display()
        ),
        None => format!("{} available", shown_bytes(available)),
    };
    let each = of_idle_request(concurrency);
    let needed = OWN + requests * each;
    Finding::good("memory", found).for_requests(room.saturating_sub(OWN) / each).but_if(
        room < needed,
        Verdict::TooLow,
        || {
            let remedy = match limit {
                Some(limit) if limit.room() < available => {
                    format!("raise {} (`systemctl set-property UNIT MemoryMax=`)", limit.file.display())
                }
                _ => "give this machine more".to_owned(),
            };
            format!(
                "{requests} open requests that only wait need {} of memory and there are {}: {remedy}, or lower \
                 --max-requests",
                shown_bytes(needed),
                shown_bytes(room)
            )
        },
    )
}

/// What the kernel would give without swapping.
fn available() -> Option<u64> {
    meminfo("MemAvailable:")
}

fn meminfo(name: &str) -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let value = text.lines().find_map(|line| line.strip_prefix(name))?;
    Some(value.trim().trim_end_matches(" kB").parse::<u64>().ok()? << 10)
}

/// The pools reserve what requests may come to use; what is reserved and not used costs nothing else.
pub fn address_space(requests: u64) -> Finding {
    let limit = getrlimit(Resource::As).current;
    let reserved = |requests: u64| {
        let max_requests = usize::try_from(requests).unwrap_or(usize::MAX);
        Limits { max_requests, ..Limits::default() }.address_space().saturating_add(OWN_ADDRESS_SPACE)
    };
    let (fixed, needed) = (reserved(0), reserved(requests));
    let each = (needed.saturating_sub(fixed) / requests.max(1)).max(1);
    let finding = Finding::good("address space", shown_limit(limit));
    let Some(limit) = limit else { return finding };
    finding.for_requests(limit.saturating_sub(fixed) / each).but_if(limit < needed, Verdict::Fatal, || {
        format!(
            "{requests} open requests reserve {needed} bytes of address space and this process may have {limit}: raise \
             `ulimit -v`, or lower --max-requests"
        )
    })
}

pub fn data() -> Finding {
    let limit = getrlimit(Resource::Data).current;
    let is_low = limit.is_some_and(|limit| limit < 1 << 30);
    Finding::good("data", shown_limit(limit)).but_if(is_low, Verdict::Lacking, || {
        format!("this process may have {} bytes of data: raise `ulimit -d`", shown_limit(limit))
    })
}

pub fn overcommit() -> Finding {
    let what = "overcommit";
    let mode = number::<u8>("/proc/sys/vm/overcommit_memory");
    let found = match mode {
        Some(0) => "as far as it looks sound (vm.overcommit_memory 0)".to_owned(),
        Some(1) => "always (vm.overcommit_memory 1)".to_owned(),
        Some(2) => {
            let left = meminfo("CommitLimit:").zip(meminfo("Committed_AS:"));
            let left = left.map_or(0, |(limit, committed)| limit.saturating_sub(committed));
            format!("never (vm.overcommit_memory 2), {} left", shown_bytes(left))
        }
        _ => "not known".to_owned(),
    };
    Finding::good(what, found).but_if(mode == Some(2), Verdict::Lacking, || {
        "the kernel promises no memory that it does not have, and counts what requests may come to use: they fail one by \
         one when it is used up; `sysctl -w vm.overcommit_memory=0` lets them share"
            .to_owned()
    })
}
