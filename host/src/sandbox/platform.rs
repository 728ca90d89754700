//! An engine with all that handlers on it may import.

use wasmtime::{Engine, Linker, component};

use super::state::State;
use super::{drops, io, keyvalue, network, preview1, request, seed, tls_client};

pub(super) struct Platform {
    pub(super) engine: Engine,
    /// For components.
    pub(super) components: component::Linker<State>,
    /// For core modules.
    pub(super) modules: Linker<State>,
}

impl Platform {
    pub(super) fn new(engine: Engine) -> wasmtime::Result<Self> {
        let mut components = component::Linker::new(&engine);
        wasmtime_wasi::p2::add_to_linker_async(&mut components)?;
        wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut components)?;
        network::add_to_linker(&mut components)?;
        tls_client::add_to_linker(&mut components)?;
        io::add_to_linker(&mut components)?;
        seed::add_to_linker(&mut components)?;
        drops::add_to_linker(&mut components)?;
        request::add_to_linker(&mut components)?;
        keyvalue::add_to_linker(&mut components)?;
        let mut modules = Linker::new(&engine);
        preview1::add_to_linker(&mut modules)?;
        Ok(Self { engine, components, modules })
    }
}
