//! What an instance costs, and what a thread costs: each made and ended in a loop, in a process of its own.

use std::hint::black_box;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::anyhow;
use clap::Args;
use plugsock::{Sandbox, SandboxOptions};
use serde::{Deserialize, Serialize};

use crate::report::{self, CACHE};

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
    let cost = repeat(window, &mut once)?;
    println!("{}", serde_json::to_string(&cost)?);
    Ok(())
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
