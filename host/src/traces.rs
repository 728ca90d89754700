//! What single requests did, as spans for a collector of OpenTelemetry's.
//!
//! ```text
//!  traceparent ─▶ sampling ─▶ Trace, in the request's watch ─▶ Recorded ─▶ job/spans ─▶ queue ─▶ POST /v1/traces
//!                             phases, waits, its answer        at its end
//! ```
//!
//! Whether a request is sampled is settled when it begins; what its spans are made of is kept beside what is measured of it,
//! and its spans are made when it ends, all at once, by `job/spans.rs`. What serves it in another process hands over what it
//! has recorded as it does with what it has measured.

mod context;
mod queue;
mod record;
mod sampling;

pub(crate) use context::TraceContext;
pub use queue::Traces;
pub(crate) use record::{Call, Came, Exchange, Moment, Recorded, Trace, WAIT_MIN, Wait, Waiting};
pub use sampling::Sampling;

use opentelemetry::trace::SpanId;
use opentelemetry_sdk::trace::{IdGenerator, RandomIdGenerator};

/// A forked child seeds its own numbers with the first that it makes, since its fork server makes none.
pub(crate) fn new_span() -> u64 {
    number(RandomIdGenerator::default().new_span_id())
}

fn number(span: SpanId) -> u64 {
    u64::from_be_bytes(span.to_bytes())
}
