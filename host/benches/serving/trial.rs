//! One measurement of one contender.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{anyhow, ensure};
use serde::Serialize;

use crate::cost::Cost;
use crate::load::{LoadReport, Work};
use crate::peers::{Contender, Running, too_few_areas};
use crate::plan::{ACTIVE, Scale};
use crate::process::{Process, Silence, answer, too_many_descriptors};
use crate::state::Keeper;
use crate::transport::Transport;
use crate::{MESSAGE, PATIENCE, made, swap, usage};

/// What is measured, and of whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Trial {
    /// Operations a second, under full load.
    Load { work: Work, over: Transport, clients: usize, contender: Contender },
    /// Memory of an open connection on which nothing happens.
    Idle { over: Transport, connections: usize, contender: Contender },
    /// How long an answer takes on a few busy connections beside idle ones.
    Latency { idle: usize, quantile: Quantile, contender: Contender },
    /// How long an answer takes on a connection while so many handshakes are under way.
    Wait { handshakes: usize, quantile: Quantile, contender: Contender },
    /// From the start of the process to its first answer.
    Start(Contender),
    /// Like `Load` of `Work::Connect`, or with HTTP `Work::Ping`; whether the handler is swapped meanwhile.
    Swap { over: Transport, strategy: &'static str, clients: usize, is_swapped: bool },
    /// From the command to swap to the first answer of the new version.
    SwapTime(&'static str),
    /// From a connection's begin to the first bytes that come back, one connection after the other.
    Answer(Contender),
    /// A fresh instance and its drop, of the built-in `echo` or a handler as its author makes it in a language.
    Instantiate(Option<&'static str>),
    /// A native thread, spawned and joined.
    SpawnThread,
    /// Increments a second of counts that are kept.
    State(Keeper),
}

/// Which of the sorted latencies counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Quantile {
    Median,
    P99,
}

/// What one measurement came to.
#[derive(Clone, Debug, Serialize)]
pub struct Sample {
    pub value: f64,
    #[serde(flatten)]
    detail: Detail,
}

/// What helps to understand a value.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
enum Detail {
    Load {
        /// CPU time of the contender for one operation.
        cpu_microseconds: f64,
        /// How much of one core the load generator used; near 1, it was the bottleneck.
        load_busy: f64,
    },
    Memory {
        /// KiB of page tables a connection, which are not part of the value.
        page_tables: f64,
    },
    None {},
}

/// Why there is no sample.
#[derive(Clone)]
pub enum Failure {
    /// It can't be had here, which is no fault.
    Unavailable(String),
    /// Something went wrong, and the run with it.
    Broken(Arc<anyhow::Error>),
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Broken(Arc::new(error.into()))
    }
}

/// What a value counts.
pub struct Unit {
    pub name: &'static str,
    pub more_is_better: bool,
}

impl Trial {
    pub fn unit(self) -> Unit {
        let (name, more_is_better) = match self {
            Self::Load { work: Work::Bulk, .. } => ("MiB/s", true),
            Self::Load { .. } | Self::Swap { .. } | Self::State(_) => ("/s", true),
            Self::Idle { .. } => ("KiB", false),
            Self::Latency { .. } | Self::Wait { .. } | Self::Instantiate(_) | Self::SpawnThread => {
                ("µs", false)
            }
            Self::Start(_) | Self::Answer(_) | Self::SwapTime(_) => ("ms", false),
        };
        Unit { name, more_is_better }
    }

