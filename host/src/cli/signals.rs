//! What the signals mean to `plugsock serve`.

use std::thread;

use anyhow::Context;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::{self, Handle};

use super::running::Running;

pub struct Signals(iterator::Signals);

/// Catches the signals, to be followed later.
pub fn catch() -> anyhow::Result<Signals> {
    let signals = iterator::Signals::new([SIGHUP, SIGINT, SIGTERM]).context("cannot watch for signals")?;
    Ok(Signals(signals))
}

impl Signals {
    pub fn handle(&self) -> Handle {
        self.0.handle()
    }

    /// Does what signals ask for, until one has ended the servers or the handle is closed.
    pub fn follow(mut self, running: &Running) {
        for signal in self.0.forever() {
            match signal {
                SIGHUP => running.reload(),
                _ => break,
            }
        }
        if self.0.handle().is_closed() {
            return;
        }
        thread::spawn(move || {
            if let Some(signal) = self.0.forever().find(|signal| *signal != SIGHUP) {
                std::process::exit(128 + signal);
            }
        });
        running.close();
    }
}
