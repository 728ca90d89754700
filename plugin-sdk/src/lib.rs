//! Request handlers for Plugsock, in Rust: the handler classes of Python's
//! [`socketserver`](https://docs.python.org/3/library/socketserver.html) as traits.
//!
//! ```
//! use plugsock_sdk::{Result, StreamRequest, StreamRequestHandler};
//!
//! #[derive(Default)]
//! struct Echo;
//!
//! impl StreamRequestHandler for Echo {
//!     fn handle(&mut self, request: &mut StreamRequest) -> Result {
//!         std::io::copy(&mut request.rfile, &mut request.wfile)?;
//!         Ok(())
//!     }
//! }
//!
//! plugsock_sdk::export!(Echo: StreamRequestHandler);
//! ```
//!
//! Compiled as a `cdylib` for `wasm32-wasip2`, this is a component that `plugsock serve` takes.
//!
//! | trait | of `socketserver` | what it offers |
//! |---|---|---|
//! | [`StreamRequestHandler`] | the class of that name | `rfile` and `wfile`; serves streams and datagrams alike |
//! | [`DatagramRequestHandler`] | the class of that name | the packet as a slice; several replies |
//! | [`RequestHandler`] | `BaseRequestHandler` | the bare [`Request`]: [`recv`](Request::recv) and [`send`](Request::send) |
//! | [`ServerHooks`] | the methods of `BaseServer` | a say in how the server runs |
//!
//! One instance of a handler serves one request. It is made with [`Default`], then `setup`, `handle` and
//! `finish` run in this order, as in `socketserver`: after an error from `setup` nothing runs any more,
//! after an error from `handle` only `finish`. Whatever `?` meets becomes the request's error
//! ([`HandlerError`]) and is reported by the host; it never ends the server.
//!
//! What is to outlive the request is kept in a [`Store`] that the server grants ([`ServerInfo::state`]).

mod address;
#[doc(hidden)]
pub mod bindings;
mod datagram;
mod error;
mod export;
mod handler;
mod hooks;
mod rfile;
mod state;
mod stream;
mod tls;
mod wfile;

#[doc(hidden)]
pub use crate::export::{Datagram, Instance, Stream};

pub use crate::bindings::plugsock::handler::types::{
    Address, Error, Request, ServerInfo, ServerType, ShutdownHow, TlsError, TlsFailure, TlsInfo, UnixAddress,
    UnixCredentials,
};
/// The part of WASI that the contract uses: the streams of [`Request::rfile`] and [`Request::wfile`], what polls them
/// together with others, and timers.
pub use crate::bindings::wasi;
pub use crate::datagram::{DatagramRequest, DatagramRequestHandler};
pub use crate::error::{HandlerError, Result};
pub use crate::handler::RequestHandler;
pub use crate::hooks::{Failure, Phase, ServerHooks};
pub use crate::rfile::Rfile;
pub use crate::state::{StateError, Store};
pub use crate::stream::{StreamRequest, StreamRequestHandler};
pub use crate::wfile::Wfile;
