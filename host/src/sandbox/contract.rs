//! The contract (`plugin-sdk/wit`) as Rust types and traits.
#![allow(missing_docs, unsafe_code, unused_variables, reason = "generated")]

wasmtime::component::bindgen!({
    path: "../plugin-sdk/wit",
    world: "handler-with-hooks",
    imports: {
        "plugsock:handler/types.[method]request.recv": async | trappable,
        "plugsock:handler/types.[method]request.send": async | trappable,
        "plugsock:handler/types.[method]request.send-to": async | trappable,
        "plugsock:handler/types.[method]request.shutdown": async | trappable,
        "plugsock:handler/types.[method]request.start-tls": async | trappable,
        default: trappable,
    },
    exports: { default: async },
    with: {
        "wasi:cli": wasmtime_wasi::p2::bindings::cli,
        "wasi:clocks": wasmtime_wasi::p2::bindings::clocks,
        "wasi:io": wasmtime_wasi::p2::bindings::io,
        "plugsock:handler/types.request": super::request::RequestResource,
    },
});

pub(super) use self::exports::plugsock::handler::{request_handler, server_hooks};
pub(super) use self::plugsock::handler::types;
pub(super) use self::wasi::sockets::network::{IpSocketAddress, Ipv4SocketAddress, Ipv6SocketAddress};
