//! The load generator: clients in a closed loop, all on one thread, which leaves the other core to the server.
//!
//! Every byte that comes back is compared with what was sent.

mod client;
mod connection;
mod hold;
mod http;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use clap::{Args, ValueEnum};
use rustix::buffer::spare_capacity;
use rustix::event::epoll;
use rustix::time::{ClockId, Timespec, clock_gettime};
use serde::{Deserialize, Serialize};

use crate::transport::Transport;
use crate::{PATIENCE, usage};
use client::{Client, Conversation};
pub use hold::Hold;

/// Put load on a server and report what it did
#[derive(Args, Debug)]
pub struct Load {
    work: Work,
    #[arg(long)]
    over: Transport,
    #[arg(long)]
    address: SocketAddr,
    #[arg(long)]
    clients: usize,
    /// The server's process, whose CPU time is measured
    #[arg(long)]
    contender: u32,
    #[arg(long)]
    warm_up_ms: u64,
    #[arg(long)]
    window_ms: u64,
}

/// What a client does, again and again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, ValueEnum)]
pub enum Work {
    /// Connects, sends a message, reads it back, says the end, reads the end of the stream, closes.
    Connect,
    /// Sends a message and reads it back, on a connection that stays open, or a datagram.
    Ping,
    /// Sends a block and reads it back, on a connection that stays open.
    Bulk,
}

/// What was done within the window.
#[derive(Debug, Deserialize, Serialize)]
pub struct LoadReport {
    pub operations: f64,
    pub seconds: f64,
    pub median_microseconds: f64,
    pub p99_microseconds: f64,
    pub contender_cpu_seconds: f64,
    pub load_cpu_seconds: f64,
}

impl Work {
    pub fn name(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Ping => "ping",
            Self::Bulk => "bulk",
        }
    }
}

impl Load {
    pub fn run(self) -> anyhow::Result<()> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let conversation = Conversation::new(self.work, self.over, self.address)?;
        let mut clients = Vec::with_capacity(self.clients);
        for number in 0..self.clients {
            clients.push(Client::connect(&conversation, &epoll, number).context("cannot connect")?);
        }
        let mut window = Window::after(Duration::from_millis(self.warm_up_ms), self.contender);
        let end = window.begin + Duration::from_millis(self.window_ms);
        let mut events = Vec::with_capacity(self.clients);
        let patience = Timespec::try_from(PATIENCE)?;
        let mut busy = self.clients;
        while busy > 0 {
            epoll::wait(&epoll, spare_capacity(&mut events), Some(&patience))?;
            ensure!(!events.is_empty(), "{busy} clients had no answer in {PATIENCE:?}");
            for event in events.drain(..) {
                let client: &mut Client = &mut clients[event.data.u64() as usize];
                let Some(begun) =
                    client.advance(&conversation).with_context(|| format!("client {client:?}"))?
                else {
                    continue;
                };
                let now = Instant::now();
                window.note(begun, now);
                if now < end {
                    client.again(&conversation, &epoll, now)?;
                } else {
                    client.leave(&epoll)?;
                    window.close();
                    busy -= 1;
                }
            }
        }
        println!("{}", serde_json::to_string(&window.report()?)?);
        Ok(())
    }
}

/// The time in which operations count.
struct Window {
    begin: Instant,
    contender: u32,
    latencies: Vec<Duration>,
    cpu_at_begin: Option<CpuTimes>,
    at_end: Option<(Instant, CpuTimes)>,
}

struct CpuTimes {
    contender: f64,
    load: f64,
}

impl CpuTimes {
    fn now(contender: u32) -> Self {
        let own = clock_gettime(ClockId::ProcessCPUTime);
        Self { contender: usage::cpu_seconds(contender), load: own.tv_sec as f64 + own.tv_nsec as f64 * 1e-9 }
    }
}

impl Window {
    fn after(warm_up: Duration, contender: u32) -> Self {
        let begin = Instant::now() + warm_up;
        Self { begin, contender, latencies: Vec::with_capacity(1 << 20), cpu_at_begin: None, at_end: None }
    }

    /// An operation has ended.
    fn note(&mut self, begun: Instant, ended: Instant) {
        if ended < self.begin || self.at_end.is_some() {
            return;
        }
        if self.cpu_at_begin.is_none() {
            self.cpu_at_begin = Some(CpuTimes::now(self.contender));
        }
        self.latencies.push(ended - begun);
    }

    /// What ends later does not count.
    fn close(&mut self) {
        self.at_end.get_or_insert_with(|| (Instant::now(), CpuTimes::now(self.contender)));
    }

    fn report(mut self) -> anyhow::Result<LoadReport> {
        let cpu_at_begin = self.cpu_at_begin.context("no operation ended within the window")?;
        let (end, cpu_at_end) = self.at_end.context("the window was not closed")?;
        self.latencies.sort_unstable();
        let quantile = |part: f64| {
            let index = (self.latencies.len() - 1) as f64 * part;
            self.latencies[index as usize].as_secs_f64() * 1e6
        };
        Ok(LoadReport {
            operations: self.latencies.len() as f64,
            seconds: (end - self.begin).as_secs_f64(),
            median_microseconds: quantile(0.5),
            p99_microseconds: quantile(0.99),
            contender_cpu_seconds: cpu_at_end.contender - cpu_at_begin.contender,
            load_cpu_seconds: cpu_at_end.load - cpu_at_begin.load,
        })
    }
}
