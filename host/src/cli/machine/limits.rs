//! Limits of this process that end or stop a host, and those of the kernel on what each open request takes.

use plugsock::surroundings::raise_limit;
use rustix::process::{Resource, Rlimit, geteuid, getrlimit};

use super::{Finding, Size, Verdict, number, shown_limit};

/// The least stack of a main thread: as much as other threads have.
const STACK_MIN: u64 = 2 << 20;

/// With fewer descriptors a host could accept nobody.
const DESCRIPTORS_MIN: u64 = 32;

/// Descriptors beyond one for each request: listeners, the log, epoll, the cache.
const OWN_DESCRIPTORS: u64 = 64;

/// Memory areas of an open request, by measurement: its place in the pools, and its memory and stack while it is open, each beside
/// what is not accessible.
const AREAS_A_REQUEST: u64 = 6;

/// Memory areas of a thread that runs guests: its stack, and those for its signals.
const AREAS_A_THREAD: u64 = 6;

/// Memory areas of a host without requests.
const OWN_AREAS: u64 = 2000;

pub fn proc() -> Finding {
    let what = "/proc";
    match std::fs::read_link("/proc/self/exe") {
        Ok(_) => Finding::good(what, "mounted"),
        Err(error) => Finding::good(what, error.to_string()).but(
            Verdict::Fatal,
            format!(
                "there is no /proc, by which the host finds its own program: mount it with `mount -t proc proc /proc` \
                 ({error})"
            ),
        ),
    }
}

pub fn stack() -> Finding {
    let stack = getrlimit(Resource::Stack).current;
    let is_low = stack.is_some_and(|stack| stack < STACK_MIN);
    Finding::good("stack", shown_limit(stack)).but_if(is_low, Verdict::Fatal, || {
        format!(
            "this process may have a stack of {} bytes and needs {STACK_MIN}: raise `ulimit -s` to {}",
            shown_limit(stack),
            STACK_MIN >> 10
        )
    })
}

pub fn cpu_time() -> Finding {
    let time = getrlimit(Resource::Cpu).current;
    Finding::good("cpu time", shown_limit(time)).but_if(time.is_some(), Verdict::Fatal, || {
        format!(
            "this process may use {} s of CPU time, after which the host would end, and all its clients with it: start \
             it with `ulimit -t unlimited`; --cpu-time limits requests",
            shown_limit(time)
        )
    })
}

/// Raises the limit as far as it is needed and this user may. A forked request takes another descriptor, to its process.
pub fn descriptors(size: &Size) -> Finding {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let found = format!("soft {}, hard {}", shown_limit(current), shown_limit(maximum));
    let needed = size.requests + size.children + OWN_DESCRIPTORS;
    let too_low = raise_limit(Resource::Nofile, needed);
    // Root may raise it as far as the kernel allows at all.
    let most = maximum.max(number("/proc/sys/fs/nr_open").filter(|_| geteuid().is_root()));
    let finding = Finding::good("descriptors", found);
    let Some(allowed) = too_low else {
        return finding.for_requests(requests_with(most.unwrap_or(u64::MAX).max(needed), size));
    };
    let finding = finding.for_requests(requests_with(allowed, size));
    if allowed < DESCRIPTORS_MIN {
        return finding.but(
            Verdict::Fatal,
            format!(
                "this process may have {allowed} descriptors and needs {DESCRIPTORS_MIN} and one more for each open \
                 request: raise `ulimit -n`"
            ),
        );
    }
    finding.but(
        Verdict::TooLow,
        format!(
            "{} open requests need {needed} descriptors and this process may have {allowed}: raise `ulimit -Hn` to \
             {needed} before the start, or lower --max-requests",
            size.requests
        ),
    )
}

/// How many open requests so many descriptors are enough for.
fn requests_with(descriptors: u64, size: &Size) -> u64 {
    let room = descriptors.saturating_sub(OWN_DESCRIPTORS);
    room - size.children.min(room / 2)
}

pub fn memory_areas(size: &Size) -> Finding {
    let what = "memory areas";
    let Some(max) = number::<u64>("/proc/sys/vm/max_map_count") else {
        return Finding::good(what, "not known");
    };
    let &Size { requests, threads, threads_a_request, .. } = size;
    let of_request = AREAS_A_REQUEST + threads_a_request * AREAS_A_THREAD;
    let fixed = threads.saturating_mul(AREAS_A_THREAD).saturating_add(OWN_AREAS);
    let needed = requests.saturating_mul(of_request).saturating_add(fixed);
    let (takers, remedy) = match (requests, threads) {
        (0, _) => (format!("{threads} threads"), "--workers"),
        (_, 0) => (format!("{requests} open requests"), "--max-requests"),
        _ => (format!("{requests} open requests and {threads} threads"), "--max-requests or --workers"),
    };
    Finding::good(what, format!("vm.max_map_count {max}"))
        .for_requests(max.saturating_sub(fixed) / of_request)
        .but_if(max < needed, Verdict::TooLow, || {
            format!(
                "{takers} may need {needed} memory areas and the kernel allows fewer: run `sysctl -w \
                 vm.max_map_count={needed}` as root, or lower {remedy}"
            )
        })
}
