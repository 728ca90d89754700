//! The contract as Rust code, generated from `wit/`.
#![allow(missing_docs, reason = "the contract documents what has a meaning of its own")]

wit_bindgen::generate!({
    path: "wit",
    world: "handler",
    generate_all,
    pub_export_macro: true,
    export_macro_name: "export_handler",
});

/// The hooks alone: a component that exports none of them must not name them.
pub mod hooks {
    wit_bindgen::generate!({
        path: "wit",
        inline: "
            package plugsock:sdk;
            world hooks { export plugsock:handler/server-hooks@0.1.1; }
        ",
        world: "plugsock:sdk/hooks",
        with: {
            "plugsock:handler/types@0.1.1": crate::bindings::plugsock::handler::types,
            "wasi:io/error@0.2.6": crate::bindings::wasi::io::error,
            "wasi:io/poll@0.2.6": crate::bindings::wasi::io::poll,
            "wasi:io/streams@0.2.6": crate::bindings::wasi::io::streams,
            "wasi:sockets/network@0.2.6": crate::bindings::wasi::sockets::network,
        },
        pub_export_macro: true,
        export_macro_name: "export_hooks",
    });
}

/// State that outlives a request. Of what is not used, nothing is imported.
pub mod state {
    wit_bindgen::generate!({
        path: "wit",
        world: "with-state",
        generate_all,
    });
}
