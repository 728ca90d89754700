//! WASI's sockets and TLS as Rust code, generated from `wit/`.
#![allow(missing_docs, reason = "WASI documents them")]

wit_bindgen::generate!({
    path: ["../../plugin-sdk/wit/deps/io.wit", "wit/sockets.wit", "wit/tls.wit"],
    inline: "
        package plugsock:proxy;
        world client {
            include wasi:sockets/client@0.2.1;
            include wasi:tls/client@0.2.0-draft;
        }
    ",
    world: "plugsock:proxy/client",
    with: {
        "wasi:io/error@0.2.6": plugsock_sdk::wasi::io::error,
        "wasi:io/poll@0.2.6": plugsock_sdk::wasi::io::poll,
        "wasi:io/streams@0.2.6": plugsock_sdk::wasi::io::streams,
    },
    generate_all,
});
