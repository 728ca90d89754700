//! Where a guest spends its time: a profile that the Firefox profiler opens (<https://profiler.firefox.com>).
//!
//! The engine's epoch advances once a millisecond while one is taken, and each time the guest that runs says
//! which functions it is in.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use wasmtime::{GuestProfiler, StoreContextMut};

use super::code::Code;
use super::engine::start_ticker;
use super::handler::Handler;
use super::state::State;
use super::watch::thread_cpu_time;

/// How often a guest is looked at.
const INTERVAL: Duration = Duration::from_millis(1);

/// How often at most: a profile is kept in memory, and opened whole.
const SAMPLES_MAX: usize = 1 << 20;

/// A profile that is being taken of a handler's guests.
#[derive(Debug)]
pub struct Profile(Arc<Sampling>);

#[derive(Debug)]
pub(super) struct Sampling(Mutex<Option<Samples>>);

#[derive(Debug)]
struct Samples {
    profiler: GuestProfiler,
    count: usize,
    /// The thread's processor time at the last look.
    spent: u64,
}

impl Handler {
    /// From now on takes a profile of its guests, which run one after the other on this thread; `None` if one is or was
    /// being taken.
    pub fn profile(&self) -> io::Result<Option<Profile>> {
        let (linked, name) = (&self.0.linked, self.name());
        let profiler = match linked.code() {
            Code::Component(component) => {
                GuestProfiler::new_component(linked.engine(), name, INTERVAL, component, [])
            }
            Code::Module(module) => {
                let modules = [(module.name().unwrap_or(name).to_owned(), module)];
                GuestProfiler::new(linked.engine(), name, INTERVAL, modules)
            }
        };
        let profiler = profiler.map_err(io::Error::other)?;
        let samples = Samples { profiler, count: 0, spent: thread_cpu_time() };
        let sampling = Arc::new(Sampling(Mutex::new(Some(samples))));
        if self.0.sampling.set(sampling.clone()).is_err() {
            return Ok(None);
        }
        start_ticker(linked.engine(), INTERVAL)?;
        Ok(Some(Profile(sampling)))
    }
}

impl Profile {
    /// Writes what was seen so far, as JSON in the profiler's own format, and ends it.
    pub fn finish(self, out: impl io::Write) -> io::Result<()> {
        match self.0.samples().take() {
            Some(samples) => samples.profiler.finish(out).map_err(io::Error::other),
            None => Ok(()),
        }
    }
}

impl Sampling {
    fn samples(&self) -> MutexGuard<'_, Option<Samples>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at the guest that runs.
    pub(super) fn sample(&self, store: &StoreContextMut<'_, State>) {
        if let Some(samples) = &mut *self.samples()
            && samples.count < SAMPLES_MAX
        {
            samples.count += 1;
            let now = thread_cpu_time();
            let spent = now.saturating_sub(std::mem::replace(&mut samples.spent, now));
            samples.profiler.sample(store, Duration::from_nanos(spent));
        }
    }
}
