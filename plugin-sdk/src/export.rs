//! What [`export!`](crate::export) puts between the contract's functions and a handler.

use std::cell::RefCell;
use std::io::Cursor;

use crate::wfile::Output;
use crate::{DatagramRequestHandler, Request, RequestHandler, StreamRequestHandler};

/// Makes a type the component's request handler.
///
/// After the type comes the trait by which it serves: [`RequestHandler`], [`StreamRequestHandler`] or
/// [`DatagramRequestHandler`]; `+ ServerHooks` exports [the hooks](crate::ServerHooks), too.
///
/// ```
/// # use plugsock_sdk::{Request, RequestHandler, Result};
/// # #[derive(Default)]
/// # struct Nothing;
/// # impl RequestHandler for Nothing {
/// #     fn handle(&mut self, _: &Request) -> Result { Ok(()) }
/// # }
/// plugsock_sdk::export!(Nothing: RequestHandler);
/// ```
#[macro_export]
macro_rules! export {
    ($handler:ty: $trait:ident + ServerHooks) => {
        $crate::export!($handler: $trait);
        $crate::export!(@hooks $handler);
    };
    ($handler:ty: RequestHandler) => {
        $crate::export!(@handler $handler);
    };
    ($handler:ty: StreamRequestHandler) => {
        $crate::export!(@handler $crate::Stream<$handler>);
    };
    ($handler:ty: DatagramRequestHandler) => {
        $crate::export!(@handler $crate::Datagram<$handler>);
    };
    (@handler $handler:ty) => {
        const _: () = {
            type Error = ::std::string::String;
            struct Component;

            ::std::thread_local! {
                static INSTANCE: $crate::Instance<$handler> = const { $crate::Instance::new() };
            }

            impl $crate::bindings::exports::plugsock::handler::request_handler::Guest for Component {
                fn setup(request: &$crate::Request) -> ::std::result::Result<(), Error> {
                    INSTANCE.with(|instance| instance.setup(request))
                }
                fn handle(request: &$crate::Request) -> ::std::result::Result<(), Error> {
                    INSTANCE.with(|instance| instance.handle(request))
                }
                fn finish(request: &$crate::Request) -> ::std::result::Result<(), Error> {
                    INSTANCE.with(|instance| instance.finish(request))
                }
            }

            // Other linkers refuse the contract's names. Where nothing is exported, all is used all the same.
            #[cfg(target_family = "wasm")]
            $crate::bindings::export_handler!(Component with_types_in $crate::bindings);
            #[cfg(not(target_family = "wasm"))]
            let _ = Component;
        };
    };
    (@hooks $handler:ty) => {
        const _: () = {
            struct Component;

            impl $crate::bindings::hooks::exports::plugsock::handler::server_hooks::Guest for Component {
                fn verify_request(request: &$crate::Request) -> bool {
                    <$handler as $crate::ServerHooks>::verify_request(request)
                }
                fn handle_error(server: $crate::ServerInfo, failure: $crate::Failure) {
                    <$handler as $crate::ServerHooks>::handle_error(&server, &failure);
                }
                fn handle_timeout(server: $crate::ServerInfo) {
                    <$handler as $crate::ServerHooks>::handle_timeout(&server);
                }
                fn service_actions(server: $crate::ServerInfo) {
                    <$handler as $crate::ServerHooks>::service_actions(&server);
                }
            }

            #[cfg(target_family = "wasm")]
            $crate::bindings::hooks::export_hooks!(Component with_types_in $crate::bindings::hooks);
            #[cfg(not(target_family = "wasm"))]
            let _ = Component;
        };
    };
}

/// The handler of the request that this component serves, from `setup` until `finish`.
pub struct Instance<H>(RefCell<Option<H>>);

impl<H: RequestHandler> Instance<H> {
    /// No handler yet.
    #[expect(clippy::new_without_default, reason = "a static needs a constant")]
    pub const fn new() -> Self {
        Instance(RefCell::new(None))
    }

    /// The contract's `setup`.
    pub fn setup(&self, request: &Request) -> Result<(), String> {
        let mut handler = self.0.borrow_mut();
        handler.insert(H::default()).setup(request).map_err(String::from)
    }

    /// The contract's `handle`.
    pub fn handle(&self, request: &Request) -> Result<(), String> {
        match &mut *self.0.borrow_mut() {
            Some(handler) => handler.handle(request).map_err(String::from),
            None => Err("`handle` was called before `setup`".to_owned()),
        }
    }

    /// The contract's `finish`.
    pub fn finish(&self, request: &Request) -> Result<(), String> {
        match self.0.take() {
            Some(mut handler) => handler.finish(request).map_err(String::from),
            None => Err("`finish` was called before `setup`".to_owned()),
        }
    }
}

/// A [`StreamRequestHandler`] and what its files hold between calls.
#[derive(Default)]
pub struct Stream<H: StreamRequestHandler> {
    pub(crate) handler: H,
    pub(crate) input: Cursor<Vec<u8>>,
    pub(crate) output: Output,
}

/// A [`DatagramRequestHandler`], its packet, and what its files hold between calls.
pub struct Datagram<H: DatagramRequestHandler> {
    pub(crate) handler: H,
    pub(crate) packet: Vec<u8>,
    /// Where `rfile` is read to.
    pub(crate) position: u64,
    pub(crate) output: Output,
}

impl<H: DatagramRequestHandler> Default for Datagram<H> {
    fn default() -> Self {
        Datagram { handler: H::default(), packet: Vec::new(), position: 0, output: Output::datagram() }
    }
}
