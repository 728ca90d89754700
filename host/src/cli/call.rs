//! `plugsock call`: one request, with standard input and output as the client.

use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread;

use anyhow::Context;
use clap::Args;
use plugsock::{Cause, Handler, RequestError, shown};

use super::handler_source::HandlerSource;
use super::log::LogOptions;
use super::options::SandboxArgs;
use super::output;
use super::progress::spin_while;
use super::registry::RegistryArgs;
use super::tls_client::TlsClient;

/// Run one request, with standard input and output as the client
///
/// What is typed is what the handler receives; what it sends is printed. No server is bound.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  echo hello | plugsock call echo.wasm
  echo hello | plugsock call --datagram daytime.wasm
  echo hello | plugsock call --tls echo.wasm
  echo hello | plugsock call --profile out.json handler.wasm
  printf 'GET / HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n' | plugsock call http.wasm

Exit status: 0 if the handler served the request, 1 if it failed.")]
pub struct Call {
    /// The handler, a component's file or oci://REGISTRY/NAME:TAG
    #[arg(value_parser = HandlerSource::parser())]
    handler: HandlerSource,

    /// Make all of standard input one packet, and print each reply
    #[arg(long)]
    datagram: bool,

    /// Be a client of TLS, with a certificate made for this call; NAME is what the handler may ask for it by
    #[arg(long, value_name = "NAME", num_args = 0..=1, require_equals = true, default_missing_value = "call", conflicts_with = "datagram")]
    tls: Option<String>,

    /// Write a profile of the handler here, for the Firefox profiler (profiler.firefox.com): which of its functions
    /// its time goes to, looked at once a millisecond
    #[arg(long, value_name = "FILE")]
    profile: Option<PathBuf>,

    #[command(flatten)]
    sandbox: SandboxArgs,
    #[command(flatten)]
    registry: RegistryArgs,
    #[command(flatten)]
    log: LogOptions,
}

impl Call {
    pub fn run(self) -> anyhow::Result<ExitCode> {
        self.log.init()?;
        plugsock::become_helper_process_if_asked();
        let name = self.handler.to_string();
        let registry = self.registry.registry(None);
        let sandbox = self.sandbox.sandbox(&name, &self.log)?;
        let handler =
            spin_while(&format!("compiling {name}"), || self.handler.load(&sandbox, &registry, None))?;
        // Said now, if it cannot be written.
        let file = self.profile.as_ref().map(File::create).transpose().context("cannot write the profile")?;
        let profile = file.map(|file| Ok::<_, io::Error>((handler.profile()?, file)));
        let profile = profile.transpose().context("cannot take a profile")?;
        let called = match self.datagram {
            true => call_datagram(&handler),
            false => call_stream(&handler, self.tls.as_deref()),
        };
        if let Err(error) = &called {
            look_into(&handler, error);
        }
        if let Some((Some(profile), file)) = profile {
            let written = profile.finish(BufWriter::new(file));
            written.context("cannot write the profile")?;
        }
        called.map(|()| ExitCode::SUCCESS)
    }
}

/// Shows what there is to see of a handler that has trapped.
fn look_into(handler: &Handler, error: &anyhow::Error) {
    let Some(error) = error.downcast_ref::<RequestError>() else { return };
    if let Some(backtrace) = handler.backtrace(error) {
        output::note(backtrace);
    }
    if let Cause::Trap { core_dump: Some(file), .. } = &error.cause {
        output::note(format!("core dump: {}", shown(file)));
    }
}

fn call_stream(handler: &Handler, identity: Option<&str>) -> anyhow::Result<()> {
    let (mut client, server) = UnixStream::pair().context("cannot make a pair of sockets")?;
    let mut sending = client.try_clone().context("cannot duplicate a socket")?;
    // Not joined: it may wait for input that the handler never asked for.
    thread::spawn(move || {
        let _ = io::copy(&mut io::stdin().lock(), &mut sending);
        let _ = sending.shutdown(Shutdown::Write);
    });
    let printer = thread::spawn(move || print_stream(&mut client));
    let called = match identity {
        Some(identity) => {
            let TlsClient { connection, tls, relay } = TlsClient::start(server, identity)?;
            let called = handler.call_protected(connection.into(), tls);
            // Why the handler failed goes before what its client thought of it.
            match (&called, relay.join().expect("relaying does not panic")) {
                (_, Ok(protection)) => output::note(protection),
                (Ok(()), Err(error)) => return Err(error),
                (Err(_), Err(error)) => output::note(format!("{error:#}")),
            }
            called
        }
        None => handler.call(server.into()),
    };
    printer.join().expect("printing does not panic").context("cannot print the answer")?;
    Ok(called?)
}

/// Prints what comes as it comes: a dialogue must not wait for a full buffer.
fn print_stream(client: &mut UnixStream) -> io::Result<()> {
    let mut buffer = [0; 64 * 1024];
    let mut stdout = io::stdout().lock();
    loop {
        match client.read(&mut buffer)? {
            0 => return Ok(()),
            read => stdout.write_all(&buffer[..read])?,
        }
        stdout.flush()?;
    }
}

fn call_datagram(handler: &Handler) -> anyhow::Result<()> {
    let mut packet = Vec::new();
    io::stdin().read_to_end(&mut packet).context("cannot read the packet")?;
    let (replies, called) = handler.call_datagram(packet);
    for reply in replies {
        io::stdout().write_all(&reply).context("cannot print the reply")?;
    }
    Ok(called?)
}
