//! The server types by the names that `socketserver` gives them.

use super::{Server, ServerOptions};
use crate::error::BindError;
use crate::slot::Slot;

/// Defines a server type's name as a way to bind one.
macro_rules! server_types {
    ($($(#[$doc:meta])* $name:ident, $scheme:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Debug)]
        pub struct $name;

        impl $name {
            /// Binds an address, with the default options.
            pub fn bind(address: &str, slot: impl Into<Slot>) -> Result<Server, BindError> {
                Self::bind_with(address, slot, ServerOptions::default())
            }

            /// Binds an address.
            pub fn bind_with(
                address: &str,
                slot: impl Into<Slot>,
                options: ServerOptions,
            ) -> Result<Server, BindError> {
                Server::bind(&format!("{}://{address}", $scheme).parse()?, slot, options)
            }
        }
    )*};
}

server_types! {
    /// Makes servers whose requests are TCP connections; the address is `HOST:PORT`.
    TcpServer, "tcp";
    /// Makes servers whose requests are UDP datagrams; the address is `HOST:PORT`.
    UdpServer, "udp";
    /// Makes servers whose requests are connections to a Unix socket; the address is a path or `@NAME`.
    UnixStreamServer, "unix";
    /// Makes servers whose requests are datagrams to a Unix socket; the address is a path or `@NAME`.
    UnixDatagramServer, "unixgram";
}