    pub fn measure(self, scale: &Scale) -> Result<Sample, Failure> {
        match self {
            Self::Load { work, over, clients, contender } => {
                let running = contender.launch(over, clients)?;
                let load = work.put_on(&running, over, clients, scale)?;
                let value = match work {
                    Work::Bulk => load.operations / 16.0 / load.seconds,
                    _ => load.operations / load.seconds,
                };
                Ok(load.sample(value))
            }
            Self::Idle { over, connections, contender } => idle(over, connections, contender),
            Self::Latency { idle, quantile, contender } => {
                let mut running = launch_for_many(Transport::Tcp, contender, idle + ACTIVE)?;
                let _holding = hold(&mut running, Transport::Tcp, idle)?;
                let load = Work::Ping.put_on(&running, Transport::Tcp, ACTIVE, scale)?;
                Ok(load.sample(load.latency(quantile)))
            }
            Self::Wait { handshakes, quantile, contender } => {
                let load = wait(handshakes, contender, scale)?;
                Ok(load.sample(load.latency(quantile)))
            }
            Self::Start(contender) => start(|| contender.launch(Transport::Tcp, 1), scale.starts),
            Self::Swap { over, strategy, clients, is_swapped } => {
                let load = swap::load(over, strategy, clients, is_swapped, scale)?;
                Ok(load.sample(load.operations / load.seconds))
            }
            Self::SwapTime(strategy) => {
                let value = swap::time(strategy, scale.swaps)?;
                Ok(Sample { value, detail: Detail::None {} })
            }
            Self::Answer(contender) => first_answer(contender, scale.window),
            Self::Instantiate(None) => instantiate(None, scale),
            Self::Instantiate(Some(language)) => {
                instantiate(Some(&made::component("stream", language)?), scale)
            }
            Self::State(keeper) => Ok(Sample { value: keeper.measure(scale)?, detail: Detail::None {} }),
            Self::SpawnThread => cost(Process::role("spawn-thread")?, scale),
        }
    }
}

impl LoadReport {
    fn latency(&self, quantile: Quantile) -> f64 {
        match quantile {
            Quantile::Median => self.median_microseconds,
            Quantile::P99 => self.p99_microseconds,
        }
    }

    fn sample(&self, value: f64) -> Sample {
        let cpu_microseconds = self.contender_cpu_seconds * 1e6 / self.operations;
        Sample {
            value,
            detail: Detail::Load { cpu_microseconds, load_busy: self.load_cpu_seconds / self.seconds },
        }
    }
}

/// What an instance of `echo` or of a component's file costs.
pub fn instantiate(component: Option<&Path>, scale: &Scale) -> Result<Sample, Failure> {
    let mut command = Process::role("instantiate")?;
    command.args(component);
    cost(command, scale)
}

fn cost(mut command: Command, scale: &Scale) -> Result<Sample, Failure> {
    command.arg("--window-ms").arg(scale.window.as_millis().to_string());
    let cost: Cost = answer(command, 2 * scale.window + PATIENCE)?;
    Ok(Sample { value: cost.microseconds, detail: Detail::None {} })
}

fn idle(over: Transport, connections: usize, contender: Contender) -> Result<Sample, Failure> {
    let mut running = launch_for_many(over, contender, connections + 1)?;
    // What the first request brings with it is not the connections' fault.
    drop(hold(&mut running, over, 1)?);
    let before = usage::memory(running.pid());
    let _holding = hold(&mut running, over, connections)?;
    let after = usage::memory(running.pid());
    let each = |before: f64, after: f64| (after - before) / connections as f64;
    let page_tables = each(before.page_tables, after.page_tables);
    Ok(Sample { value: each(before.resident, after.resident), detail: Detail::Memory { page_tables } })
}

/// A contender that may have so many connections open, as whoever opens them may.
fn launch_for_many(over: Transport, contender: Contender, connections: usize) -> Result<Running, Failure> {
    match too_many_descriptors(connections) {
        Some(reason) => Err(Failure::Unavailable(reason)),
        None => contender.launch(over, connections),
    }
}

/// A process that has opened so many connections, and exchanged a message on each.
fn hold(running: &mut Running, over: Transport, connections: usize) -> Result<Process, Failure> {
    let mut command = Process::role("hold")?;
    command.args(["--address", &running.address.to_string(), "--over", over.name()]);
    command.args(["--connections", &connections.to_string()]);
    let mut process = Process::start(command)?;
    match process.line(6 * PATIENCE) {
        Ok(_) => Ok(process),
        Err(silence) => Err(match too_few_areas(&running.words()) {
            Some(failure) => failure,
            None => anyhow!(silence).context(format!("opening {connections} connections")).into(),
        }),
    }
}

