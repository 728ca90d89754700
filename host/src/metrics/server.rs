//! The HTTP server for metrics. It has a thread to itself, and bounds for all that its clients can do: how many there are, how
//! long each may take, how much it may send. Nothing here counts as a request of the host's.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::os::fd::AsFd;
use std::pin::pin;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::runtime::Builder;
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::socket::MetricsSocket;
use super::{Observed, routes};
use crate::address::ServerType;
use crate::log_limit::LogLimit;

/// As many clients may be connected at once; who comes then takes the place of the one that came first.
const CLIENTS_MAX: usize = 32;

/// How long the head of a request may take, and how long a client may wait before it sends another.
const HEAD_TIME: Duration = Duration::from_secs(20);

/// How long a connection is kept. After it what is under way has `LAST_TIME` to end.
const CONNECTION_TIME: Duration = Duration::from_secs(120);

/// How long an answer that is under way may still take.
const LAST_TIME: Duration = Duration::from_secs(10);

/// How long what is under way may still take at the end.
const STOP_TIME: Duration = Duration::from_secs(1);

/// The largest head.
const HEAD_MAX: usize = 16 * 1024;

/// How long accepting pauses when it failed.
const PAUSE: Duration = Duration::from_millis(100);

/// A socket for metrics that is served. Dropping it closes all connections.
#[derive(Debug)]
pub struct MetricsServer {
    socket: Arc<MetricsSocket>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for MetricsServer {
    fn drop(&mut self) {
        self.socket.stop();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

pub(super) fn start(socket: Arc<MetricsSocket>, observed: Observed) -> io::Result<MetricsServer> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let bound = {
        let _entered = runtime.enter();
        Bound::of(&socket)?
    };
    let served = socket.clone();
    let thread = thread::Builder::new().name("metrics".to_owned()).spawn(move || {
        runtime.block_on(accept(bound, &observed, served.stopped()));
        // With it go all connections that are left.
        drop(runtime);
    })?;
    Ok(MetricsServer { socket, thread: Some(thread) })
}

enum Bound {
    Tcp(TcpListener),
    Unix(UnixListener),
}

trait Connection: AsyncRead + AsyncWrite + Send + Unpin {}

impl<C: AsyncRead + AsyncWrite + Send + Unpin> Connection for C {}

impl Bound {
    fn of(socket: &MetricsSocket) -> io::Result<Self> {
        let listener = socket.listener();
        let socket = listener.as_fd().try_clone_to_owned()?;
        Ok(match listener.server_type() {
            ServerType::UnixStream => Self::Unix(UnixListener::from_std(socket.into())?),
            _ => Self::Tcp(TcpListener::from_std(socket.into())?),
        })
    }

    async fn accept(&self) -> io::Result<Box<dyn Connection>> {
        Ok(match self {
            Self::Tcp(listener) => Box::new(listener.accept().await?.0),
            Self::Unix(listener) => Box::new(listener.accept().await?.0),
        })
    }
}

async fn accept(bound: Bound, observed: &Observed, stopped: &CancellationToken) {
    let mut clients: VecDeque<AbortHandle> = VecDeque::new();
    let (mut said_failed, under_way) = (LogLimit::default(), TaskTracker::new());
    while let Some(accepted) = stopped.run_until_cancelled(bound.accept()).await {
        match accepted {
            Ok(connection) => {
                clients.retain(|client| !client.is_finished());
                if clients.len() == CLIENTS_MAX {
                    // Nobody can keep others away by doing nothing.
                    clients.pop_front().inspect(AbortHandle::abort);
                }
                let served = serve(connection, observed.clone(), stopped.clone());
                clients.push_back(under_way.spawn(served).abort_handle());
            }
            Err(error) => {
                said_failed.run(|_| tracing::warn!("cannot take on a client for metrics: {error}"));
                sleep(PAUSE).await;
            }
        }
    }
    // From here on another process accepts, if there is one.
    drop(bound);
    under_way.close();
    let _ = timeout(STOP_TIME, under_way.wait()).await;
}

async fn serve(connection: Box<dyn Connection>, observed: Observed, stopped: CancellationToken) {
    let asked = CancellationToken::new();
    let is_asked = asked.clone();
    let answer = service_fn(move |request| {
        is_asked.cancel();
        let answer = routes::answer(&request, &observed);
        async { Ok::<_, Infallible>(answer) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .max_buf_size(HEAD_MAX)
        // Who says that there is no more to come is still answered: `nc -N`.
        .half_close(true)
        .serve_connection(TokioIo::new(connection), answer);
    let mut connection = pin!(connection);
    // What goes wrong is the client's, and it sees it.
    let kept = timeout(CONNECTION_TIME, stopped.run_until_cancelled(connection.as_mut())).await;
    if !matches!(kept, Ok(Some(_))) {
        // Who has just come is still answered.
        let _ = timeout(STOP_TIME / 2, asked.run_until_cancelled(connection.as_mut())).await;
        connection.as_mut().graceful_shutdown();
        let _ = timeout(LAST_TIME, connection).await;
    }
}
