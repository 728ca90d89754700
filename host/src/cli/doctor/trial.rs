//! A request that is really served: what no look at a setting can tell.

use std::ffi::OsString;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use plugsock::{
    CompileOptions, Concurrency, Limits, Listener, Sandbox, SandboxOptions, Server, ServerOptions, Slot,
    SlotOptions, SocketOptions,
};

use crate::cli::capacity;
use crate::cli::machine::{Finding, Verdict};

/// Within this it is answered on any machine.
const PATIENCE: Duration = Duration::from_secs(60);

const HELLO: &[u8] = b"hello\n";

/// Compiles the built-in echo in a process of its own, and has it serve by this strategy, with pools for so many
/// requests.
pub fn trial(requests: usize, concurrency: Concurrency, arguments: Vec<OsString>) -> Finding {
    let what = "a request";
    let began = Instant::now();
    match serve(requests, concurrency, arguments) {
        Ok(()) => Finding::good(what, format!("compiled and served in {} ms", began.elapsed().as_millis())),
        Err(error) => Finding::good(what, "not served").but(Verdict::Fatal, format!("{error:#}")),
    }
}

fn serve(requests: usize, concurrency: Concurrency, arguments: Vec<OsString>) -> anyhow::Result<()> {
    capacity::check_threads(std::iter::once(concurrency.clone()))?;
    let sandbox = Sandbox::new(SandboxOptions {
        limits: Limits { max_requests: requests, ..Limits::default() },
        compile: CompileOptions { arguments: arguments.clone(), ..CompileOptions::default() },
        cache: None,
        ..SandboxOptions::default()
    })?;
    let concurrency = match concurrency {
        Concurrency::Forking { max_children, block_on_close, .. } => {
            Concurrency::Forking { max_children, block_on_close, arguments }
        }
        other => other,
    };
    // Nobody else finds it, and no file and no network is needed.
    let name = format!("plugsock-doctor-{}", std::process::id());
    let listener = Listener::bind(&format!("unix://@{name}").parse()?, &SocketOptions::default())?;
    let slot = Slot::new(sandbox.echo()?, SlotOptions::default())?;
    let server =
        Arc::new(Server::with_listener(listener, slot, ServerOptions { concurrency, ..Default::default() })?);
    server.start()?;
    thread::scope(|scope| {
        let serving = thread::Builder::new().spawn_scoped(scope, || server.serve_forever())?;
        let asked = ask(&name);
        server.request_shutdown();
        server.server_close_within(PATIENCE);
        // What it was asked says more.
        let served = serving.join().expect("it does not panic");
        asked.and_then(|()| Ok(served?))
    })
}

fn ask(name: &str) -> anyhow::Result<()> {
    let mut client =
        UnixStream::connect_addr(&SocketAddr::from_abstract_name(name)?).context("cannot connect")?;
    client.set_read_timeout(Some(PATIENCE))?;
    client.write_all(HELLO)?;
    client.shutdown(Shutdown::Write)?;
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).context("no answer; the log says why")?;
    ensure!(answer == HELLO, "the connection was closed without an answer; the log says why");
    Ok(())
}
