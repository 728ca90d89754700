//! TLS over a connection to the server behind.

use plugsock_sdk::Result;
use plugsock_sdk::wasi::io::streams::{InputStream, OutputStream, StreamError};

use crate::bindings::wasi::tls::types::{ClientConnection, ClientHandshake};
use crate::relay::{first_line, in_words};

type Connected = (ClientConnection, InputStream, OutputStream);

/// Makes the TLS connection; the server has to prove that it is `host`.
pub fn handshake(host: &str, input: InputStream, output: OutputStream) -> Result<Connected, String> {
    let connecting = ClientHandshake::finish(ClientHandshake::new(host, input, output));
    loop {
        match connecting.get() {
            Some(Ok(connected)) => return connected.map_err(|error| first_line(&error)),
            Some(Err(())) => return Err("it was asked twice".to_owned()),
            None => connecting.subscribe().block(),
        }
    }
}

/// Says that nothing more comes. What is dropped before that has left would be lost.
pub fn end_sending(tls: &ClientConnection, output: &OutputStream) -> Result {
    tls.close_output();
    loop {
        output.subscribe().block();
        match output.check_write() {
            Ok(_) => {}
            Err(StreamError::Closed) => return Ok(()),
            Err(error) => return Err(in_words(error)),
        }
    }
}
