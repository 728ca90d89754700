//! What the signals mean to `plugsock serve`.

use std::sync::Arc;
use std::thread;

use anyhow::Context;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR2};
use signal_hook::iterator::{self, Handle};

use super::running::Running;

pub struct Signals(iterator::Signals);

/// Catches the signals, to be followed later.
pub fn catch() -> anyhow::Result<Signals> {
    let signals =
        iterator::Signals::new([SIGHUP, SIGINT, SIGTERM, SIGUSR2]).context("cannot watch for signals")?;
    Ok(Signals(signals))
}

impl Signals {
    pub fn handle(&self) -> Handle {
        self.0.handle()
    }

    /// Does what signals ask for, until one has ended the servers or the handle is closed.
    pub fn follow(mut self, running: &Arc<Running>) {
        for signal in self.0.forever() {
            match signal {
                SIGHUP => running.reload_in_background(),
                SIGUSR2 => upgrade(running),
                _ => break,
            }
        }
        if self.0.handle().is_closed() {
            return;
        }
        let follow = move || {
            if let Some(signal) = self.0.forever().find(|signal| [SIGINT, SIGTERM].contains(signal)) {
                std::process::exit(128 + signal);
            }
        };
        if let Err(error) = thread::Builder::new().name("signals".to_owned()).spawn(follow) {
            tracing::warn!("a second signal will not end this process at once: {error}");
        }
        running.close();
    }
}

/// On a thread of its own, since it may take its time and other signals go on meaning something.
fn upgrade(running: &Arc<Running>) {
    let running = running.clone();
    let spawned = thread::Builder::new().name("upgrade".to_owned()).spawn(move || running.upgrade());
    if let Err(error) = spawned {
        tracing::error!("nothing takes over, this process serves on: {error}");
    }
}
