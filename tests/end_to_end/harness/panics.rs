//! Makes the host panic in the middle of a host function, where a test asks for it.

use std::fmt::Debug;

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

/// The line on which logging it panics.
pub const PANIC_ON: &str = "let the host panic";

/// The log of the servers in this process, and of their fork servers: it keeps nothing.
pub struct PanickingLog;

impl Subscriber for PanickingLog {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "guest"
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
    fn record_debug(&mut self, _: &Field, value: &dyn Debug) {
        assert_ne!(format!("{value:?}"), PANIC_ON, "a test wants it so");
    }
}
