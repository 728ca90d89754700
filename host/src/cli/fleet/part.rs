//! What a program that serves and its part in a fleet know of each other.

use std::fmt::Write;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use plugsock::control::FleetStatus;

/// Has a process that takes over be the same host as the one before it.
const VARIABLE: &str = "PLUGSOCK_FLEET_INSTANCE";

#[derive(Debug)]
pub struct Part {
    /// Tells this host from another of its name.
    instance: String,
    status: Mutex<FleetStatus>,
    is_handed_over: AtomicBool,
    left: (Mutex<bool>, Condvar),
}

/// How long the end of a process waits until NATS knows of it.
const LEAVING_TIME: Duration = Duration::from_secs(1);

impl Part {
    pub fn new(is_successor: bool) -> Self {
        let before = is_successor.then(|| std::env::var(VARIABLE).ok()).flatten();
        let instance = before.filter(|instance| is_instance(instance)).unwrap_or_else(instance);
        Self {
            instance,
            status: Mutex::default(),
            is_handed_over: AtomicBool::new(false),
            left: Default::default(),
        }
    }

    pub fn instance(&self) -> &str {
        &self.instance
    }

    /// What a process that takes over is told.
    pub fn variable(&self) -> (&'static str, &str) {
        (VARIABLE, &self.instance)
    }

    /// Another process is this host from now on.
    pub fn hand_over(&self) {
        self.is_handed_over.store(true, SeqCst);
    }

    pub fn is_handed_over(&self) -> bool {
        self.is_handed_over.load(SeqCst)
    }

    /// This process says nothing more to the fleet.
    pub fn has_left(&self) {
        *self.left.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.left.1.notify_all();
    }

    /// Waits for that, if not for long.
    pub fn wait_until_left(&self) {
        let left = self.left.0.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.left.1.wait_timeout_while(left, LEAVING_TIME, |left| !*left));
    }

    /// What is known of the fleet here.
    pub fn status(&self) -> FleetStatus {
        self.shown().clone()
    }

    pub fn show(&self, status: FleetStatus) {
        *self.shown() = status;
    }

    fn shown(&self) -> MutexGuard<'_, FleetStatus> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn instance() -> String {
    let mut random = [0; 8];
    // Only where the kernel has none yet is it known beforehand.
    let _ = rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty());
    random.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// It is part of a key.
fn is_instance(text: &str) -> bool {
    text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}
