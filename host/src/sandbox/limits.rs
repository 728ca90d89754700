//! What one request may use, and the watch that is kept over it.

use std::cell::Cell;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::atomic::{
    AtomicU8, AtomicU64,
    Ordering::{Relaxed, SeqCst},
};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use wasmtime::{ResourceLimiter, UpdateDeadline};

use crate::block_on::block_on_until;
use crate::error::{Cause, Limit, Phase, SandboxError};
use crate::request::{MinRate, Waits};
use crate::stores::StateLimits;
use crate::taken::{InstanceOrigin, Taken};
use crate::traces::{Call, Recorded, Trace, Waiting};

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

/// How often running guests are looked at.
pub(crate) const TICK: Duration = Duration::from_millis(10);

/// How long a hook may hold up the accept loop.
const HOOK_TIME: Duration = Duration::from_secs(1);

/// How long a handler may take to be instantiated when no request waits for it.
const START_TIME: Duration = Duration::from_secs(60);

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

/// Keeps a request within its time, from outside the store: it can be cut off from any thread.
#[derive(Debug)]
pub(crate) struct Watch {
    deadline: Option<Instant>,
    request_time: Duration,
    cpu_time: Option<Duration>,
    started: Instant,
    /// CPU time as of the last tick, in nanoseconds.
    cpu_spent: AtomicU64,
    /// CPU time that others have spent for it, in nanoseconds.
    cpu_spent_for_it: AtomicU64,
    /// From when on CPU time is counted, in nanoseconds: on a thread of its own, of that thread's clock, at
    /// the first tick; in a task, since `started`, at the beginning of this poll.
    cpu_mark: AtomicU64,
    /// The [`Limit`] that it was cut off for, as `Limit::CUTS` counts them; 0 while it is not.
    cut: AtomicU8,
    /// With a task's other requests share the thread, so that a busy guest must let them run.
    waits: Waits,
    /// The [`Phase`] that the request is in.
    phase: AtomicU8,
    /// The limit beyond which the guest was refused to grow, until it goes on without: a guest often traps on the
    /// refusal, and then this is the true cause.
    refused: Mutex<Option<Limit>>,
    waker: Mutex<Option<Waker>>,
    /// If it is measured how long it is in each phase.
    clock: Option<PhaseClock>,
    /// An [`InstanceOrigin`], as `InstanceOrigin::ALL` counts them; 0 while there is none.
    instance: AtomicU8,
    /// If requests are traced.
    trace: Option<Arc<Trace>>,
}

/// How long a request was in each phase, in nanoseconds.
#[derive(Debug, Default)]
struct PhaseClock {
    /// Since when it is in the one that it is in, from its start.
    since: AtomicU64,
    phases: [AtomicU64; Phase::ALL.len()],
    /// When it first came to each, from its start; 0 for the one that it begins with.
    begun: [AtomicU64; Phase::ALL.len()],
    /// When somebody began to serve it.
    served_since: AtomicU64,
}

impl Watch {
    /// Starts the clock of one request.
    pub(crate) fn new(limits: &Limits, waits: Waits) -> Self {
        let started = Instant::now();
        Self {
            deadline: limits.request_time.and_then(|time| started.checked_add(time)),
            started,
            request_time: limits.request_time.unwrap_or_default(),
            cpu_time: limits.cpu_time,
            cpu_spent: AtomicU64::new(0),
            cpu_spent_for_it: AtomicU64::new(0),
            cpu_mark: AtomicU64::new(0),
            cut: AtomicU8::new(0),
            waits,
            phase: AtomicU8::new(Phase::Instantiate as u8),
            refused: Mutex::new(None),
            waker: Mutex::new(None),
            clock: None,
            instance: AtomicU8::new(0),
            trace: None,
        }
    }

    /// Measures how long the request is in each phase, if that is wanted.
    pub(crate) fn measuring(self, is_wanted: bool) -> Self {
        Self { clock: is_wanted.then(PhaseClock::default), ..self }
    }

    /// Notes what the request does, as its trace says.
    pub(crate) fn tracing(self, trace: Option<Trace>) -> Self {
        Self { trace: trace.map(Arc::new), ..self }
    }

    /// The request's place in its trace, if requests are traced.
    pub(crate) fn trace(&self) -> Option<&Arc<Trace>> {
        self.trace.as_ref()
    }

    /// A call of the guest's begins that may wait, until what this returns is dropped. Costs nothing where nobody wants to know.
    pub(crate) fn waiting(&self, call: impl FnOnce() -> Call) -> Option<Waiting> {
        self.trace.as_ref()?.wait(call)
    }

    /// Somebody begins to serve the request: what it has waited for that is no part of a phase.
    pub(crate) fn note_begin(&self) {
        let Some(PhaseClock { since, served_since, .. }) = &self.clock else { return };
        let now = self.elapsed();
        since.store(now, Relaxed);
        served_since.store(now, Relaxed);
        self.trace.iter().for_each(|trace| trace.note_begin(self.started + Duration::from_nanos(now)));
    }

    /// Notes where the request has its instance from.
    pub(super) fn note_instance(&self, origin: InstanceOrigin) {
        self.instance.store(origin as u8 + 1, Relaxed);
    }

