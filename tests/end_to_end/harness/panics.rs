//! Makes the host panic where a test asks for it: in the middle of a host function, or wherever a client is logged.

use std::fmt::Debug;
use std::sync::{Mutex, PoisonError};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::Interest;
use tracing::{Event, Metadata, Subscriber};

/// The line on which logging it panics.
pub const PANIC_ON: &str = "let the host panic";

/// Clients whom to log panics, as the log has their addresses.
static CLIENTS: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// From now on, to log something of this client panics.
pub fn panic_on_client(address: String) {
    CLIENTS.lock().unwrap_or_else(PoisonError::into_inner).push(address);
}

fn is_marked(client: &str) -> bool {
    CLIENTS.lock().unwrap_or_else(PoisonError::into_inner).iter().any(|marked| marked == client)
}

/// The log of the servers in this process, and of their fork servers: it keeps nothing.
pub struct PanickingLog;

impl Subscriber for PanickingLog {
    fn register_callsite(&self, _: &'static Metadata<'static>) -> Interest {
        Interest::sometimes()
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let has_clients = || !CLIENTS.lock().unwrap_or_else(PoisonError::into_inner).is_empty();
        metadata.target() == "guest" || metadata.target().starts_with("plugsock") && has_clients()
    }

    fn event(&self, event: &Event<'_>) {
        event.record(&mut PanicOn);
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

struct PanicOn;

impl Visit for PanicOn {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let value = format!("{value:?}");
        assert_ne!(value, PANIC_ON, "a test wants it so");
        assert!(field.name() != "client" || !is_marked(&value), "a test wants it so of {value}");
    }
}
