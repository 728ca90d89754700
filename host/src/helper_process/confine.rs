//! The second wall: what helpers give up before they touch what nobody trusts, so that a guest that broke out
//! of the sandbox, or a component that took the compiler over, would find itself in a process that can do
//! little.
//!
//! Where the kernel lacks a feature, that is said in the log and the rest is done.

use std::collections::BTreeMap;
use std::io;

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, NetPort, Ruleset, RulesetAttr,
    RulesetCreated, RulesetCreatedAttr, RulesetStatus, Scope, path_beneath_rules,
};
use nix::libc;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch, apply_filter,
};

use crate::sandbox::{Grants, Limits, NetGrant, RESERVATION};

/// Room for what is not the guest's memory: code, tables, stacks, the host's own heap.
const OWN_MEMORY: u64 = 512 << 20;

/// How much of a core dump there may be at once while it is made.
const COPIES: u64 = 4;

/// Linear memories reserve far more address space than they may use.
const ADDRESS_SPACE: u64 = 64 << 30;

/// Descriptors beyond the guest's own: the channel, standard streams, what polls them.
const OWN_DESCRIPTORS: u64 = 64;

/// What a child gives up besides: worked out once, since each child pays for every bit of it.
pub(crate) struct ChildConfinement {
    limits: Vec<(Resource, Rlimit)>,
    filter: Option<BpfProgram>,
}

/// Confines the fork server, and with it every child; returns what each child adds. One that `answers_by_name` replies
/// through a Unix datagram socket, to clients that may have abstract names.
pub(crate) fn confine(
    grants: &Grants,
    limits: &Limits,
    core_dump_size: Option<u64>,
    answers_by_name: bool,
) -> ChildConfinement {
    give_up_privileges();
    warn("Landlock scopes", restrict_reach(answers_by_name));
    warn("Landlock", restrict_files(grants));
    warn("Landlock for TCP", restrict_tcp(grants));
    let filters = filters(grants).inspect_err(|error| warn_of("seccomp", error)).ok();
    let filter = filters.map(|Filters { allowed, denied, denied_to_child }| {
        warn("seccomp", apply_filter(&denied).and_then(|()| apply_filter(&allowed)));
        denied_to_child
    });
    let mut limits_of_child = vec![
        (Resource::As, RESERVATION.saturating_mul(limits.memories as u64).saturating_add(ADDRESS_SPACE)),
        (
            Resource::Data,
            [limits.memory as u64, limits.stack as u64, core_dump_size.unwrap_or(0).saturating_mul(COPIES)]
                .into_iter()
                .fold(OWN_MEMORY, u64::saturating_add),
        ),
        (Resource::Nofile, (limits.resources as u64).saturating_add(OWN_DESCRIPTORS)),
    ];
    // In whole seconds, and only if the request's own watch has failed.
    limits_of_child.extend(limits.cpu_time.map(|time| (Resource::Cpu, time.as_secs() + 2)));
    ChildConfinement { limits: limits_of_child.into_iter().map(lowered).collect(), filter }
}

impl ChildConfinement {
    /// For this process: it may make no process, and use no more than its request may.
    pub(crate) fn apply(&self) {
        set_limits(&self.limits);
        if let Some(filter) = &self.filter {
            warn("seccomp in a child", apply_filter(filter));
        }
    }
}

/// Confines a compiler: it reaches no file, makes no process, and has so many bytes of memory. It gives way to
/// those that serve.
pub(crate) fn confine_compiler(memory: u64) {
    give_up_privileges();
    // A third of what a thread that serves gets: a swap is not to starve on a busy machine either.
    warn("low priority", rustix::process::nice(5));
    let no_grants = Grants::default();
    warn("Landlock scopes", restrict_reach(false));
    warn("Landlock", restrict_files(&no_grants));
    let limits = [
        (Resource::As, memory.saturating_add(ADDRESS_SPACE)),
        (Resource::Data, memory),
        // What it writes to is memory too.
        (Resource::Fsize, memory),
    ];
    set_limits(&limits.map(lowered));
    match filters(&no_grants) {
        Ok(Filters { allowed, denied, denied_to_child }) => {
            let mut applied = [denied, allowed, denied_to_child].into_iter();
            warn("seccomp", applied.try_for_each(|filter| apply_filter(&filter)));
        }
        Err(error) => warn_of("seccomp", &error),
    }
}

fn give_up_privileges() {
    set_limits(&[lowered((Resource::Core, 0))]);
    warn("no new privileges", rustix::thread::set_no_new_privs(true));
}