    /// What the request has taken by now, as far as it is known here; what is noted of it is handed out with it, once.
    pub(crate) fn taken(&self) -> Taken {
        self.end_phase();
        let nanos = |phase: usize| self.clock.as_ref().map_or(0, |clock| clock.phases[phase].load(Relaxed));
        let origin = usize::from(self.instance.load(Relaxed)).checked_sub(1);
        let phases = std::array::from_fn(|phase| Duration::from_nanos(nanos(phase)));
        Taken {
            phases,
            instance: origin.and_then(|origin| InstanceOrigin::ALL.get(origin)).copied(),
            trace: self.recorded(&phases).map(Box::new),
            ..Taken::default()
        }
    }

    fn recorded(&self, times: &[Duration; Phase::ALL.len()]) -> Option<Recorded> {
        let (trace, clock) = (self.trace.as_ref()?, self.clock.as_ref()?);
        let phases = Phase::ALL.into_iter().map(|phase| {
            let begun = match clock.begun[phase as usize].load(Relaxed) {
                0 => clock.served_since.load(Relaxed),
                begun => begun,
            };
            (phase, Duration::from_nanos(begun), times[phase as usize])
        });
        trace.hand_out(self.started, phases)
    }

    /// Counts the time that the request was in its phase so far.
    fn end_phase(&self) {
        if let Some(PhaseClock { since, phases, .. }) = &self.clock {
            let now = self.elapsed();
            let phase = usize::from(self.phase.load(Relaxed));
            phases[phase].fetch_add(now.saturating_sub(since.swap(now, Relaxed)), Relaxed);
        }
    }

    /// Keeps a connection that brings many requests, each with a clock of its own, until it is cut off.
    pub(crate) fn for_connection(limits: &Limits) -> Self {
        let limits = Limits { request_time: None, cpu_time: None, ..limits.clone() };
        Self::new(&limits, Waits::Task)
    }

    /// Starts the clock of one call of a hook, which holds up the accept loop.
    pub(super) fn for_hook(limits: &Limits, waits: Waits) -> Self {
        Self::at_most(HOOK_TIME, limits, waits)
    }

    /// Starts the clock of an instance that is made without a request, whose CPU time it does not use.
    pub(super) fn for_start(limits: &Limits, waits: Waits) -> Self {
        Self::at_most(START_TIME, &Limits { cpu_time: None, ..limits.clone() }, waits)
    }

    /// Starts the clock of one request that gets no more than `time`.
    pub(super) fn at_most(time: Duration, limits: &Limits, waits: Waits) -> Self {
        let request_time = limits.request_time.map_or(time, |limit| limit.min(time));
        Self::new(&Limits { request_time: Some(request_time), ..limits.clone() }, waits)
    }

    /// Ends the request at its next look at the clock or wake-up, for one of `Limit::CUTS`; whether it was not
    /// cut off before.
    pub(crate) fn cut(&self, reason: Limit) -> bool {
        let number =
            Limit::CUTS.iter().position(|cut| *cut == reason).expect("it is no limit of the guest's");
        // The first reason stays.
        let is_first = self.cut.compare_exchange(0, number as u8 + 1, SeqCst, SeqCst).is_ok();
        self.wake();
        is_first
    }

    /// Where what it watches over waits.
    pub(crate) fn waits(&self) -> Waits {
        self.waits
    }

    fn is_shared(&self) -> bool {
        self.waits == Waits::Task
    }

    /// Has `waker` woken when this is cut off; now, if it is.
    pub(crate) fn wake_on_cut(&self, waker: Waker) {
        *self.waker() = Some(waker);
        if self.cut_off().is_some() {
            self.wake();
        }
    }

    fn wake(&self) {
        let waker = self.waker().take();
        // Not under the lock.
        waker.into_iter().for_each(Waker::wake);
    }

    fn waker(&self) -> MutexGuard<'_, Option<Waker>> {
        self.waker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn enter(&self, phase: Phase) {
        self.end_phase();
        self.phase.store(phase as u8, Relaxed);
        if let Some(PhaseClock { since, begun, .. }) = &self.clock {
            let _ = begun[phase as usize].compare_exchange(0, since.load(Relaxed), Relaxed, Relaxed);
        }
        self.goes_on();
    }

    fn refuse(&self, limit: Limit) {
        *self.refused.lock().unwrap_or_else(PoisonError::into_inner) = Some(limit);
    }

