//! `wasi:http/outgoing-handler`: a guest's own requests, as far as `--allow-net` lets them, by HTTP/1.1.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::uri::{PathAndQuery, Scheme, Uri};
use http::{HeaderName, Request, Response};
use http_body_util::BodyExt;
use hyper::client::conn::http1;
use hyper::rt::{Read, ReadBufCursor, Write};
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use wasmtime_wasi_http::p2::bindings::http::types::ErrorCode;
use wasmtime_wasi_http::{
    DEFAULT_FORBIDDEN_HEADERS, Error, RequestOptions, WasiBody, WasiHttpCtx, WasiHttpCtxView, WasiHttpHooks,
    WasiHttpView,
};

use super::incoming::{Fault, IncomingBody};
use crate::error::excerpt_of;
use crate::sandbox::network::Reachable;
use crate::sandbox::state::State;
use crate::sandbox::watch::Watch;
use crate::traces::{Call, Waiting};

/// The requests that one instance may have under way.
const REQUESTS_MAX: usize = 100;

/// How long a guest waits for a server unless it says so.
const PATIENCE: Duration = Duration::from_secs(600);

/// The most of a text of the guest's that is noted for a span, in bytes.
const NOTED_MAX: usize = 300;

/// How much of a body a guest may write before it has to wait for the client.
const CHUNK_SIZE: usize = 64 * 1024;

/// What one store has of HTTP.
pub(in crate::sandbox) struct Http {
    ctx: WasiHttpCtx,
    outgoing: Outgoing,
}

struct Outgoing {
    reachable: Reachable,
    /// `None` where no network is granted.
    tls: Option<Arc<ClientConfig>>,
    watch: Arc<Watch>,
    room: Arc<Semaphore>,
}

type Sending = Result<(Response<WasiBody>, Box<dyn Future<Output = Result<(), Error>> + Send>), Error>;

impl Http {
    pub(in crate::sandbox) fn new(
        reachable: &Reachable,
        tls: Option<&Arc<ClientConfig>>,
        watch: &Arc<Watch>,
    ) -> Self {
        let (reachable, tls, watch) = (reachable.clone(), tls.cloned(), watch.clone());
        let room = Arc::new(Semaphore::new(REQUESTS_MAX));
        Self { ctx: WasiHttpCtx::new(), outgoing: Outgoing { reachable, tls, watch, room } }
    }

    /// From now on the store serves another request.
    pub(in crate::sandbox) fn renew(&mut self, watch: &Arc<Watch>) {
        self.outgoing.watch = watch.clone();
    }
}

impl WasiHttpView for State {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        let (Http { ctx, outgoing }, table) = self.http_and_table();
        WasiHttpCtxView { hooks: outgoing, table, ctx }
    }
}

impl WasiHttpHooks for Outgoing {
    /// What goes by default; asked of each header, it does not have to be a closure that is made for it.
    fn is_forbidden_header(&mut self, name: &HeaderName) -> bool {
        DEFAULT_FORBIDDEN_HEADERS.contains(name)
    }

    fn send_request(
        &mut self,
        mut request: Request<WasiBody>,
        options: Option<RequestOptions>,
        _: Box<dyn Future<Output = Result<(), Error>> + Send>,
    ) -> Box<dyn Future<Output = Sending> + Send> {
        let room = self.room.clone().try_acquire_owned();
        let (reachable, tls, watch) = (self.reachable.clone(), self.tls.clone(), self.watch.clone());
        let mut waiting = watch.waiting(|| call_of(&request));
        if let Some(trace) = watch.trace() {
            let own = waiting.as_mut().and_then(Waiting::context);
            own.as_ref().unwrap_or(trace.context()).write_unless_set(request.headers_mut());
        }
        let reader = watch.clone();
        let sending = async move {
            let room = room.map_err(|_| Error::ConnectionLimitReached)?;
            let (response, connection) =
                send(request, options.unwrap_or_default(), reachable, tls, reader).await?;
            waiting.iter_mut().for_each(|waiting| waiting.note_status(response.status().as_u16()));
            drop(waiting);
            let connection = async move {
                let done = connection.await;
                drop(room);
                done
            };
            Ok::<_, Error>((response, connection))
        };
        let metered = watch.clone().metered(sending);
        Box::new(async move {
            let (response, connection) = metered.await?;
            Ok((response, Box::new(watch.metered(connection)) as Box<dyn Future<Output = _> + Send>))
        })
    }

    fn p2_outgoing_body_chunk_size(&mut self) -> usize {
        CHUNK_SIZE
    }

    fn p2_error_from_hyper(&mut self, error: &hyper::Error) -> ErrorCode {
        tracing::debug!("a handler's HTTP request failed: {error}");
        ErrorCode::HttpProtocolError
    }

