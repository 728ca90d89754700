//! What is counted of a program's servers, shown to others: to Prometheus and people at an address of its own
//! ([`MetricsSocket`]), and to a collector of OpenTelemetry's ([`OtlpExporter`]).
//!
//! ```text
//!                                       ┌─▶ prometheus ─▶ GET /metrics
//!  counters where requests are ─▶ list ─┤
//!  served, read when asked for          └─▶ otlp ───────▶ POST /v1/metrics
//! ```
//!
//! There is one list of metrics (`list.rs`), which both exporters write down. What it is read from is counted anyway, or as
//! [`ServerOptions::measure`](crate::ServerOptions::measure) says. Labels are bounded by what is configured and by the versions
//! that a slot remembers: none is a client's to choose.

mod family;
mod list;
mod negotiation;
mod otlp;
mod page;
mod process;
mod prometheus;
mod routes;
mod server;
mod socket;

use std::sync::Arc;
use std::time::{Instant, SystemTime};

pub use crate::otlp::OtlpError;
pub use otlp::{OtlpCollector, OtlpExporter};
pub use server::MetricsServer;
pub use socket::MetricsSocket;

use crate::control::{Controlled, Status};
use family::Family;

/// A program that is looked at.
#[derive(Clone)]
struct Observed {
    host: Arc<dyn Controlled>,
    since: Instant,
    started: SystemTime,
}

impl Observed {
    fn new(host: Arc<dyn Controlled>) -> Self {
        Self { host, since: Instant::now(), started: SystemTime::now() }
    }

    fn families(&self) -> Vec<Family> {
        list::families(&*self.host, self.started)
    }

    fn status(&self) -> Status {
        Status::of(&*self.host, self.since.elapsed())
    }
}

impl std::fmt::Debug for Observed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Observed").field("started", &self.started).finish_non_exhaustive()
    }
}
