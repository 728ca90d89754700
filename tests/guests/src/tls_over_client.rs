//! Is a client of TLS over the request's own connection, whose client has to be the server: sends each byte that comes
//! back. What fails goes into the log.

use plugsock_sdk::wasi::io::streams::StreamError;
use plugsock_sdk::{HandlerError, Request, RequestHandler, Result, export};

mod bindings {
    wit_bindgen::generate!({
        path: ["../../plugin-sdk/wit/deps/io.wit", "../../plugins/proxy/wit/tls.wit"],
        world: "wasi:tls/client",
        with: {
            "wasi:io/error@0.2.6": plugsock_sdk::wasi::io::error,
            "wasi:io/poll@0.2.6": plugsock_sdk::wasi::io::poll,
            "wasi:io/streams@0.2.6": plugsock_sdk::wasi::io::streams,
        },
        generate_all,
    });
}

use bindings::wasi::tls::types::ClientHandshake;

#[derive(Default)]
struct Guest;

impl RequestHandler for Guest {
    fn handle(&mut self, request: &Request) -> Result {
        let handshake = ClientHandshake::new("localhost", request.rfile()?, request.wfile()?);
        let connecting = ClientHandshake::finish(handshake);
        connecting.subscribe().block();
        let connected = connecting.get().expect("it is ready").expect("it is asked once");
        let (tls, input, output) = connected.map_err(|error| HandlerError::new(error.to_debug_string()))?;
        loop {
            match input.blocking_read(1000) {
                Ok(data) => output.blocking_write_and_flush(&data)?,
                Err(StreamError::Closed) => break,
                Err(error) => return Err(error.into()),
            }
        }
        tls.close_output();
        output.subscribe().block();
        drop((input, output));
        Ok(())
    }
}

export!(Guest: RequestHandler);