    fn p2_error_from_connect(&mut self, error: &io::Error) -> ErrorCode {
        tracing::debug!("a handler's HTTP request failed: {error}");
        match error.kind() {
            io::ErrorKind::TimedOut => ErrorCode::ConnectionTimeout,
            io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => {
                ErrorCode::DestinationIpUnroutable
            }
            _ => ErrorCode::ConnectionRefused,
        }
    }

    fn p2_error_from_tls(&mut self, error: &io::Error) -> ErrorCode {
        tracing::debug!("a handler's HTTP request failed: {error}");
        match error.get_ref().and_then(|error| error.downcast_ref()) {
            Some(rustls::Error::InvalidCertificate(_)) => ErrorCode::TlsCertificateError,
            _ => ErrorCode::TlsProtocolError,
        }
    }
}

/// The head of the answer, and what drives the connection that the rest comes by.
async fn send(
    mut request: Request<WasiBody>,
    options: RequestOptions,
    reachable: Reachable,
    tls: Option<Arc<ClientConfig>>,
    watch: Arc<Watch>,
) -> Result<(Response<WasiBody>, impl Future<Output = Result<(), Error>> + Send), Error> {
    let is_protected = is_protected(request.uri());
    let authority = request.uri().authority().ok_or(Error::HttpRequestUriInvalid)?;
    let host = authority.host().to_owned();
    let port = port(request.uri());
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(&host);
    let connecting = async {
        let stream = connect(&reachable.resolve(host, port).await?).await?;
        let stream: Box<dyn Wire> = match tls {
            _ if !is_protected => Box::new(stream),
            Some(tls) => {
                let name = ServerName::try_from(host.to_owned()).map_err(|_| Error::HttpRequestUriInvalid)?;
                Box::new(TlsConnector::from(tls).connect(name, stream).await.map_err(Error::Tls)?)
            }
            None => return Err(Error::HttpRequestDenied),
        };
        http1::handshake(HyperIo(stream)).await.map_err(Error::Hyper)
    };
    let (mut sender, connection) = timeout(options.connect_timeout.unwrap_or(PATIENCE), connecting)
        .await
        .map_err(|_| Error::ConnectionTimeout)??;
    // A server that is no proxy is asked by the path alone; whom is asked stands in `Host`.
    let path = request.uri().path_and_query().cloned();
    *request.uri_mut() = Uri::from(path.unwrap_or(PathAndQuery::from_static("/")));
    // hyper answers only as long as its connection is driven, too.
    let mut connection = Some(Box::pin(connection));
    let mut answer = pin!(sender.send_request(request));
    let answered = poll_fn(|context| {
        if let Some(driven) = &mut connection
            && driven.as_mut().poll(context).is_ready()
        {
            connection = None;
        }
        answer.as_mut().poll(context)
    });
    let first_byte = timeout(options.first_byte_timeout.unwrap_or(PATIENCE), answered).await;
    let response = first_byte.map_err(|_| Error::ConnectionReadTimeout)?.map_err(Error::Hyper)?;
    let between = options.between_bytes_timeout.unwrap_or(PATIENCE);
    let response = response.map(|body| {
        IncomingBody::new(body, None, Some(between), Fault::default(), None, watch).boxed_unsync()
    });
    let driven = async move {
        match connection {
            Some(connection) => connection.await.map_err(Error::Hyper),
            None => Ok(()),
        }
    };
    Ok((response, driven))
}

fn is_protected(uri: &Uri) -> bool {
    uri.scheme() != Some(&Scheme::HTTP)
}

fn port(uri: &Uri) -> u16 {
    uri.port_u16().unwrap_or(if is_protected(uri) { 443 } else { 80 })
}

/// What is told of a request.
fn call_of<B>(request: &Request<B>) -> Call {
    let (uri, method) = (request.uri(), excerpt_of(request.method().as_str(), NOTED_MAX));
    let host = excerpt_of(uri.host().unwrap_or_default(), NOTED_MAX);
    Call::Http { method, host, port: port(uri), status: None }
}

/// The first of the addresses that takes a connection.
async fn connect(addresses: &[SocketAddr]) -> Result<TcpStream, Error> {
    let mut failed = Error::DestinationNotFound;
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(stream) => {
                // A head and a short body are two writes.
                let _ = stream.set_nodelay(true);
                return Ok(stream);
            }
            Err(error) => failed = Error::Connect(error),
        }
    }
    Err(failed)
}

trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Wire for T {}

/// A stream of tokio's as hyper reads and writes it.
struct HyperIo(Box<dyn Wire>);

impl Read for HyperIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let mut bytes = [0; 16 * 1024];
        let room = buffer.remaining().min(bytes.len());
        let mut read = ReadBuf::new(&mut bytes[..room]);
        let done = Pin::new(&mut self.0).poll_read(context, &mut read);
        buffer.put_slice(read.filled());
        done
    }
}

impl Write for HyperIo {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, data)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}
