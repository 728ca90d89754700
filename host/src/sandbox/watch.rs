//! The watch that is kept over a request.

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

use wasmtime::UpdateDeadline;

use super::limits::Limits;
use crate::block_on::block_on_until;
use crate::error::{Cause, Limit, Phase};
use crate::request::Waits;
use crate::taken::{InstanceOrigin, Taken};
use crate::traces::{Call, Recorded, Trace, Waiting};

/// How often running guests are looked at.
pub(crate) const TICK: Duration = Duration::from_millis(10);

/// How long a hook may hold up the accept loop.
const HOOK_TIME: Duration = Duration::from_secs(1);

/// How long a handler may take to be instantiated when no request waits for it.
const START_TIME: Duration = Duration::from_secs(60);

/// Keeps a request within its time, from outside the store: it can be cut off from any thread.
#[derive(Debug)]
pub(crate) struct Watch {
    pub(super) deadline: Option<Instant>,
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

    pub(super) fn refuse(&self, limit: Limit) {
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
