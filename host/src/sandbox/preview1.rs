//! Core modules: programs for WASI preview 1, which are run as they are, and what becomes a component because it
//! carries a component's type.

mod connection;
mod functions;
mod poll;

use wasi_preview1_component_adapter_provider::{
    WASI_SNAPSHOT_PREVIEW1_COMMAND_ADAPTER, WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER,
};
use wasmparser::{Parser, Payload};
use wit_component::ComponentEncoder;

pub(super) use connection::Preview1;
pub(super) use functions::add_to_linker;

/// The module that all of it is imported from.
pub(super) const PREVIEW1: &str = "wasi_snapshot_preview1";

/// Counts the ways in which modules were compiled: what was compiled in another is not used.
pub(super) const REVISION: u8 = 2;

/// What decides how a module is served.
#[derive(Default)]
struct Module<'a> {
    imports: Vec<(&'a str, &'a str)>,
    is_program: bool,
    is_reactor: bool,
    exports_memory: bool,
    /// A bindings generator has left the type of the component to make.
    has_component_type: bool,
}

/// A component says in its version field that it is none.
pub(super) fn is_core_module(bytes: &[u8]) -> bool {
    bytes.starts_with(b"\0asm\x01\0\0\0")
}

/// The component that a core module is meant to become, or `None` for a program that is run as it is; in words if
/// it is neither.
pub(super) fn to_component(bytes: &[u8]) -> Result<Option<Vec<u8>>, String> {
    let module = Module::parse(bytes).map_err(|error| format!("it is not a valid module: {error}"))?;
    if !module.has_component_type {
        return module.check().map(|()| None);
    }
    let adapter = match module.is_program {
        true => WASI_SNAPSHOT_PREVIEW1_COMMAND_ADAPTER,
        false => WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER,
    };
    let encoder = ComponentEncoder::default().module(bytes);
    let encoded = encoder
        .and_then(|encoder| encoder.adapter(PREVIEW1, adapter))
        .and_then(|mut encoder| encoder.encode());
    encoded
        .map(Some)
        .map_err(|error| format!("it is a core module of which no component can be made: {error:#}"))
}

impl<'a> Module<'a> {
    fn parse(bytes: &'a [u8]) -> wasmparser::Result<Self> {
        let mut module = Self::default();
        for payload in Parser::new(0).parse_all(bytes) {
            match payload? {
                Payload::ImportSection(imports) => {
                    for import in imports.into_imports() {
                        let import = import?;
                        module.imports.push((import.module, import.name));
                    }
                }
                Payload::ExportSection(exports) => {
                    for export in exports {
                        match export?.name {
                            "_start" => module.is_program = true,
                            "_initialize" => module.is_reactor = true,
                            "memory" => module.exports_memory = true,
                            _ => {}
                        }
                    }
                }
                Payload::CustomSection(section) if section.name().starts_with("component-type") => {
                    module.has_component_type = true;
                }
                _ => {}
            }
        }
        Ok(module)
    }

    /// Whether it is a program for preview 1; in words for whoever built it if not.
    fn check(&self) -> Result<(), String> {
        if let Some((module, name)) = self.imports.iter().find(|(module, _)| *module != PREVIEW1) {
            let advice = match *module {
                "wasi_unstable" => {
                    "it was built for the WASI before preview 1: build it with a newer toolchain"
                }
                "env" => {
                    "a symbol that the linker did not find, or an Emscripten module: link what it lacks, and \
                     build it for wasm32-wasip1"
                }
                "wasix_32v1" | "wasix_64v1" => "it was built for WASIX: build it for wasm32-wasip1",
                "wbg" | "__wbindgen_placeholder__" | "gojs" | "go" => {
                    "it was built for a browser: build it for wasm32-wasip1 (GOOS=wasip1 with Go)"
                }
                _ => "a module may import WASI preview 1 alone: build it for wasm32-wasip1",
            };
            return Err(format!(
                "it imports `{name}` from `{module}`, which this host does not have: {advice}"
            ));
        }
        match (self.is_program, self.is_reactor) {
            (true, _) if self.exports_memory => Ok(()),
            (true, _) => {
                Err("it exports no memory named `memory`, by which a program for WASI preview 1 speaks to \
                              its host: link it for wasm32-wasip1"
                    .to_owned())
            }
            (false, true) => {
                Err("it is a library (a reactor, with `_initialize` and no `_start`), so there is \
                                  nothing to run: build a program with a `main`, or a component"
                    .to_owned())
            }
            (false, false) => {
                Err("it is a core module without `_start`, so there is nothing to run: build a \
                                   program with a `main` for wasm32-wasip1, or a component for wasm32-wasip2"
                    .to_owned())
            }
        }
    }
}