/// A limit for good; what is lower already stays.
fn lowered((resource, limit): (Resource, u64)) -> (Resource, Rlimit) {
    let limit = getrlimit(resource).maximum.map_or(limit, |maximum| maximum.min(limit));
    (resource, Rlimit { current: Some(limit), maximum: Some(limit) })
}

fn set_limits(limits: &[(Resource, Rlimit)]) {
    for &(resource, limit) in limits {
        warn("resource limits", setrlimit(resource, limit));
    }
}

fn warn<T, E: std::fmt::Display>(what: &str, done: Result<T, E>) {
    if let Err(error) = done {
        warn_of(what, &error);
    }
}

fn warn_of(what: &str, error: &impl std::fmt::Display) {
    tracing::warn!("a helper process runs without {what}: {error}");
}

/// No signals to processes that are not confined with this one, and no abstract Unix sockets of theirs.
fn restrict_reach(answers_by_name: bool) -> io::Result<()> {
    let mut scopes = BitFlags::from(Scope::Signal);
    if !answers_by_name {
        scopes |= Scope::AbstractUnixSocket;
    }
    let restrict = || -> Result<_, landlock::RulesetError> {
        let ruleset = Ruleset::default().set_compatibility(CompatLevel::HardRequirement).scope(scopes)?;
        with_moves(ruleset)?.restrict_self()
    };
    is_enforced(restrict().map_err(io::Error::other)?.ruleset)
}

/// What the C library reads to resolve a name.
const RESOLVER_FILES: [&str; 7] = [
    "/etc/gai.conf",
    "/etc/host.conf",
    "/etc/hosts",
    "/etc/nsswitch.conf",
    "/etc/resolv.conf",
    "/lib",
    "/usr/lib",
];

/// Nothing but the granted directories can be opened, and what is read to resolve granted names.
fn restrict_files(grants: &Grants) -> io::Result<()> {
    const KNOWN: ABI = ABI::V3;
    let directories =
        |read_only| grants.dirs.iter().filter(move |dir| dir.read_only == read_only).map(|d| &d.host);
    let resolver_files = if has_names(grants) { &RESOLVER_FILES[..] } else { &[] };
    let restrict = || -> Result<_, landlock::RulesetError> {
        Ruleset::default()
            .handle_access(AccessFs::from_all(KNOWN))?
            .create()?
            .add_rules(path_beneath_rules(directories(true), AccessFs::from_read(KNOWN)))?
            .add_rules(path_beneath_rules(directories(false), AccessFs::from_all(KNOWN)))?
            .add_rules(path_beneath_rules(resolver_files, AccessFs::from_read(KNOWN)))?
            .restrict_self()
    };
    is_enforced(restrict().map_err(io::Error::other)?.ruleset)
}

fn has_names(grants: &Grants) -> bool {
    grants.net.iter().any(NetGrant::is_name)
}

/// A port of its own for TCP nowhere, and connections to granted ports alone. (The kernel knows ports and not
/// hosts, and nothing of UDP.)
fn restrict_tcp(grants: &Grants) -> io::Result<()> {
    /// Where names are resolved if the answer is too long for a datagram.
    const DNS: u16 = 53;
    if grants.net.is_empty() || grants.net.iter().any(|grant| grant.port.is_none()) {
        // Either there are no sockets at all, or every port is granted.
        return Ok(());
    }
    let dns = has_names(grants).then_some(DNS);
    let ports = grants.net.iter().filter_map(|grant| grant.port).chain(dns);
    let rules = ports.map(|port| Ok::<_, landlock::RulesetError>(NetPort::new(port, AccessNet::ConnectTcp)));
    let restrict = || -> Result<_, landlock::RulesetError> {
        let ruleset = Ruleset::default()
            .set_compatibility(CompatLevel::HardRequirement)
            .handle_access(AccessNet::from_all(ABI::V4))?;
        with_moves(ruleset)?.add_rules(rules)?.restrict_self()
    };
    is_enforced(restrict().map_err(io::Error::other)?.ruleset)
}

/// Links and moves from one directory to another, which every ruleset forbids that does not allow them; the one for
/// files says where.
fn with_moves(ruleset: Ruleset) -> Result<RulesetCreated, landlock::RulesetError> {
    ruleset
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::Refer)?
        .create()?
        .add_rules(path_beneath_rules(["/"], AccessFs::Refer))
}

fn is_enforced(status: RulesetStatus) -> io::Result<()> {
    match status {
        RulesetStatus::NotEnforced => Err(io::Error::other("this kernel has none")),
        RulesetStatus::PartiallyEnforced | RulesetStatus::FullyEnforced => Ok(()),
    }
}

