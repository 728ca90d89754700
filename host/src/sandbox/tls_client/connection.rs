//! An open TLS connection, whose failures are said in words.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use rustls::{CertificateError, InvalidMessage};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::client;
use wasmtime_wasi_tls::TlsStream;

use super::Shared;
use super::transport::Transport;

pub(super) struct Connection {
    stream: client::TlsStream<Transport>,
    shared: Arc<Shared>,
}

impl Connection {
    pub(super) fn new(stream: client::TlsStream<Transport>, shared: Arc<Shared>) -> Self {
        Self { stream, shared }
    }

    fn poll<T>(
        &mut self,
        work: impl FnOnce(Pin<&mut client::TlsStream<Transport>>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        let Self { stream, shared } = self;
        let done = shared.metered(|| work(Pin::new(stream)));
        done.map_err(|error| io::Error::new(error.kind(), in_words(error)))
    }
}

impl TlsStream for Connection {}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.poll(|stream| stream.poll_read(context, buffer))
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll(|stream| stream.poll_write(context, data))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll(|stream| stream.poll_flush(context))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll(|stream| stream.poll_shutdown(context))
    }
}

/// What went wrong, and what to do about it.
pub(super) fn in_words(error: io::Error) -> String {
    use rustls::Error::{InvalidCertificate, InvalidMessage as Invalid};
    if error.kind() == io::ErrorKind::UnexpectedEof {
        return "the server broke off: it closed the connection without the end that TLS demands".to_owned();
    }
    match error.get_ref().and_then(|error| error.downcast_ref()) {
        Some(InvalidCertificate(CertificateError::UnknownIssuer)) => {
            "the server's certificate is by nobody whom this host trusts: name its CA by --tls-ca".to_owned()
        }
        Some(InvalidCertificate(reason)) => format!("the server's certificate is refused: {reason}"),
        Some(Invalid(InvalidMessage::InvalidContentType)) => "the server does not speak TLS".to_owned(),
        _ => error.to_string(),
    }
}
