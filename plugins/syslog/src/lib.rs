//! Prints the syslog messages that programs send to a datagram socket (RFC 3164, RFC 5424).

use plugsock_sdk::{DatagramRequest, DatagramRequestHandler, Result, export};

mod message;

use message::Message;

#[derive(Default)]
struct Syslog;

impl DatagramRequestHandler for Syslog {
    fn handle(&mut self, request: &mut DatagramRequest) -> Result {
        println!("{}", Message::parse(&String::from_utf8_lossy(request.packet)));
        Ok(())
    }
}

export!(Syslog: DatagramRequestHandler);
