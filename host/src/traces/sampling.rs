//! Which requests are looked at.

use opentelemetry::trace::SpanKind;
use opentelemetry_sdk::trace::{IdGenerator, RandomIdGenerator, Sampler, SamplingDecision, ShouldSample};
use serde::{Deserialize, Serialize};

use super::{TraceContext, new_span};
use crate::otlp::{OtlpError, Signal, variable};

const SAMPLER: &str = "OTEL_TRACES_SAMPLER";
const SAMPLER_ARG: &str = "OTEL_TRACES_SAMPLER_ARG";

const SAMPLERS: [&str; 6] = [
    "always_on",
    "always_off",
    "traceidratio",
    "parentbased_always_on",
    "parentbased_always_off",
    "parentbased_traceidratio",
];

/// Of which requests spans are made.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sampling {
    /// Those whose client says that its own span is sampled are, and those whose client says that it is not are not.
    follows_parent: bool,
    /// From 0 to 1: so many of the others.
    share: f64,
}

/// Its share is a number.
impl Eq for Sampling {}

impl Sampling {
    /// As `OTEL_TRACES_SAMPLER` and `OTEL_TRACES_SAMPLER_ARG` say: by default all, unless their client says otherwise.
    pub(super) fn from_environment() -> Result<Self, OtlpError> {
        let sampler = variable(SAMPLER).filter(|sampler| !sampler.is_empty());
        let sampler = sampler.as_deref().unwrap_or("parentbased_always_on");
        let (follows_parent, of_others) = match sampler.strip_prefix("parentbased_") {
            Some(of_others) => (true, of_others),
            None => (false, sampler),
        };
        let share = match of_others {
            "always_on" => 1.0,
            "always_off" => 0.0,
            "traceidratio" => {
                let is_share = |share: &f64| (0.0..=1.0).contains(share);
                Signal::Traces.parsed(SAMPLER_ARG, "a number from 0 to 1", is_share)?.unwrap_or(1.0)
            }
            _ => {
                let known = SAMPLERS.join(", ");
                let reason = format!("{SAMPLER} is '{sampler}', and must be one of {known}");
                return Err(Signal::Traces.error(reason));
            }
        };
        Ok(Self { follows_parent, share })
    }

    /// The span of a request that begins now.
    pub(super) fn begin(&self, parent: Option<&TraceContext>) -> TraceContext {
        let new_trace = || u128::from_be_bytes(RandomIdGenerator::default().new_trace_id().to_bytes());
        let (trace, state) = match parent {
            Some(parent) => (parent.trace, parent.state.clone()),
            None => (new_trace(), String::new()),
        };
        let mut context = TraceContext { trace, span: new_span(), is_sampled: false, state };
        context.is_sampled = match parent.filter(|_| self.follows_parent) {
            Some(parent) => parent.is_sampled,
            None => self.has(&context),
        };
        context
    }

    /// Whether its share has this trace, as everybody else who samples by the trace's number decides.
    fn has(&self, context: &TraceContext) -> bool {
        let sampler = Sampler::TraceIdRatioBased(self.share);
        let sampled = sampler.should_sample(None, context.trace_id(), "", &SpanKind::Server, &[], &[]);
        sampled.decision == SamplingDecision::RecordAndSample
    }
}
