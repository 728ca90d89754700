//! Does what the first words of its client ask for, by all that the contract has besides reading and writing, and
//! answers with the same bytes otherwise. The hooks say that they were called.

use plugsock_sdk::wasi::clocks::monotonic_clock::subscribe_duration;
use plugsock_sdk::wasi::io::poll::poll;
use plugsock_sdk::wasi::io::streams::StreamError;
use plugsock_sdk::{
    Address, Failure, HandlerError, Request, RequestHandler, Result, ServerHooks, ServerInfo, UnixAddress,
    export,
};

#[derive(Default)]
struct Features;

impl RequestHandler for Features {
    fn handle(&mut self, request: &Request) -> Result {
        let data = request.recv(8192)?;
        let text = String::from_utf8_lossy(&data);
        match text.split_whitespace().collect::<Vec<_>>()[..] {
            ["fail", ..] => Err(HandlerError::new("as the client wished")),
            ["tick"] => tick(request),
            ["wait"] => wait(request),
            ["who"] => {
                let ServerInfo { server_address, concurrency, generation, .. } = request.server();
                let line =
                    format!("{server_address} {concurrency} {generation} {}", request.client_address());
                Ok(request.send(line.as_bytes())?)
            }
            ["send-to", address] => {
                let address = match address.parse::<std::net::SocketAddr>() {
                    Ok(address) => address.into(),
                    Err(_) => Address::Unix(UnixAddress::Pathname(address.to_owned())),
                };
                let sent = request.send_to(b"hello", &address);
                let words = sent.map_or_else(|error| error.to_string(), |()| "sent".to_owned());
                Ok(request.send(words.as_bytes())?)
            }
            _ => Ok(request.send(&data)?),
        }
    }
}

/// Waits for the client and a timer at once, until the client's end.
fn tick(request: &Request) -> Result {
    let (input, output) = (request.rfile()?, request.wfile()?);
    loop {
        let (client, timer) = (input.subscribe(), subscribe_duration(20_000_000));
        if poll(&[&client, &timer])[0] == 1 {
            output.blocking_write_and_flush(b"tick\n")?;
            continue;
        }
        match input.read(4096) {
            Ok(data) => output.blocking_write_and_flush(&data)?,
            Err(StreamError::Closed) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}

/// Waits for the drain and the client at once.
fn wait(request: &Request) -> Result {
    request.send(if request.is_draining() { b"draining\n" } else { b"serving\n" })?;
    let input = request.rfile()?;
    let (client, drain) = (input.subscribe(), request.subscribe_drain());
    poll(&[&client, &drain]);
    let is_over = drain.ready() && request.is_draining();
    Ok(request.send(if is_over { b"bye\n" } else { b"hello\n" })?)
}

impl ServerHooks for Features {
    fn verify_request(request: &Request) -> bool {
        let is_datagram = request.server().server_type.is_datagram();
        !(is_datagram && request.recv(6).is_ok_and(|data| data == b"refuse"))
    }

    fn handle_error(server: &ServerInfo, failure: &Failure) {
        let Failure { phase, client_address, message, .. } = failure;
        eprintln!("handle_error: {phase} {client_address} {}: {message}", server.generation);
    }

    fn handle_timeout(server: &ServerInfo) {
        eprintln!("handle_timeout: {}", server.concurrency);
    }

    fn service_actions(server: &ServerInfo) {
        eprintln!("service_actions: {}", server.concurrency);
    }
}

export!(Features: RequestHandler + ServerHooks);
