//! Connections that TLS protects: by the listener, by a handler in `setup`, and after a command.

mod bad_input;
mod client;
mod command_line;
pub mod fuzzing;
mod limits;
mod matrix;
mod older;
mod operator;
mod programs;
mod scan;
mod secrets;
mod tickets;
mod under_load;

use std::path::Path;

use tempfile::TempDir;

use crate::harness::certificates::{Ca, Certified};
use crate::harness::{Host, guest};
use client::{Settings, TlsClient, VERSIONS};

/// Who protects a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Listener,
    Setup,
    Command,
}

pub const WAYS: [Way; 3] = [Way::Listener, Way::Setup, Way::Command];

impl Way {
    fn address(self) -> &'static str {
        if self == Self::Listener { "tls://127.0.0.1:0" } else { "tcp://127.0.0.1:0" }
    }

    fn env(self) -> &'static str {
        match self {
            Self::Listener => "WHEN=before",
            Self::Setup => "WHEN=setup",
            Self::Command => "WHEN=command",
        }
    }

    fn connect(self, host: &Host, settings: &Settings) -> TlsClient {
        match self {
            Self::Listener | Self::Setup => TlsClient::connect(host.address(), settings),
            Self::Command => TlsClient::start(host.address(), settings),
        }
    }
}

/// A host with a certificate for `localhost`, and who has issued it.
pub struct Protected {
    host: Host,
    ca: Ca,
    certified: Certified,
    directory: TempDir,
}

impl Protected {
    /// Serves the guest `tls`.
    fn serve(way: Way, args: &[&str]) -> Self {
        Self::serve_handler(way.address(), &guest("tls"), &[&["--env", way.env()], args].concat())
    }

    fn serve_handler(address: &str, handler: &str, args: &[&str]) -> Self {
        let (ca, directory) = (Ca::new("the CA"), TempDir::new().unwrap());
        let certified = ca.server(&["localhost"]);
        let identity = certified.write(directory.path(), "main");
        let host = Host::serve(&[&[address, handler, "--tls", &identity], args].concat());
        Self { host, ca, certified, directory }
    }

    /// A client that asks for `localhost`; `version` is an index of [`VERSIONS`].
    fn settings(&self, version: usize) -> Settings {
        Settings::new(&self.ca, VERSIONS[version], "localhost")
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Another client is served as if nothing had been.
    fn serves_on(&self, way: Way) {
        let settings = self.settings(1);
        let mut client = way.connect(&self.host, &settings);
        client.send(b"well?");
        assert_eq!(client.recv_exact(5), b"well?");
        assert_eq!(client.exchange(b"", client::Close::Says), (Vec::new(), client::End::Said));
    }
}
