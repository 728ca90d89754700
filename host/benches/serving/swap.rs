//! What a swap costs: how long it takes until the new version answers, and what it takes from those who ask
//! meanwhile.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, ensure};
use rustix::process::{Pid, Signal, kill_process};

use crate::load::{LoadReport, Work};
use crate::peers::{Running, serve};
use crate::plan::Scale;
use crate::report::{self, CACHE};
use crate::transport::Transport;
use crate::trial::Failure;
use crate::{PATIENCE, made};

/// A handler's file, as its server was told to serve it.
pub struct Deployed(PathBuf);

impl Deployed {
    pub fn new(name: &str, component: &[u8]) -> anyhow::Result<Self> {
        let directory = report::directory()?.join("swap");
        std::fs::create_dir_all(&directory)?;
        let deployed = Self(directory.join(name).with_extension("wasm"));
        deployed.replace(component)?;
        Ok(deployed)
    }

    /// Puts a component in its place, whole at once.
    fn replace(&self, component: &[u8]) -> anyhow::Result<()> {
        let beside = self.0.with_extension("new");
        std::fs::write(&beside, component)?;
        Ok(std::fs::rename(beside, &self.0)?)
    }

    pub fn serve(&self, strategy: &'static str, cache: &str) -> Result<Running, Failure> {
        let mut command = serve("tcp://127.0.0.1:0", strategy, cache)?;
        command.arg(&self.0);
        Running::start(command, strategy)
    }
}

/// Asks a host for a swap.
fn reload(host: u32) -> anyhow::Result<()> {
    let pid = Pid::from_raw(host.try_into()?).context("a process has an id")?;
    Ok(kill_process(pid, Signal::HUP)?)
}

/// Two handlers, and what each makes of the letter `a`.
pub const VERSIONS: [(&[u8], u8); 2] = [(ECHO, b'a'), (include_bytes!(env!("PLUGSOCK_UPPER")), b'A')];

pub const ECHO: &[u8] = include_bytes!(env!("PLUGSOCK_ECHO"));

/// Milliseconds from the signal to the first request that the new version answers; the median of several swaps.
pub fn time(strategy: &'static str, swaps: usize) -> Result<f64, Failure> {
    let deployed = Deployed::new(strategy, VERSIONS[0].0)?;
    let running = deployed.serve(strategy, CACHE)?;
    // The first two compile, unless an earlier run has.
    let times = (1..=swaps + 2).map(|number| swap(&running, &deployed, VERSIONS[number % 2]));
    let times: anyhow::Result<Vec<Duration>> = times.collect();
    let times = &mut times?[2..];
    times.sort();
    Ok(times[times.len() / 2].as_secs_f64() * 1e3)
}

/// How long it takes until a version that was swapped in answers.
pub fn swap(running: &Running, deployed: &Deployed, version: (&[u8], u8)) -> anyhow::Result<Duration> {
    let (component, answered) = version;
    deployed.replace(component)?;
    let begun = Instant::now();
    reload(running.pid())?;
    while answer(running.address)? != answered {
        ensure!(begun.elapsed() < PATIENCE, "the new version does not answer");
    }
    Ok(begun.elapsed())
}

/// What the handler makes of a letter.
fn answer(address: SocketAddr) -> anyhow::Result<u8> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"a\n")?;
    let mut answer = [0];
    stream.read_exact(&mut answer)?;
    Ok(answer[0])
}

/// Puts load on a host; if asked to, swaps its handler in the middle of the window.
pub fn load(
    over: Transport,
    strategy: &'static str,
    clients: usize,
    is_swapped: bool,
    scale: &Scale,
) -> Result<LoadReport, Failure> {
    let echo = match over {
        Transport::Http => std::fs::read(made::http()?)?,
        _ => ECHO.to_vec(),
    };
    // Does the same and has another digest: it has a section with a name and nothing else.
    let other = [&echo[..], &[0, 2, 1, b'b']].concat();
    let deployed = Deployed::new(strategy, &other)?;
    // Now both are compiled.
    drop(deployed.serve(strategy, CACHE)?);
    deployed.replace(&echo)?;
    let mut running = deployed.serve(strategy, CACHE)?;
    let host = running.pid();
    let swap = || {
        thread::sleep(scale.warm_up + scale.window / 4);
        deployed.replace(&other)?;
        reload(host)
    };
    let (load, swapped) = thread::scope(|scope| {
        let swapped = is_swapped.then(|| scope.spawn(swap));
        let work = if over == Transport::Http { Work::Ping } else { Work::Connect };
        let load = work.put_on(&running, over, clients, scale);
        (load, swapped.map(|thread| thread.join().expect("it does not panic")))
    });
    if let Some(swapped) = swapped {
        swapped?;
        let words = running.words();
        if !words.contains(": swapped: ") {
            return Err(anyhow!("it was not swapped: {words}").into());
        }
    }
    Ok(load?)
}
