//! `DatagramRequestHandler`: a request as one packet.

use std::io::Cursor;
use std::ops::Deref;

use crate::export::Datagram;
use crate::{HandlerError, Request, RequestHandler, Result, Wfile};

/// Serves one packet: `DatagramRequestHandler` of `socketserver`.
///
/// ```
/// use plugsock_sdk::{DatagramRequest, DatagramRequestHandler, Result, export};
/// use std::io::Write;
///
/// #[derive(Default)]
/// struct Length;
///
/// impl DatagramRequestHandler for Length {
///     fn handle(&mut self, request: &mut DatagramRequest) -> Result {
///         write!(request.wfile, "{} bytes", request.packet.len())?;
///         Ok(())
///     }
/// }
///
/// export!(Length: DatagramRequestHandler);
/// ```
#[expect(unused_variables, reason = "what does nothing by default still names its parameters")]
pub trait DatagramRequestHandler: Default {
    /// Prepares; after an error neither `handle` nor `finish` runs.
    fn setup(&mut self, request: &mut DatagramRequest) -> Result {
        Ok(())
    }

    /// Serves the packet.
    fn handle(&mut self, request: &mut DatagramRequest) -> Result;

    /// Cleans up; runs after `handle` has failed, too. What was written to `wfile` is sent afterwards.
    fn finish(&mut self, request: &mut DatagramRequest) -> Result {
        Ok(())
    }
}

/// A packet and the socket that it came to. It derefs to the [`Request`]: each [`send`](Request::send) is a
/// datagram of its own.
pub struct DatagramRequest<'a> {
    /// The request itself.
    pub socket: &'a Request,
    /// The packet.
    pub packet: &'a [u8],
    /// The packet as a file.
    pub rfile: Cursor<&'a [u8]>,
    /// Sent as one datagram after `finish`.
    pub wfile: Wfile<'a>,
}

impl Deref for DatagramRequest<'_> {
    type Target = Request;

    fn deref(&self) -> &Request {
        self.socket
    }
}

impl<H: DatagramRequestHandler> Datagram<H> {
    /// Runs one method of the handler; where `rfile` is read to lasts until the next.
    fn call(
        &mut self,
        request: &Request,
        method: impl FnOnce(&mut H, &mut DatagramRequest) -> Result,
    ) -> Result {
        let mut rfile = Cursor::new(&self.packet[..]);
        rfile.set_position(self.position);
        let mut request = DatagramRequest {
            socket: request,
            packet: &self.packet,
            rfile,
            wfile: Wfile::new(request, &mut self.output, 0),
        };
        let result = method(&mut self.handler, &mut request);
        self.position = request.rfile.position();
        result
    }
}

impl<H: DatagramRequestHandler> RequestHandler for Datagram<H> {
    fn setup(&mut self, request: &Request) -> Result {
        let server_type = request.server().server_type;
        if !server_type.is_datagram() {
            let message = format!("this handler serves datagrams only, not {server_type}");
            return Err(HandlerError::new(message));
        }
        self.packet = request.recv(u32::MAX)?;
        self.call(request, H::setup)
    }

    fn handle(&mut self, request: &Request) -> Result {
        self.call(request, H::handle)
    }

    fn finish(&mut self, request: &Request) -> Result {
        let finished = self.call(request, H::finish);
        let sent = Wfile::new(request, &mut self.output, 0).finish();
        finished.and(sent.map_err(Into::into))
    }
}