/// Pings on one connection, while so many clients of another process shake hands again and again.
fn wait(handshakes: usize, contender: Contender, scale: &Scale) -> Result<LoadReport, Failure> {
    let over = Transport::Tls;
    let running = contender.launch(over, handshakes + 1)?;
    let command = Work::Connect.command(&running, over, handshakes, scale.warm_up, 6 * PATIENCE)?;
    let mut shaking = Process::start(command)?;
    thread::sleep(scale.warm_up);
    let load = Work::Ping.put_on(&running, over, 1, scale)?;
    match shaking.line(Duration::ZERO) {
        Err(Silence::Waiting { .. }) => Ok(load),
        Ok(line) => Err(anyhow!("the handshakes ended early: {line}").into()),
        Err(silence) => Err(anyhow!(silence).context("handshakes").into()),
    }
}

/// The median of several starts.
pub fn start(launch: impl Fn() -> Result<Running, Failure>, starts: usize) -> Result<Sample, Failure> {
    // Once for the cache of compiled handlers, and the system's of files.
    drop(launch()?);
    let mut times = Vec::new();
    for _ in 0..starts {
        let begin = Instant::now();
        let running = launch()?;
        exchange(running.address)?;
        times.push(begin.elapsed());
    }
    Ok(median_milliseconds(times))
}

/// The median of as many answers as there are in a window.
fn first_answer(contender: Contender, window: Duration) -> Result<Sample, Failure> {
    let running = contender.launch(Transport::Tcp, 1)?;
    exchange(running.address)?;
    let end = Instant::now() + window;
    let mut times = Vec::new();
    while Instant::now() < end {
        let begin = Instant::now();
        let stream = exchange(running.address)?;
        times.push(begin.elapsed());
        // What the handler's end takes is not the next one's time.
        finish(stream)?;
    }
    Ok(median_milliseconds(times))
}

fn median_milliseconds(mut times: Vec<Duration>) -> Sample {
    times.sort();
    Sample { value: times[times.len() / 2].as_secs_f64() * 1e3, detail: Detail::None {} }
}

/// One connection, one message, the same bytes back.
pub fn exchange(address: SocketAddr) -> anyhow::Result<TcpStream> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(&[b'?'; MESSAGE])?;
    let mut answer = [0; MESSAGE];
    stream.read_exact(&mut answer)?;
    ensure!(answer == [b'?'; MESSAGE], "other bytes came back");
    Ok(stream)
}

/// Waits until the server closes.
fn finish(mut stream: TcpStream) -> anyhow::Result<()> {
    stream.shutdown(Shutdown::Write)?;
    ensure!(stream.read(&mut [0])? == 0, "more came back than was sent");
    Ok(())
}

impl Work {
    /// Has a process of its own put load on a contender.
    pub fn put_on(
        self,
        running: &Running,
        over: Transport,
        clients: usize,
        scale: &Scale,
    ) -> anyhow::Result<LoadReport> {
        let command = self.command(running, over, clients, scale.warm_up, scale.window)?;
        answer(command, scale.warm_up + scale.window + 3 * PATIENCE)
    }

    fn command(
        self,
        running: &Running,
        over: Transport,
        clients: usize,
        warm_up: Duration,
        window: Duration,
    ) -> anyhow::Result<Command> {
        let mut command = Process::role("load")?;
        let milliseconds = |duration: Duration| duration.as_millis().to_string();
        command
            .args([self.name(), "--over", over.name(), "--address", &running.address.to_string()])
            .args(["--clients", &clients.to_string(), "--contender", &running.pid().to_string()])
            .args(["--warm-up-ms", &milliseconds(warm_up)])
            .args(["--window-ms", &milliseconds(window)]);
        Ok(command)
    }
}
