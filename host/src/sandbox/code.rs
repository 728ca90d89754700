//! Compiled code: of a component, or of a core module, which is run as it is.

#![allow(unsafe_code, reason = "compiled code is loaded")]

use std::io;
use std::os::fd::OwnedFd;

use wasmtime::component::Component;
use wasmtime::{Engine, Module, Precompiled, ResourcesRequired};

use super::component::names;
use super::limits::Limits;
use super::sealed_file::{read_sealed, sealed_file};
use super::{engine, preview1, proposals};

/// A page of linear memory.
const WASM_PAGE: u64 = 64 << 10;

/// What a handler is made of.
#[derive(Clone)]
pub(super) enum Code {
    Component(Component),
    /// A program for WASI preview 1.
    Module(Module),
}

impl Code {
    /// Compiles a component or a core module to what [`load`](Self::load) takes; says in words why not.
    pub(super) fn precompile(engine: &Engine, bytes: &[u8]) -> Result<Vec<u8>, String> {
        let invalid = |what, bytes, error| match proposals::missing(bytes) {
            Some(missing) => missing,
            None => format!("it is not a valid {what}: {error:#}"),
        };
        if !preview1::is_core_module(bytes) {
            let compiled = engine.precompile_component(bytes);
            return compiled.map_err(|error| invalid("component", bytes, error));
        }
        let component = preview1::to_component(bytes);
        // What a proposal brings in may look like something else.
        match component.map_err(|reason| proposals::missing(bytes).unwrap_or(reason))? {
            Some(component) => {
                let compiled = engine.precompile_component(&component);
                compiled.map_err(|error| invalid("component", &component, error))
            }
            None => engine.precompile_module(bytes).map_err(|error| invalid("module", bytes, error)),
        }
    }

    /// # Safety
    ///
    /// The code is what [`precompile`](Self::precompile) or [`to_sealed_file`](Self::to_sealed_file) of this
    /// executable made, and nobody has changed it.
    pub(super) unsafe fn load(engine: &Engine, code: &[u8]) -> wasmtime::Result<Self> {
        if Engine::detect_precompiled(code) == Some(Precompiled::Module) {
            // SAFETY: as the caller promises.
            return unsafe { Module::deserialize(engine, code) }.map(Self::Module);
        }
        // SAFETY: as the caller promises.
        unsafe { Component::deserialize(engine, code) }.map(Self::Component)
    }

    /// The code, sealed against change.
    pub(super) fn to_sealed_file(&self) -> io::Result<OwnedFd> {
        let code = match self {
            Self::Component(component) => component.serialize(),
            Self::Module(module) => module.serialize(),
        };
        sealed_file("handler", &code.map_err(io::Error::other)?)
    }

    /// What this executable, as the host that started this process, wrote with
    /// [`to_sealed_file`](Self::to_sealed_file).
    pub(super) fn from_sealed_file(engine: &Engine, file: OwnedFd) -> Result<Self, String> {
        let code = read_sealed(file, u64::MAX).map_err(|error| error.to_string())?;
        // SAFETY: the host compiled it and handed it over by descriptor, sealed against any change since.
        unsafe { Self::load(engine, &code) }.map_err(|error| format!("{error:#}"))
    }

    pub(super) fn engine(&self) -> &Engine {
        match self {
            Self::Component(component) => component.engine(),
            Self::Module(module) => module.engine(),
        }
    }

    /// The interfaces and functions that it asks for.
    pub(super) fn imports(&self) -> Vec<String> {
        match self {
            Self::Component(component) => names(component.component_type().imports(component.engine())),
            Self::Module(module) => {
                let imports = module.imports().map(|import| format!("{}#{}", import.module(), import.name()));
                imports.collect()
            }
        }
    }

    /// The interfaces and functions that it offers.
    pub(super) fn exports(&self) -> Vec<String> {
        match self {
            Self::Component(component) => names(component.component_type().exports(component.engine())),
            Self::Module(module) => module.exports().map(|export| export.name().to_owned()).collect(),
        }
    }

    /// The memories and tables of one instance.
    pub(super) fn resources(&self) -> Option<ResourcesRequired> {
        match self {
            Self::Component(component) => component.resources_required(),
            Self::Module(module) => Some(module.resources_required()),
        }
    }

    /// Whether it may begin as large as it does; in words if not.
    pub(super) fn check_size(&self, limits: &Limits) -> Result<(), String> {
        let Some(resources) = self.resources() else { return Ok(()) };
        let memories = resources.num_memories as usize;
        let memory = resources.max_initial_memory_size.unwrap_or(0).saturating_mul(WASM_PAGE);
        let elements = resources.max_initial_table_size.unwrap_or(0);
        if memories > limits.memories {
            let most = limits.memories;
            Err(format!("it has {memories} memories, and may have {most}; raise --memories"))
        } else if memory > limits.memory as u64 {
            let most = limits.memory;
            Err(format!("a memory of it begins with {memory} bytes, and all may have {most}; raise --memory"))
        } else if elements > limits.table_elements as u64 {
            let most = limits.table_elements;
            Err(format!(
                "a table of it begins with {elements} elements, and all may have {most}; raise --table-elements"
            ))
        } else {
            Ok(())
        }
    }

    /// Whether its memories and tables are as many as a place in the pools has.
    pub(super) fn fits_pools(&self) -> bool {
        self.resources().is_none_or(|resources| {
            resources.num_memories <= engine::MEMORIES_A_PLACE
                && resources.num_tables <= engine::TABLES_A_PLACE
        })
    }
}