    /// The guest has done something that shows that it lives with what it was refused.
    pub(super) fn goes_on(&self) {
        *self.refused.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// The limit that a failure of the guest may come from which the host has no other reason for.
    pub(super) fn refused(&self) -> Option<Limit> {
        *self.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn phase(&self) -> Phase {
        let phase = self.phase.load(Relaxed);
        Phase::ALL.into_iter().find(|known| *known as u8 == phase).expect("`enter` stored it")
    }

    /// Why the request was cut off, if it was: the end of its stream is then not the client's.
    pub(crate) fn cut_off(&self) -> Option<Limit> {
        let number = usize::from(self.cut.load(SeqCst));
        Limit::CUTS.get(number.checked_sub(1)?).copied()
    }

    /// The limit that this request has reached by now.
    pub(super) fn reached(&self) -> Option<Limit> {
        if let Some(cut) = self.cut_off() {
            return Some(cut);
        }
        if self.deadline.is_some_and(|at| Instant::now() >= at) {
            return Some(Limit::Time(self.request_time));
        }
        let spent = self.cpu_spent.load(Relaxed) + self.cpu_spent_for_it.load(Relaxed);
        let spent = Duration::from_nanos(spent);
        self.cpu_time.filter(|max| spent >= *max).map(Limit::CpuTime)
    }

    /// Counts CPU time that a task of the host has spent for it, in nanoseconds.
    pub(super) fn spend(&self, time: u64) {
        self.cpu_spent_for_it.fetch_add(time, Relaxed);
    }

    /// A task's work on the account of what is watched over.
    pub(super) async fn metered<F: Future>(self: Arc<Self>, work: F) -> F::Output {
        let mut work = pin!(work);
        std::future::poll_fn(|context| {
            let before = thread_cpu_time();
            let polled = work.as_mut().poll(context);
            self.spend(thread_cpu_time().saturating_sub(before));
            polled
        })
        .await
    }

    /// Counts the CPU time up to this tick. Between ticks no clock is read: most requests never see one.
    fn count_cpu_time(&self) {
        let mark = self.cpu_mark.load(Relaxed);
        if self.is_shared() {
            let now = self.elapsed();
            // The thread may not have run all the time, and not all that it did was for this request.
            let spent = now.saturating_sub(mark).min(thread_cpu_time_since_tick());
            self.cpu_spent.fetch_add(spent, Relaxed);
            self.cpu_mark.store(now, Relaxed);
        } else if mark == 0 {
            self.cpu_mark.store(thread_cpu_time(), Relaxed);
        } else {
            self.cpu_spent.store(thread_cpu_time().saturating_sub(mark), Relaxed);
        }
    }

    fn elapsed(&self) -> u64 {
        self.started.elapsed().as_nanos() as u64
    }

    /// What the engine's ticker asks of a guest that is running: stop, go on, or let other tasks go first.
    pub(super) fn on_tick(&self) -> wasmtime::Result<UpdateDeadline> {
        self.count_cpu_time();
        match self.reached() {
            Some(limit) => Err(limit.into()),
            None if self.is_shared() => Ok(UpdateDeadline::Yield(1)),
            None => Ok(UpdateDeadline::Continue(1)),
        }
    }

    /// Drives `serving` under this watch, on this thread or as a task, whichever the request is.
    ///
    /// It ends with the limit that is reached, also while no guest runs, and a panic of the host in it ends
    /// this request alone.
    pub(super) async fn over<T>(&self, serving: impl Future<Output = T>) -> Result<T, Cause> {
        let mut serving = std::pin::pin!(serving);
        let watched = std::future::poll_fn(|context| self.poll(serving.as_mut(), context));
        let ended = match (self.is_shared(), self.deadline) {
            (true, Some(at)) => tokio::time::timeout_at(at.into(), watched).await.ok(),
            (true, None) => Some(watched.await),
            (false, deadline) => block_on_until(watched, deadline),
        };
        ended.unwrap_or_else(|| Err(Cause::Limit(Limit::Time(self.request_time))))
    }

    fn poll<T>(
        &self,
        serving: Pin<&mut impl Future<Output = T>>,
        context: &mut Context<'_>,
    ) -> Poll<Result<T, Cause>> {
        if self.is_shared() {
            self.cpu_mark.store(self.elapsed(), Relaxed);
        }
        // What the panic may have left half-done is the store of this request, which is dropped.
        match catch_unwind(AssertUnwindSafe(|| serving.poll(context))) {
            Ok(Poll::Ready(done)) => return Poll::Ready(Ok(done)),
            Ok(Poll::Pending) => {}
            Err(_) => return Poll::Ready(Err(Cause::Host("it panicked; please report this".to_owned()))),
        }
        self.wake_on_cut(context.waker().clone());
        match self.reached() {
            Some(limit) => Poll::Ready(Err(Cause::Limit(limit))),
            None => Poll::Pending,
        }
    }
}

/// CPU time of the calling thread since a guest last saw a tick on it, in nanoseconds.
fn thread_cpu_time_since_tick() -> u64 {
    thread_local! {
        static LAST: Cell<u64> = const { Cell::new(0) };
    }
    let now = thread_cpu_time();
    now.saturating_sub(LAST.replace(now))
}

/// CPU time of the calling thread, in nanoseconds.
pub(super) fn thread_cpu_time() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_spent_for_a_request_counts_as_its_own() {
        let limits = Limits { cpu_time: Some(Duration::from_secs(1)), ..Limits::default() };
        let watch = Watch::new(&limits, Waits::Thread);
        watch.spend(999_999_999);
        assert_eq!(watch.reached(), None);
        watch.spend(1);
        assert_eq!(watch.reached(), Some(Limit::CpuTime(Duration::from_secs(1))));
    }
}