/// What system calls a helper may make.
struct Filters {
    /// For every helper: what serving under these grants needs, and nothing else.
    allowed: BpfProgram,
    /// For every helper: what it may not ask of those.
    denied: BpfProgram,
    /// For one that makes no process, besides: no new process, and no hand on another.
    denied_to_child: BpfProgram,
}

fn filters(grants: &Grants) -> Result<Filters, BackendError> {
    let arch = TargetArch::try_from(std::env::consts::ARCH)?;
    let mut allowed: BTreeMap<_, _> = ALLOWED.iter().map(|call| (*call, Vec::new())).collect();
    // A process may lower its own priority, and ask for it.
    let own = [is(0, libc::PRIO_PROCESS as u64)?, is(1, 0)?];
    let lower = SeccompCondition::new(2, SeccompCmpArgLen::Dword, SeccompCmpOp::Le, 19)?;
    allowed.insert(libc::SYS_getpriority, vec![SeccompRule::new(own.to_vec())?]);
    allowed.insert(libc::SYS_setpriority, vec![SeccompRule::new([&own[..], &[lower]].concat())?]);
    if !grants.net.is_empty() {
        allowed.extend(ALLOWED_WITH_NET.iter().map(|call| (*call, Vec::new())));
        // TCP and UDP; the rest of the type says how descriptors behave.
        let kind = |kind: libc::c_int| masked(1, SOCK_TYPE_MASK, kind as u64);
        let families = [libc::AF_INET, libc::AF_INET6].into_iter();
        let kinds = families.flat_map(|family| [(family, libc::SOCK_STREAM), (family, libc::SOCK_DGRAM)]);
        let sockets = kinds.map(|(family, of)| SeccompRule::new(vec![is(0, family as u64)?, kind(of)?]));
        allowed.insert(libc::SYS_socket, sockets.collect::<Result<_, _>>()?);
    }
    // As if the kernel were older: the C library then falls back from clone3 to clone, which can be filtered.
    let not_there = SeccompAction::Errno(libc::ENOSYS as u32);
    let allowed = SeccompFilter::new(allowed, not_there, SeccompAction::Allow, arch)?;
    let pairs = [0, libc::SOCK_CLOEXEC, libc::SOCK_NONBLOCK, libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK];
    let denied = [
        // A descriptor can be made to send signals, and a lease or a watch to hold others up.
        (libc::SYS_fcntl, vec![none_of(1, FCNTL)?]),
        (libc::SYS_ioctl, vec![none_of(1, IOCTL)?]),
        // A socket for datagrams would reach whoever has a name.
        (libc::SYS_socketpair, vec![none_of(1, &pairs.map(|flags| (libc::SOCK_STREAM | flags) as u64))?]),
        (libc::SYS_prctl, vec![none_of(0, PRCTL)?]),
    ];
    // Short, since every child pays for each instruction of it, once for each system call that there is. clone(2) makes a
    // thread with this flag and a process without.
    let no_thread = masked(0, libc::CLONE_THREAD as u64, 0)?;
    let another = SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Ne, 0)?;
    let new_limit = SeccompCondition::new(2, SeccompCmpArgLen::Qword, SeccompCmpOp::Ne, 0)?;
    let denied_to_child = [
        (libc::SYS_clone, vec![SeccompRule::new(vec![no_thread])?]),
        // Its siblings run as the same user.
        (libc::SYS_kill, Vec::new()),
        (libc::SYS_tgkill, Vec::new()),
        (libc::SYS_pidfd_open, Vec::new()),
        // Limits are lowered once and for all, and may be asked for.
        (libc::SYS_prlimit64, vec![SeccompRule::new(vec![another])?, SeccompRule::new(vec![new_limit])?]),
        // Its status socket sends it signals, and nothing else is to send any: not to itself, and not to others.
        (libc::SYS_fcntl, vec![SeccompRule::new(vec![is(1, libc::F_SETOWN as u64)?])?]),
    ];
    let deny = |calls: BTreeMap<_, _>| {
        let refused = SeccompAction::Errno(libc::EPERM as u32);
        SeccompFilter::new(calls, SeccompAction::Allow, refused, arch)?.try_into()
    };
    Ok(Filters {
        allowed: allowed.try_into()?,
        denied: deny(denied.into_iter().collect())?,
        denied_to_child: deny(denied_to_child.into_iter().collect())?,
    })
}

/// What of a socket's type says how it sends.
const SOCK_TYPE_MASK: u64 = 0xf;

/// What a helper does with descriptors, files and sockets alike.
const FCNTL: &[u64] = &[
    libc::F_SETOWN as u64,
    libc::F_DUPFD as u64,
    libc::F_DUPFD_CLOEXEC as u64,
    libc::F_GETFD as u64,
    libc::F_SETFD as u64,
    libc::F_GETFL as u64,
    libc::F_SETFL as u64,
    libc::F_ADD_SEALS as u64,
    libc::F_GET_SEALS as u64,
];

