//! What a component exports to be served by, and the same of one instance: the contract's handler, or what
//! runs an ordinary program.

use wasmtime::Store;
use wasmtime::component::{Instance, InstancePre};
use wasmtime_wasi::p2::bindings::exports::wasi::cli::run;

use super::component::{self, CONTRACT};
use super::contract::request_handler;
use super::state::State;

/// The export that a handler is served by, and so how it is served.
pub(super) enum Export {
    Contract(request_handler::GuestIndices),
    Command(run::GuestIndices),
}

/// The same export of one instance.
pub(super) enum Guest {
    Contract(request_handler::Guest),
    Command(run::Guest),
}

impl Export {
    /// The contract's export goes before a program's, where a component has both.
    pub(super) fn of(instance: &InstancePre<State>) -> Result<Self, String> {
        if let Ok(contract) = request_handler::GuestIndices::new(instance) {
            return Ok(Self::Contract(contract));
        }
        if let Ok(command) = run::GuestIndices::new(instance) {
            return Ok(Self::Command(command));
        }
        let component = instance.component();
        let exports = component::names(component.component_type().exports(component.engine()));
        let exports = if exports.is_empty() { "nothing".to_owned() } else { exports.join(", ") };
        Err(format!(
            "it exports neither {CONTRACT}, as a handler does, nor wasi:cli/run, as a program does; it exports \
             {exports}"
        ))
    }

    pub(super) fn load(&self, store: &mut Store<State>, instance: &Instance) -> wasmtime::Result<Guest> {
        Ok(match self {
            Self::Contract(contract) => Guest::Contract(contract.load(store, instance)?),
            Self::Command(command) => Guest::Command(command.load(store, instance)?),
        })
    }
}
