//! WASI's sockets as Rust code, generated from `wit/`.
#![allow(missing_docs, reason = "WASI documents them")]

wit_bindgen::generate!({
    path: ["../../plugin-sdk/wit/deps/io.wit", "wit"],
    world: "wasi:sockets/client",
    with: {
        "wasi:io/error@0.2.6": plugsock_sdk::wasi::io::error,
        "wasi:io/poll@0.2.6": plugsock_sdk::wasi::io::poll,
        "wasi:io/streams@0.2.6": plugsock_sdk::wasi::io::streams,
    },
    generate_all,
});

pub use self::wasi::sockets::*;
