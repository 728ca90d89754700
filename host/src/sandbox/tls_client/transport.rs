//! What a TLS connection reads and writes: streams of the guest's, which can be taken away from it.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, Weak};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use wasmtime_wasi_tls::TlsTransport;

use super::lock;

pub(super) type Inner = Mutex<Option<Box<dyn TlsTransport>>>;

pub(super) struct Transport(Arc<Inner>);

impl Transport {
    pub(super) fn new(transport: Box<dyn TlsTransport>) -> Self {
        Self(Arc::new(Mutex::new(Some(transport))))
    }

    pub(super) fn downgrade(&self) -> Weak<Inner> {
        Arc::downgrade(&self.0)
    }

    fn with<T>(
        &self,
        work: impl FnOnce(Pin<&mut dyn TlsTransport>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        match &mut *lock(&self.0) {
            Some(transport) => work(Pin::new(transport)),
            None => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        }
    }
}

impl AsyncRead for Transport {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.with(|transport| transport.poll_read(context, buffer))
    }
}

impl AsyncWrite for Transport {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        match self.with(|transport| transport.poll_write(context, data)) {
            // A stream that has just closed; rustls would wait for it for ever.
            Poll::Ready(Ok(0)) if !data.is_empty() => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            written => written,
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.with(|transport| transport.poll_flush(context))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.with(|transport| transport.poll_shutdown(context))
    }
}
