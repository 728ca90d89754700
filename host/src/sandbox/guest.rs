//! What a handler is served by: the contract's export, or what runs an ordinary program; linked, and of one
//! instance.

use wasmtime::component::{self, Component, Instance};
use wasmtime::{Engine, InstancePre, Store, TypedFunc};
use wasmtime_wasi::p2::bindings::exports::wasi::cli::run;
use wasmtime_wasi_http::p2::bindings::exports::wasi::http::incoming_handler;

use super::code::Code;
use super::component::{CONTRACT, HandlerKind, check_version, explain_unlinked, names};
use super::contract::{request_handler, server_hooks};
use super::platform::Platform;
use super::state::State;

/// A handler's code with all that it imports.
pub(super) enum Linked {
    Component {
        instance: component::InstancePre<State>,
        export: Export,
        hooks: Option<server_hooks::GuestIndices>,
    },
    /// A core module, whose `_start` is the program.
    Module(InstancePre<State>),
}

/// The export that a component is served by, and so how it is served.
pub(super) enum Export {
    Contract(request_handler::GuestIndices),
    Http(incoming_handler::GuestIndices),
    Command(run::GuestIndices),
}

/// What one instance is served by.
pub(super) enum Guest {
    Contract(request_handler::Guest),
    Http(incoming_handler::Guest),
    Command(run::Guest),
    Start(TypedFunc<(), ()>),
}

impl Linked {
    pub(super) fn new(platform: &Platform, code: &Code) -> Result<Self, String> {
        match code {
            Code::Component(component) => {
                check_version(component)?;
                let instance = platform.components.instantiate_pre(component).map_err(|error| {
                    let missing = explain_unlinked(component, &error);
                    format!("it asks for what this host does not have: {missing}")
                })?;
                let (export, hooks) =
                    (Export::of(&instance)?, server_hooks::GuestIndices::new(&instance).ok());
                Ok(Self::Component { instance, export, hooks })
            }
            Code::Module(module) => {
                let instance = platform.modules.instantiate_pre(module);
                let missing = |error| format!("it asks for what WASI preview 1 does not have: {error:#}");
                Ok(Self::Module(instance.map_err(missing)?))
            }
        }
    }

    pub(super) fn code(&self) -> Code {
        match self {
            Self::Component { instance, .. } => Code::Component(instance.component().clone()),
            Self::Module(instance) => Code::Module(instance.module().clone()),
        }
    }

    pub(super) fn engine(&self) -> &Engine {
        match self {
            Self::Component { instance, .. } => instance.engine(),
            Self::Module(instance) => instance.module().engine(),
        }
    }

    /// The component, if it is one.
    pub(super) fn component(&self) -> Option<&Component> {
        match self {
            Self::Component { instance, .. } => Some(instance.component()),
            Self::Module(_) => None,
        }
    }

    pub(super) fn kind(&self) -> HandlerKind {
        match self {
            Self::Component { export: Export::Contract(_), .. } => HandlerKind::Contract,
            Self::Component { export: Export::Http(_), .. } => HandlerKind::Http,
            Self::Component { export: Export::Command(_), .. } => HandlerKind::Command,
            Self::Module(_) => HandlerKind::Preview1Command,
        }
    }

    pub(super) fn has_hooks(&self) -> bool {
        matches!(self, Self::Component { hooks: Some(_), .. })
    }

    pub(super) async fn instantiate(&self, store: &mut Store<State>) -> wasmtime::Result<Guest> {
        match self {
            Self::Component { instance, export, .. } => {
                let instance = instance.instantiate_async(&mut *store).await?;
                export.load(store, &instance)
            }
            Self::Module(instance) => {
                let instance = instance.instantiate_async(&mut *store).await?;
                Ok(Guest::Start(instance.get_typed_func(store, "_start")?))
            }
        }
    }

    /// The hooks of a new instance; `None` if there are none.
    pub(super) async fn instantiate_hooks(
        &self,
        store: &mut Store<State>,
    ) -> wasmtime::Result<Option<server_hooks::Guest>> {
        let Self::Component { instance, hooks: Some(hooks), .. } = self else { return Ok(None) };
        let instance = instance.instantiate_async(&mut *store).await?;
        hooks.load(store, &instance).map(Some)
    }
}

impl Export {
    /// The contract's export goes before that of HTTP, and this before a program's, where a component has several.
    fn of(instance: &component::InstancePre<State>) -> Result<Self, String> {
        if let Ok(contract) = request_handler::GuestIndices::new(instance) {
            return Ok(Self::Contract(contract));
        }
        if let Ok(http) = incoming_handler::GuestIndices::new(instance) {
            return Ok(Self::Http(http));
        }
        if let Ok(command) = run::GuestIndices::new(instance) {
            return Ok(Self::Command(command));
        }
        let component = instance.component();
        let exports = names(component.component_type().exports(component.engine()));
        let exports = if exports.is_empty() { "nothing".to_owned() } else { exports.join(", ") };
        Err(format!(
            "it exports neither {CONTRACT}, as a handler does, nor wasi:http/incoming-handler, as an HTTP handler does, \
             nor wasi:cli/run, as a program does; it exports {exports}"
        ))
    }

    fn load(&self, store: &mut Store<State>, instance: &Instance) -> wasmtime::Result<Guest> {
        Ok(match self {
            Self::Contract(contract) => Guest::Contract(contract.load(store, instance)?),
            Self::Http(http) => Guest::Http(http.load(store, instance)?),
            Self::Command(command) => Guest::Command(command.load(store, instance)?),
        })
    }
}
