//! What one `plugsock serve` runs: its servers, and the slots that they serve.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use plugsock::{Sandbox, ServeError, Server, Slot, SlotOptions, SwapError, Swapped};

use super::progress::spin_while;
use super::signals::Signals;
use super::watch::watch;

pub struct Running {
    pub servers: Vec<Arc<Server>>,
    pub plugs: Vec<Plug>,
    pub shutdown_timeout: Duration,
}

/// A slot, and the file that it was told to serve.
#[derive(Clone)]
pub struct Plug {
    pub slot: Slot,
    /// `None` for the built-in echo.
    file: Option<PathBuf>,
}

impl Plug {
    /// Loads the file again, and says in the log what came of it.
    pub fn reload(&self) {
        let Some(file) = &self.file else { return };
        report(&self.slot, self.slot.swap(file.as_path()));
    }
}

/// A swap that succeeded has said so itself.
fn report(slot: &Slot, swapped: Result<Swapped, SwapError>) {
    if let Err(error) = swapped {
        tracing::error!(slot = slot.name(), "not swapped: {error}");
    }
}

impl Running {
    /// Loads a handler into a slot of its own.
    pub fn plug(
        &mut self,
        sandbox: &Sandbox,
        file: Option<PathBuf>,
        options: SlotOptions,
    ) -> anyhow::Result<Slot> {
        let name = file.as_deref().unwrap_or(Path::new("echo"));
        let handler = spin_while(&format!("compiling {}", name.display()), || match &file {
            Some(path) => sandbox.load(path),
            None => sandbox.echo(),
        })?;
        let stem = name.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let namesakes = self
            .plugs
            .iter()
            .filter(|plug| plug.file.as_deref().and_then(Path::file_stem) == name.file_stem());
        let name = match namesakes.count() {
            0 => stem,
            others => format!("{stem}-{}", others + 1),
        };
        let slot = Slot::new(handler, SlotOptions { name: Some(name), ..options })?;
        self.plugs.push(Plug { slot: slot.clone(), file });
        Ok(slot)
    }

    /// Loads every handler again.
    pub fn reload(&self) {
        for plug in self.plugs.clone() {
            // Beside each other, and beside whoever asked.
            let spawned = thread::Builder::new().name("reload".to_owned()).spawn(move || plug.reload());
            if let Err(error) = spawned {
                tracing::error!("cannot load the handlers again: {error}");
            }
        }
    }

    /// Loads a handler again whenever its file has changed.
    pub fn watch(&self) -> anyhow::Result<()> {
        for plug in &self.plugs {
            if let Some(file) = &plug.file {
                let plug = plug.clone();
                watch(file, move || plug.reload())?;
            }
        }
        Ok(())
    }

    /// Serves each server on a thread of its own; the first signal ends them in order, a second at once.
    pub fn serve_until_signal(self, signals: Signals) -> anyhow::Result<ExitCode> {
        let running = Arc::new(self);
        let handle = signals.handle();
        let signalled = running.clone();
        let follower =
            thread::Builder::new().name("signals".to_owned()).spawn(move || signals.follow(&signalled))?;
        let served = thread::scope(|scope| {
            let servers = running.servers.iter();
            let serving: Vec<_> = servers.map(|server| scope.spawn(|| server.serve_forever())).collect();
            let served = serving.into_iter().map(|served| served.join().expect("serving does not panic"));
            // A signal may close a server before it is served at all.
            served.filter(|served| !matches!(served, Err(ServeError::Closed))).collect::<Result<(), _>>()
        });
        if served.is_err() {
            handle.close();
        }
        let _ = follower.join();
        served?;
        Ok(ExitCode::SUCCESS)
    }

    /// Stops accepting, and waits for what is open.
    pub fn close(&self) {
        let timeout = self.shutdown_timeout;
        tracing::info!("shutting down: no new requests; open ones have {timeout:?}");
        self.servers.iter().for_each(|server| server.request_shutdown());
        let started = Instant::now();
        for server in &self.servers {
            let cut = server.server_close_within(timeout.saturating_sub(started.elapsed()));
            if cut > 0 {
                tracing::warn!("cut off {cut} requests that were still open on {}", server.address());
            }
        }
    }
}
