//! Ordinary programs served as inetd serves them: standard input and output are the request, and the exit
//! status is its outcome.

use tokio::io::{AsyncRead, AsyncWrite};
use wasmtime::Store;
use wasmtime_wasi::I32Exit;
use wasmtime_wasi::cli::{IsTerminal, StdinStream, StdoutStream};
use wasmtime_wasi::p2::{InputStream, OutputStream};

use super::handler::failed;
use super::state::State;
use super::streams::{Connection, Rfile, Wfile};
use crate::error::{Cause, Phase};
use crate::request::Transport;

/// Runs the program to its end, and sends what it left to be sent.
pub(super) async fn run(
    program: impl AsyncFnOnce(&mut Store<State>) -> wasmtime::Result<Result<(), ()>>,
    store: &mut Store<State>,
) -> Result<(), Cause> {
    store.data().watch.enter(Phase::Handle);
    let ended = match program(store).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(())) => Err(exited(1)),
        Err(error) => match error.downcast_ref::<I32Exit>() {
            Some(I32Exit(0)) => Ok(()),
            Some(I32Exit(status)) => Err(exited(*status)),
            None => Err(failed(store, error)),
        },
    };
    let request = store.data().request_handle();
    match ended {
        // A program that cannot write to its client any more says so by its status, or aborts.
        Err(Cause::Error(message) | Cause::Trap { message, .. }) if request.client_fault().is_some() => {
            return Err(store.data().client_cause(&message));
        }
        Err(Cause::Error(_)) | Ok(()) => {}
        ended => return ended,
    }
    if let Transport::Datagram(datagram) = &request.transport {
        // C libraries flush what was never written, which is not meant to be an empty reply.
        let mut reply = datagram.reply();
        reply.is_wanted = !reply.data.is_empty();
    }
    let flushed = request.flush(store.data().patience()).await;
    ended.and(flushed.map_err(|error| store.data().client_cause(&error.to_string())))
}

fn exited(status: i32) -> Cause {
    Cause::Error(format!("it exited with status {status}"))
}

/// A program's standard input and output.
#[derive(Clone)]
pub(super) struct Stdio(Connection);

impl Stdio {
    pub(super) fn new(connection: Connection) -> Self {
        Self(connection)
    }
}

impl IsTerminal for Stdio {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdinStream for Stdio {
    /// WASI 0.3 alone would use it, and this host has none.
    fn async_stream(&self) -> Box<dyn AsyncRead + Send + Sync> {
        Box::new(tokio::io::empty())
    }

    fn p2_stream(&self) -> Box<dyn InputStream> {
        Box::new(Rfile::new(self.0.clone()))
    }
}

impl StdoutStream for Stdio {
    /// WASI 0.3 alone would use it, and this host has none.
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(tokio::io::sink())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(Wfile::new(self.0.clone()))
    }
}
