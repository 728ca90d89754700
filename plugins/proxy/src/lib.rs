//! Passes connections on to another server, its first argument or else the variable `UPSTREAM`: `setup`
//! connects to it, by TLS if it is to, and `handle` moves bytes both ways until both sides have ended.

mod bindings;
mod relay;
mod target;
mod tls;
mod upstream;

use plugsock_sdk::{HandlerError, Request, RequestHandler, Result, ShutdownHow, export};

use relay::Relay;
use target::Target;
use upstream::Upstream;

#[derive(Default)]
struct Proxy {
    upstream: Option<Upstream>,
}

impl RequestHandler for Proxy {
    fn setup(&mut self, request: &Request) -> Result {
        if request.server().server_type.is_datagram() {
            return Err(HandlerError::new("a datagram is no connection: serve tcp:// or unix:// addresses"));
        }
        let target = std::env::args().nth(1).or_else(|| std::env::var("UPSTREAM").ok());
        let Some(target) = target else {
            return Err(HandlerError::new(
                "name the server to pass connections on to: `-- HOST:PORT` or `-- tls://HOST:PORT`",
            ));
        };
        self.upstream = Some(Upstream::connect(&Target::parse(&target)?)?);
        Ok(())
    }

    fn handle(&mut self, request: &Request) -> Result {
        let Some(upstream) = &self.upstream else { return Ok(()) };
        let (rfile, wfile) = (request.rfile()?, request.wfile()?);
        let mut there = Relay::new(&rfile, &upstream.output);
        let mut back = Relay::new(&upstream.input, &wfile);
        relay::run(
            (&mut there, || upstream.end_sending()),
            (&mut back, || Ok(request.shutdown(ShutdownHow::Write)?)),
        )
    }

    fn finish(&mut self, _: &Request) -> Result {
        // Its streams go before what they belong to.
        if let Some(Upstream { input, output, tls, socket }) = self.upstream.take() {
            drop((input, output));
            drop(tls);
            drop(socket);
        }
        Ok(())
    }
}

export!(Proxy: RequestHandler);
