//! More handlers in one process, and more versions of one handler, one after the other.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::{Column, Cost, Growth, Row, row};
use crate::load::Work;
use crate::peers::{Running, serve};
use crate::plan::{CLIENTS, Scale};
use crate::process::too_many_descriptors;
use crate::swap::{Deployed, VERSIONS, swap};
use crate::transport::Transport;
use crate::trial::{Failure, exchange};
use crate::{cost, report, usage};

const ADDRESS: &str = "tcp://127.0.0.1:0";

/// Its socket, a wake-up, its component.
const DESCRIPTORS_A_HANDLER: usize = 4;

/// Of the swaps before a point so many count.
const LAST: usize = 20;

/// Each on an address of its own.
pub fn loaded(points: &'static [usize]) -> Growth {
    let columns = vec![
        Column::new("start to first answer, ms", Cost::Total),
        Column::new("memory, KiB for one more", Cost::Itself),
        Column::new("connect, /s with one of them", Cost::Rate),
    ];
    let measure = |points: &[usize], scale: &Scale| {
        let (mut handlers, mut resident) = (0.0, 0.0);
        let row = |count: &usize| -> Row {
            let values = load(*count, scale).map(|Loaded { start, resident: now, rate }| {
                let each = (now - resident) / (*count as f64 - handlers);
                (handlers, resident) = (*count as f64, now);
                [start, each, rate]
            });
            row(values)
        };
        points.iter().map(row).collect()
    };
    Growth { name: "growth/handlers", of: "handlers", columns, points, measure }
}

/// By SIGHUP, with the code of all in the cache.
pub fn swapped(points: &'static [usize]) -> Growth {
    let columns = vec![
        Column::new("swap to first answer, ms", Cost::Itself),
        Column::new("memory of the process, MiB", Cost::Itself),
    ];
    let measure = |points: &[usize], _: &Scale| match Swapping::start(points) {
        Ok(mut swapping) => points.iter().map(|point| row(swapping.swap_until(*point))).collect(),
        Err(failure) => {
            let failed = points.iter().map(|_| row::<2>(Err(failure.clone())));
            failed.collect()
        }
    };
    Growth { name: "growth/swaps", of: "versions swapped in", columns, points, measure }
}

struct Loaded {
    start: f64,
    resident: f64,
    rate: f64,
}

fn load(count: usize, scale: &Scale) -> Result<Loaded, Failure> {
    if let Some(reason) = too_many_descriptors(count * DESCRIPTORS_A_HANDLER) {
        return Err(Failure::Unavailable(reason));
    }
    // With a cache of its own: the entries of others are looked at when a host starts.
    let cache = format!("growth/cache-of-{count}");
    let (echo, _) = VERSIONS[0];
    let files = written("handlers", (0..count).map(|number| variant(echo, number)))?;
    cost::load(Some(&cache), &files)?;
    let mut command = serve(ADDRESS, "threading", &cache)?;
    command.arg(&files[0]);
    for file in &files[1..] {
        command.arg(ADDRESS).arg(file);
    }
    let begin = Instant::now();
    let running = Running::start(command, "handlers")?;
    exchange(running.address)?;
    let start = begin.elapsed().as_secs_f64() * 1e3;
    let load = Work::Connect.put_on(&running, Transport::Tcp, CLIENTS, scale)?;
    let resident = usage::memory(running.pid()).resident;
    Ok(Loaded { start, resident, rate: load.operations / load.seconds })
}

/// A host whose handler is swapped.
struct Swapping {
    deployed: Deployed,
    running: Running,
    swaps: usize,
}

impl Swapping {
    fn start(points: &[usize]) -> Result<Self, Failure> {
        let cache = "growth/cache-of-versions";
        let last = points.iter().copied().max().unwrap_or_default();
        cost::load(Some(cache), &written("versions", (0..=last).map(|number| version(number).0))?)?;
        let deployed = Deployed::new("growth", &version(0).0)?;
        let running = deployed.serve("threading", cache)?;
        Ok(Self { deployed, running, swaps: 0 })
    }

    /// How long the last swaps took, and the memory after them.
    fn swap_until(&mut self, count: usize) -> Result<[f64; 2], Failure> {
        let mut times: Vec<Duration> = Vec::new();
        while self.swaps < count {
            self.swaps += 1;
            let (component, answered) = version(self.swaps);
            times.push(swap(&self.running, &self.deployed, (&component, answered))?);
        }
        let mut last = times.split_off(times.len().saturating_sub(LAST));
        last.sort();
        let resident = usage::memory(self.running.pid()).resident;
        Ok([last[last.len() / 2].as_secs_f64() * 1e3, resident / 1024.0])
    }
}

/// The next version answers otherwise than the last.
fn version(number: usize) -> (Vec<u8>, u8) {
    let (component, answered) = VERSIONS[number % 2];
    (variant(component, number), answered)
}

/// Does the same and has another digest: it has a section with a name and a number.
fn variant(component: &[u8], number: usize) -> Vec<u8> {
    [component, &[0, 10, 1, b'n'], &(number as u64).to_le_bytes()].concat()
}

/// Components in files, which are loaded to have them in a cache.
fn written(name: &str, components: impl Iterator<Item = Vec<u8>>) -> io::Result<Vec<PathBuf>> {
    let directory = report::directory()?.join("growth").join(name);
    fs::create_dir_all(&directory)?;
    let write = |(number, component)| {
        let file = directory.join(format!("{number}.wasm"));
        fs::write(&file, component)?;
        Ok(file)
    };
    components.enumerate().map(write).collect()
}
