//! What systemd, or another supervisor that speaks its protocol (`sd_notify(3)`), is told of `plugsock serve`. Where
//! there is none, as `NOTIFY_SOCKET` says, nothing is told.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sd_notify::NotifyState;

#[derive(Clone, Default)]
pub struct Supervisor(Arc<Mutex<State>>);

/// Locked while something is told, so that it is told in order.
#[derive(Default)]
struct State {
    /// Reloads under way.
    reloads: usize,
    /// What serves is another process now: what this one does is no longer the supervisor's concern.
    is_handed_over: bool,
}

/// A reload that is under way until the last clone of this is dropped.
pub struct Reloading(Supervisor);

impl Supervisor {
    /// This process serves. A successor does not say so itself: until it is the main process, it may not.
    pub fn ready(&self) {
        self.state().tell(&[NotifyState::Ready]);
    }

    /// Handlers are loaded again, until what this returns is dropped.
    pub fn reloading(&self) -> Arc<Reloading> {
        let mut state = self.state();
        state.reloads += 1;
        match NotifyState::monotonic_usec_now() {
            Ok(now) => state.tell(&[NotifyState::Reloading, now]),
            Err(error) => tracing::warn!("cannot tell the supervisor of a reload: {error}"),
        }
        Arc::new(Reloading(self.clone()))
    }

    /// Another process serves from now on. With this, whatever else was under way is over.
    pub fn handed_over(&self, process: u32) {
        let mut state = self.state();
        state.tell(&[NotifyState::MainPid(process), NotifyState::Ready]);
        state.is_handed_over = true;
    }

    /// This process ends, and with it the service unless it was handed over.
    pub fn stopping(&self) {
        self.state().tell(&[NotifyState::Stopping]);
    }

    /// Whoever serves here is alive, as a supervisor with a watchdog (`WatchdogSec=`) wants to hear.
    pub fn alive(&self) {
        self.state().tell(&[NotifyState::Watchdog]);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn tell(&self, what: &[NotifyState<'_>]) {
        if self.is_handed_over {
            return;
        }
        if let Err(error) = sd_notify::notify(what) {
            tracing::warn!("cannot tell the supervisor what this process does, by NOTIFY_SOCKET: {error}");
        }
    }
}

impl Drop for Reloading {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.reloads -= 1;
        if state.reloads == 0 {
            state.tell(&[NotifyState::Ready]);
        }
    }
}
