//! A line of the log as systemd's journal has it: a datagram with a field a line.
//!
//! `tracing-journald` speaks the same protocol, but waits for a journal that is slow, does not say what it has lost, and
//! opens a socket of its own, where confined processes have to be given theirs.

use std::fmt;

use plugsock::one_line;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// Writes events by the journal's protocol.
pub struct JournalFormat;

impl<S, N> FormatEvent<S, N> for JournalFormat
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let metadata = event.metadata();
        let priority = match *metadata.level() {
            Level::ERROR => 3,
            Level::WARN => 4,
            Level::INFO => 6,
            _ => 7,
        };
        let mut fields = Fields { writer: writer.by_ref(), written: Ok(()) };
        fields.put("PRIORITY", &priority);
        fields.put("SYSLOG_IDENTIFIER", &"plugsock");
        fields.put("TARGET", &metadata.target());
        event.record(&mut fields);
        fields.written
    }
}

struct Fields<'a> {
    writer: Writer<'a>,
    written: fmt::Result,
}

impl Fields<'_> {
    /// A value of several lines would be other fields.
    fn put(&mut self, name: &str, value: &dyn fmt::Display) {
        let value = one_line(&value.to_string());
        self.written = self.written.and_then(|()| writeln!(self.writer, "{name}={value}"));
    }
}

impl Visit for Fields<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => self.put("MESSAGE", &value),
            // The journal leaves out what it would not allow as a name; nobody else's begin like this.
            name => self.put(&format!("PLUGSOCK_{}", name.replace('.', "_").to_ascii_uppercase()), &value),
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.record_str(field, &format!("{value:?}"));
    }
}
