//! `StreamRequestHandler`: a request as a pair of files.

use std::io::ErrorKind;
use std::ops::Deref;
use std::time::Duration;

use crate::export::Stream;
use crate::{Error, Request, RequestHandler, Result, Rfile, Wfile};

/// Serves one request through `rfile` and `wfile`: `StreamRequestHandler` of `socketserver`.
///
/// The same handler serves datagrams: `rfile` is the packet, and what is written to `wfile` is the reply.
///
/// ```
/// use plugsock_sdk::{Result, StreamRequest, StreamRequestHandler, export};
/// use std::io::{BufRead, Write};
/// use std::time::Duration;
///
/// #[derive(Default)]
/// struct Upper;
///
/// impl StreamRequestHandler for Upper {
///     const TIMEOUT: Option<Duration> = Some(Duration::from_secs(60));
///
///     fn handle(&mut self, request: &mut StreamRequest) -> Result {
///         let mut line = String::new();
///         request.rfile.read_line(&mut line)?;
///         write!(request.wfile, "{}", line.to_uppercase())?;
///         Ok(())
///     }
/// }
///
/// export!(Upper: StreamRequestHandler);
/// ```
#[expect(unused_variables, reason = "what does nothing by default still names its parameters")]
pub trait StreamRequestHandler: Default {
    /// How much `rfile` receives at once; with 0 it receives no more than is read.
    const RBUFSIZE: usize = 8192;

    /// How much `wfile` collects before it sends; with 0 every write is sent at once.
    const WBUFSIZE: usize = 0;

    /// How long one read or write may wait; the server's own limit bounds it, too.
    const TIMEOUT: Option<Duration> = None;

    /// Sends small segments at once (TCP_NODELAY).
    const DISABLE_NAGLE_ALGORITHM: bool = false;

    /// Prepares; after an error neither `handle` nor `finish` runs.
    fn setup(&mut self, request: &mut StreamRequest) -> Result {
        Ok(())
    }

    /// Serves the request.
    fn handle(&mut self, request: &mut StreamRequest) -> Result;

    /// Cleans up; runs after `handle` has failed, too. What `wfile` still holds is sent afterwards.
    fn finish(&mut self, request: &mut StreamRequest) -> Result {
        Ok(())
    }
}

/// A request as a pair of files. It derefs to the [`Request`], for [`client_address`](Request::client_address)
/// and the like.
pub struct StreamRequest<'a> {
    /// The request itself, `self.connection` of `socketserver`. `rfile` may hold data that it has received.
    pub connection: &'a Request,
    /// What the client sends.
    pub rfile: Rfile<'a>,
    /// What the client gets.
    pub wfile: Wfile<'a>,
}

impl Deref for StreamRequest<'_> {
    type Target = Request;

    fn deref(&self) -> &Request {
        self.connection
    }
}

impl<H: StreamRequestHandler> Stream<H> {
    fn parts<'a>(&'a mut self, request: &'a Request) -> (&'a mut H, StreamRequest<'a>) {
        let request = StreamRequest {
            connection: request,
            rfile: Rfile::new(request, &mut self.input, H::RBUFSIZE),
            wfile: Wfile::new(request, &mut self.output, H::WBUFSIZE),
        };
        (&mut self.handler, request)
    }
}

impl<H: StreamRequestHandler> RequestHandler for Stream<H> {
    fn setup(&mut self, request: &Request) -> Result {
        if let Some(timeout) = H::TIMEOUT {
            request.set_timeout(Some(timeout.as_nanos().try_into().unwrap_or(u64::MAX)))?;
        }
        if H::DISABLE_NAGLE_ALGORITHM {
            match request.set_nodelay(true) {
                // Only TCP has the algorithm; the handler serves the others as well.
                Ok(()) | Err(Error::Unsupported) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let (handler, mut request) = self.parts(request);
        handler.setup(&mut request)
    }

    fn handle(&mut self, request: &Request) -> Result {
        let (handler, mut request) = self.parts(request);
        handler.handle(&mut request)
    }

    fn finish(&mut self, request: &Request) -> Result {
        let (handler, mut request) = self.parts(request);
        let finished = handler.finish(&mut request);
        match request.wfile.finish() {
            // The client has gone, as clients do: `socketserver` doesn't report that either.
            Err(e) if matches!(e.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) => finished,
            sent => finished.and(sent.map_err(Into::into)),
        }
    }
}