/// How the standard library sets a descriptor, what can be read from it, and whether it is a terminal.
const IOCTL: &[u64] = &[libc::FIONREAD, libc::FIONBIO, libc::FIOCLEX, libc::TCGETS];

/// Names of threads and of memory, and what a program may ask of itself.
const PRCTL: &[u64] = &[
    libc::PR_SET_NAME as u64,
    libc::PR_GET_NAME as u64,
    libc::PR_SET_VMA as u64,
    libc::PR_GET_DUMPABLE as u64,
    libc::PR_GET_NO_NEW_PRIVS as u64,
    libc::PR_GET_SECCOMP as u64,
    // Comes before each filter.
    libc::PR_SET_NO_NEW_PRIVS as u64,
];

fn is(argument: u8, value: u64) -> Result<SeccompCondition, BackendError> {
    SeccompCondition::new(argument, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, value)
}

fn masked(argument: u8, mask: u64, value: u64) -> Result<SeccompCondition, BackendError> {
    SeccompCondition::new(argument, SeccompCmpArgLen::Dword, SeccompCmpOp::MaskedEq(mask), value)
}

/// Whether an argument is none of these.
fn none_of(argument: u8, values: &[u64]) -> Result<SeccompRule, BackendError> {
    let is_not =
        |value: &u64| SeccompCondition::new(argument, SeccompCmpArgLen::Dword, SeccompCmpOp::Ne, *value);
    SeccompRule::new(values.iter().map(is_not).collect::<Result<_, _>>()?)
}

/// The system calls of a process that serves: its sockets, memory, threads and clocks, files in granted
/// directories, and the forking itself. No `execve`; no `socket` and no `connect` unless some part of the network
/// is granted.
const ALLOWED: &[libc::c_long] = &[
    // The request, the channel, the log.
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_readv,
    libc::SYS_writev,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_sendto,
    libc::SYS_sendmsg,
    libc::SYS_shutdown,
    libc::SYS_getsockopt,
    libc::SYS_setsockopt,
    libc::SYS_getsockname,
    libc::SYS_getpeername,
    libc::SYS_close,
    libc::SYS_fcntl,
    libc::SYS_dup,
    libc::SYS_dup3,
    libc::SYS_ioctl,
    // Waiting.
    libc::SYS_ppoll,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_eventfd2,
    libc::SYS_pipe2,
    libc::SYS_socketpair,
    libc::SYS_futex,
    libc::SYS_nanosleep,
    libc::SYS_clock_nanosleep,
    libc::SYS_setitimer,
    libc::SYS_clock_gettime,
    libc::SYS_clock_getres,
    libc::SYS_gettimeofday,
    libc::SYS_restart_syscall,
    // Memory.
    libc::SYS_mmap,
    libc::SYS_munmap,
    libc::SYS_mprotect,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_brk,
    libc::SYS_memfd_create,
    // Processes and threads.
    libc::SYS_clone,
    libc::SYS_wait4,
    libc::SYS_waitid,
    libc::SYS_pidfd_open,
    libc::SYS_kill,
    libc::SYS_tgkill,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getegid,
    libc::SYS_prctl,
    libc::SYS_prlimit64,
    libc::SYS_seccomp,
    libc::SYS_set_robust_list,
    libc::SYS_rseq,
    libc::SYS_sched_yield,
    libc::SYS_setpriority,
    libc::SYS_sched_getaffinity,
    libc::SYS_membarrier,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_getrandom,
    libc::SYS_uname,
    // Files in granted directories; Landlock says which those are.
    libc::SYS_openat,
    libc::SYS_openat2,
    libc::SYS_fstat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_lseek,
    libc::SYS_pread64,
    libc::SYS_pwrite64,
    libc::SYS_preadv,
    libc::SYS_pwritev,
    libc::SYS_getdents64,
    libc::SYS_ftruncate,
    libc::SYS_fallocate,
    libc::SYS_fadvise64,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_utimensat,
    libc::SYS_mkdirat,
    libc::SYS_unlinkat,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_linkat,
    libc::SYS_symlinkat,
    libc::SYS_readlinkat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_arch_prctl,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_dup2,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_poll,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_epoll_wait,
];

/// What sockets of a handler's own need besides `socket`, and what resolves names.
const ALLOWED_WITH_NET: &[libc::c_long] = &[libc::SYS_connect, libc::SYS_bind, libc::SYS_sendmmsg];

mod walls;

pub use walls::{Walls, try_walls};

#[cfg(test)]
mod tests;
