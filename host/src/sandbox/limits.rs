//! What one request may use, and what keeps it to that where it grows or waits for its client.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use wasmtime::ResourceLimiter;

use super::watch::Watch;
use crate::error::{Limit, SandboxError};
use crate::request::MinRate;
use crate::stores::StateLimits;

/// What one request may use. Every limit is on by default; `None` switches a time limit off.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Limits {
    /// Linear memory of all its memories together and what is collected for it, in bytes (256 MiB).
    pub memory: usize,
    /// Linear memories that one component may have (16).
    pub memories: usize,
    /// The stack of its WebAssembly code, in bytes (512 KiB): how deep it may call, not what a compiler calls a
    /// stack and keeps in linear memory.
    pub stack: usize,
    /// Elements of all its tables together (100,000).
    pub table_elements: usize,
    /// Core instances that one component may be made of (100).
    pub instances: usize,
    /// WASI and contract resources that it may hold at once (1,000).
    pub resources: usize,
    /// Bytes that one call from the guest may hand to the host (8 MiB).
    pub call_bytes: usize,
    /// Wall-clock time from its first instruction to its close (1 h).
    pub request_time: Option<Duration>,
    /// CPU time (10 s).
    pub cpu_time: Option<Duration>,
    /// How long one `recv` or `send` may wait for the client (300 s).
    pub idle_time: Option<Duration>,
    /// How fast the client must be while the handler waits for it (any rate). Beside `idle_time` it ends
    /// clients that send or take a byte now and then.
    pub min_rate: Option<MinRate>,
    /// Lines a second that it may print to the log (100), and ten seconds' worth at once; the rest is counted and
    /// dropped.
    pub log_rate: u32,
    /// Requests that may be open at once (1,000). The engine's pools are sized from it; beyond it new
    /// connections wait in the listen queue.
    pub max_requests: usize,
    /// Requests that one instance may serve, one after the other (1). More is faster and gives isolation up: a
    /// request may then read and change what those before it left in the instance's memory.
    pub reuse: usize,
    /// Instances that each handler has ready ahead of its requests (0), so that none waits for one to be made. With
    /// forking it is one, of which every child has its own copy.
    pub warm: usize,
    /// What it may ask of stores.
    pub state: StateLimits,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory: 256 << 20,
            memories: 16,
            stack: STACK,
            table_elements: 100_000,
            instances: 100,
            resources: 1000,
            call_bytes: 8 << 20,
            request_time: Some(Duration::from_secs(3600)),
            cpu_time: Some(Duration::from_secs(10)),
            idle_time: Some(Duration::from_secs(300)),
            min_rate: None,
            log_rate: 100,
            max_requests: 1000,
            reuse: 1,
            warm: 0,
            state: StateLimits::default(),
        }
    }
}

impl Limits {
    /// Limits of a sandbox with room for handlers of which each has limits of its own ([`Sandbox::with`](super::Sandbox::with)):
    /// as much of everything that there must be room for as any of them may have.
    #[must_use]
    pub fn covering(self, other: &Self) -> Self {
        Self {
            memory: self.memory.max(other.memory),
            stack: self.stack.max(other.stack),
            table_elements: self.table_elements.max(other.table_elements),
            instances: self.instances.max(other.instances),
            max_requests: self.max_requests.max(other.max_requests),
            warm: self.warm.max(other.warm),
            ..self
        }
    }

    /// Whether what handlers with other limits may have is no more than what these make room for.
    pub(super) fn check_room(&self, other: &Self) -> Result<(), SandboxError> {
        let asked = [
            ("memory", other.memory, self.memory),
            ("table-elements", other.table_elements, self.table_elements),
            ("instances", other.instances, self.instances),
            ("warm", other.warm, self.warm),
        ];
        match asked.into_iter().find(|(_, asked, room)| asked > room) {
            Some((limit, asked, room)) => Err(SandboxError::NoRoom { limit, asked, room }),
            None => Ok(()),
        }
    }
}

/// The stack by default.
pub(super) const STACK: usize = 512 << 10;

/// When an operation on the client's socket has to give up, worked out anew for each.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deadlines {
    /// What the guest asked for with `set-timeout`.
    pub(super) timeout: Option<Duration>,
    idle_time: Option<Duration>,
    request: Option<Instant>,
}

impl Deadlines {
    pub(super) fn new(limits: &Limits, watch: &Watch) -> Self {
        Self { timeout: None, idle_time: limits.idle_time, request: watch.deadline }
    }

    /// The idle limit, where an operation reaches it before the guest's own timeout.
    pub(super) fn idle_limit(&self) -> Option<Duration> {
        self.idle_time.filter(|idle| self.timeout.is_none_or(|timeout| timeout > *idle))
    }

    /// For what has a time limit of its own.
    pub(super) fn of_request(&self) -> Option<Instant> {
        self.request
    }

    /// Whether the request has no more than so long to go.
    pub(super) fn request_ends_within(&self, time: Duration) -> bool {
        self.request.is_some_and(|end| end.saturating_duration_since(Instant::now()) <= time)
    }

    /// For an operation that starts now.
    pub(super) fn next(&self) -> Option<Instant> {
        let waits = [self.timeout, self.idle_time].into_iter().flatten().min();
        let waits = waits.and_then(|time| Instant::now().checked_add(time));
        [waits, self.request].into_iter().flatten().min()
    }
}

/// Counts what one store has grown to and refuses what goes beyond, which its watch is told.
pub(super) struct Meter {
    memory: usize,
    memory_max: usize,
    table_elements: usize,
    table_elements_max: usize,
    instances_max: usize,
    memories_max: usize,
    watch: Arc<Watch>,
}

impl Meter {
    pub(super) fn new(limits: &Limits, watch: &Arc<Watch>) -> Self {
        Self {
            memory: 0,
            memory_max: limits.memory,
            table_elements: 0,
            table_elements_max: limits.table_elements,
            instances_max: limits.instances,
            memories_max: limits.memories,
            watch: watch.clone(),
        }
    }

    /// From now on the store serves another request.
    pub(super) fn renew(&mut self, watch: &Arc<Watch>) {
        self.watch = watch.clone();
    }
}

impl ResourceLimiter for Meter {
    fn memory_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        let total = self.memory.saturating_add(desired - current);
        if total > self.memory_max {
            self.watch.refuse(Limit::Memory(self.memory_max));
            return Ok(false);
        }
        self.memory = total;
        self.watch.goes_on();
        Ok(true)
    }

    fn table_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        let total = self.table_elements.saturating_add(desired - current);
        if total > self.table_elements_max {
            self.watch.refuse(Limit::Table(self.table_elements_max));
            return Ok(false);
        }
        self.table_elements = total;
        self.watch.goes_on();
        Ok(true)
    }

    fn instances(&self) -> usize {
        self.instances_max
    }

    fn memories(&self) -> usize {
        self.memories_max
    }
}
