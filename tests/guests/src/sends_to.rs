//! Sends `hello` to the address that its client names, by its own request, and answers what came of it.

use plugsock_sdk::{Address, Request, RequestHandler, Result, UnixAddress, export};

#[derive(Default)]
struct Guest;

impl RequestHandler for Guest {
    fn handle(&mut self, request: &Request) -> Result {
        let name = String::from_utf8(request.recv(512)?)?;
        let address = match name.parse::<std::net::SocketAddr>() {
            Ok(address) => address.into(),
            Err(_) => Address::Unix(UnixAddress::Pathname(name)),
        };
        let sent = request.send_to(b"hello", &address);
        request.send(format!("{sent:?}").as_bytes())?;
        Ok(())
    }
}

export!(Guest: RequestHandler);
