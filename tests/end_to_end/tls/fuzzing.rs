//! What clients are let loose on that send anything.

use std::io::{Read, Write};

use socket2::Socket;

use super::bad_input::hello;
use super::client::connect;
pub use super::{Protected, WAYS, Way};

/// A host of which a handshake is expected soon.
pub struct Target {
    protected: Protected,
    way: Way,
}

impl Target {
    pub fn serve(way: Way, strategy: &str) -> Self {
        let args = ["--concurrency", strategy, "--tls-handshake-timeout", "100ms", "--idle-timeout", "100ms"];
        Self { protected: Protected::serve(way, &args), way }
    }

    /// A connection that a hello is expected of, and one.
    pub fn connect(&self, version: usize) -> (Socket, Vec<u8>) {
        let (_, hello) = hello(&self.protected, version);
        let socket = connect(self.protected.host.address());
        if self.way == Way::Command {
            (&socket).write_all(b"STARTTLS\n").unwrap();
            (&socket).read_exact(&mut [0; 3]).unwrap();
        }
        (socket, hello)
    }

    pub fn serves_on(&self) {
        self.protected.serves_on(self.way);
    }

    pub fn log(&self) -> String {
        self.protected.host.log.text()
    }
}
