//! What an instance costs, a thread, and the loading of a component, each measured in a process of its own.

use std::hint::black_box;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::anyhow;
use clap::Args;
use plugsock::{Sandbox, SandboxOptions};
use serde::{Deserialize, Serialize};

use crate::PATIENCE;
use crate::process::{Process, answer};
use crate::report::{self, CACHE};

/// Load components, by compiling them or from a cache
#[derive(Args, Debug)]
pub struct LoadHandlers {
    /// Where compiled ones are looked for and kept
    #[arg(long)]
    cache: Option<String>,
    handlers: Vec<PathBuf>,
}

/// Make and drop instances of a component, by default of `echo`
#[derive(Args, Debug)]
pub struct Instantiate {
    handler: Option<PathBuf>,
    #[arg(long)]
    window_ms: u64,
}

/// Spawn and join threads
#[derive(Args, Debug)]
pub struct SpawnThread {
    #[arg(long)]
    window_ms: u64,
}

/// What one took on average.
#[derive(Debug, Deserialize, Serialize)]
pub struct Cost {
    pub microseconds: f64,
}

impl Cost {
    /// For the driver.
    fn print(&self) -> anyhow::Result<()> {
        println!("{}", serde_json::to_string(self)?);
        Ok(())
    }
}

/// Loads components in a process of its own and says what all took. In the driver, a compiler's memory would make
/// the start of every later process take longer.
pub fn load(cache: Option<&str>, handlers: &[PathBuf]) -> anyhow::Result<Cost> {
    let mut command = Process::role("load-handlers")?;
    command.args(cache.map(|cache| format!("--cache={cache}"))).args(handlers);
    answer(command, 60 * PATIENCE)
}

impl LoadHandlers {
    pub fn run(self) -> anyhow::Result<()> {
        let cache = self.cache.as_deref().map(report::cache).transpose()?;
        let sandbox = Sandbox::new(SandboxOptions { cache, ..SandboxOptions::default() })?;
        let begin = Instant::now();
        for handler in self.handlers {
            sandbox.load(handler)?;
        }
        Cost { microseconds: begin.elapsed().as_secs_f64() * 1e6 }.print()
    }
}

impl Instantiate {
    pub fn run(self) -> anyhow::Result<()> {
        let options = SandboxOptions { cache: Some(report::cache(CACHE)?), ..SandboxOptions::default() };
        let sandbox = Sandbox::new(options)?;
        let handler = self.handler.map_or_else(|| sandbox.echo(), |file| sandbox.load(file))?;
        measure(self.window_ms, || handler.try_out().map_err(|reason| anyhow!(reason)))
    }
}

impl SpawnThread {
    pub fn run(self) -> anyhow::Result<()> {
        measure(self.window_ms, || {
            thread::Builder::new().spawn(|| black_box(()))?.join().map_err(|_| anyhow!("it panicked"))
        })
    }
}

fn measure(window_ms: u64, mut once: impl FnMut() -> anyhow::Result<()>) -> anyhow::Result<()> {
    let window = Duration::from_millis(window_ms);
    // A tenth beforehand, to warm up.
    repeat(window / 10, &mut once)?;
    repeat(window, &mut once)?.print()
}

fn repeat(window: Duration, once: &mut impl FnMut() -> anyhow::Result<()>) -> anyhow::Result<Cost> {
    let begin = Instant::now();
    let mut count = 0.0;
    while begin.elapsed() < window {
        once()?;
        count += 1.0;
    }
    Ok(Cost { microseconds: begin.elapsed().as_secs_f64() * 1e6 / count })
}
