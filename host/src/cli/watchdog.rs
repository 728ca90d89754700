//! Tells a supervisor that wants to hear it (`WatchdogSec=`) that all accept loops still come round. Where one does not, it is
//! told nothing, and puts an end to this process and starts another.

use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, bounded};

use super::running::Running;

/// Tells it until this is dropped.
pub struct Watchdog(Option<(Sender<()>, JoinHandle<()>)>);

impl Watchdog {
    /// Does nothing where nobody wants to hear.
    pub fn start(running: &Arc<Running>) -> io::Result<Self> {
        let Some(time) = sd_notify::watchdog_enabled() else { return Ok(Self(None)) };
        let (stop, stopped) = bounded(0);
        let running = running.clone();
        let watch = move || watch(&running, &stopped, time / 2);
        let watching = thread::Builder::new().name("watchdog".to_owned()).spawn(watch)?;
        Ok(Self(Some((stop, watching))))
    }
}

/// Twice in the time that the supervisor gives, as it recommends. Each loop has until the next time to come round.
fn watch(running: &Running, stopped: &Receiver<()>, every: Duration) {
    let mut are_silent = false;
    while stopped.recv_timeout(every) == Err(RecvTimeoutError::Timeout) {
        // Each is asked, also after one that does not answer.
        let servers = running.servers();
        let silent: Vec<_> = servers.iter().filter(|bound| !bound.server.is_responsive()).collect();
        if silent.is_empty() {
            running.supervisor.alive();
        } else if !are_silent {
            let addresses: Vec<_> = silent.iter().map(|bound| bound.server.address().to_string()).collect();
            let addresses = addresses.join(", ");
            tracing::error!(
                "{addresses}: nothing is accepted, for {every:?} now, and the supervisor is not told that all is well"
            );
        }
        are_silent = !silent.is_empty();
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        let Some((stop, watching)) = self.0.take() else { return };
        drop(stop);
        let _ = watching.join();
    }
}
