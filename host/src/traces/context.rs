//! A span as others refer to it: the headers `traceparent` and `tracestate` (W3C Trace Context).

use http::header::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry::trace::{SpanContext, SpanId, TraceFlags, TraceId, TraceState};
use serde::{Deserialize, Serialize};

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// How long a `traceparent` of version 00 is; later versions may go on after that.
const TRACEPARENT_LENGTH: usize = 55;

/// As much of a `tracestate` as everybody has to carry on. One that is longer is not carried on.
const TRACESTATE_MAX: usize = 512;

const SAMPLED: u8 = 1;

/// A span, and whether its trace is sampled.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TraceContext {
    pub(crate) trace: u128,
    pub(crate) span: u64,
    pub(crate) is_sampled: bool,
    /// What other tracing systems have to say of it, well-formed.
    pub(super) state: String,
}

impl TraceContext {
    /// Whose span a request belongs to; `None` if nobody says, or not as it should be said.
    pub(crate) fn of(headers: &HeaderMap) -> Option<Self> {
        let mut parents = headers.get_all(TRACEPARENT).iter();
        let (Some(parent), None) = (parents.next(), parents.next()) else { return None };
        let context = Self::parse(parent.to_str().ok()?.trim())?;
        Some(Self { state: state_of(headers).unwrap_or_default(), ..context })
    }

    fn parse(text: &str) -> Option<Self> {
        let parts: Vec<&str> = text.splitn(5, '-').collect();
        let [version, trace, span, flags, rest @ ..] = &parts[..] else { return None };
        let is_known = *version == "00";
        if !is_hex(version, 2) || *version == "ff" || (is_known && text.len() != TRACEPARENT_LENGTH) {
            return None;
        }
        if !is_hex(trace, 32) || !is_hex(span, 16) || !is_hex(flags, 2) || (is_known && !rest.is_empty()) {
            return None;
        }
        let trace = u128::from_str_radix(trace, 16).ok().filter(|trace| *trace != 0)?;
        let span = u64::from_str_radix(span, 16).ok().filter(|span| *span != 0)?;
        let flags = u8::from_str_radix(flags, 16).ok()?;
        Some(Self { trace, span, is_sampled: flags & SAMPLED != 0, state: String::new() })
    }

    /// Another span of the same trace.
    pub(crate) fn with_span(&self, span: u64) -> Self {
        Self { span, ..self.clone() }
    }

    /// Says in a request to whose span it belongs, in the place of what it said before.
    pub(crate) fn write(&self, headers: &mut HeaderMap) {
        let (trace, span, flags) = (self.trace_id(), self.span_id(), u8::from(self.is_sampled));
        let parent = HeaderValue::try_from(format!("00-{trace}-{span}-{flags:02x}"));
        headers.insert(TRACEPARENT, parent.expect("digits are a header's value"));
        match HeaderValue::try_from(&self.state) {
            Ok(state) if !state.is_empty() => drop(headers.insert(TRACESTATE, state)),
            _ => drop(headers.remove(TRACESTATE)),
        }
    }

    /// Says so where nobody has yet.
    pub(crate) fn write_unless_set(&self, headers: &mut HeaderMap) {
        if !headers.contains_key(TRACEPARENT) {
            self.write(headers);
        }
    }

    pub(crate) fn trace_id(&self) -> TraceId {
        TraceId::from(self.trace)
    }

    pub(crate) fn span_id(&self) -> SpanId {
        SpanId::from(self.span)
    }

    /// The same for OpenTelemetry.
    pub(crate) fn to_span_context(&self) -> SpanContext {
        let flags = TraceFlags::default().with_sampled(self.is_sampled);
        let state = self.state.parse().unwrap_or_default();
        SpanContext::new(self.trace_id(), self.span_id(), flags, false, state)
    }
}

fn is_hex(text: &str, length: usize) -> bool {
    text.len() == length && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// It may be in several headers, which are one list.
fn state_of(headers: &HeaderMap) -> Option<String> {
    let parts: Option<Vec<&str>> =
        headers.get_all(TRACESTATE).iter().map(|value| value.to_str().ok()).collect();
    let text = parts?.join(",");
    if text.len() > TRACESTATE_MAX {
        return None;
    }
    text.parse().ok().map(|state: TraceState| state.header())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn headers(fields: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(HeaderName::from_static(name), value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn what_is_written_is_read() {
        let asked =
            headers(&[("traceparent", PARENT), ("tracestate", "one=1,two=2"), ("tracestate", "three=3")]);
        let context = TraceContext::of(&asked).unwrap();
        assert_eq!((context.span, context.is_sampled), (0xb7ad_6b71_6920_3331, true));
        assert_eq!(context.state, "one=1,two=2,three=3");
        let mut written = headers(&[("tracestate", "other=0")]);
        context.write(&mut written);
        assert_eq!(written, headers(&[("traceparent", PARENT), ("tracestate", "one=1,two=2,three=3")]));
        TraceContext { state: String::new(), ..context }.write(&mut written);
        assert_eq!(written, headers(&[("traceparent", PARENT)]));
    }

    #[test]
    fn later_versions_may_say_more() {
        let later = |text: &str| TraceContext::of(&headers(&[("traceparent", text)]));
        let parent = PARENT.replacen("00", "cc", 1);
        assert!(later(&parent).is_some());
        assert!(later(&format!("{parent}-what-comes-after")).is_some());
        assert!(later(&format!("{parent}.")).is_none());
        // Flags that nobody knows say nothing.
        let flags = PARENT.replace("-01", "-f0");
        assert!(!later(&flags).unwrap().is_sampled);
    }

    #[test]
    fn what_is_malformed_counts_as_absent() {
        let zeros = "00-00000000000000000000000000000000-b7ad6b7169203331-01";
        let no_span = "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01";
        let cases = [
            "",
            "00",
            zeros,
            no_span,
            &PARENT.to_uppercase(),
            &PARENT.replacen("00", "ff", 1),
            &PARENT.replacen("00", "0", 1),
            &PARENT.replacen("00-0", "00-+", 1),
            &PARENT[..54],
            &format!("{PARENT}-"),
            &format!("{PARENT}-00"),
            &PARENT.replace('-', "_"),
        ];
        for case in cases {
            assert_eq!(TraceContext::of(&headers(&[("traceparent", case)])), None, "{case}");
        }
        assert_eq!(TraceContext::of(&headers(&[("traceparent", PARENT), ("traceparent", PARENT)])), None);
        // A state that is malformed or too long takes no parent away.
        let long = format!("key={}", "v".repeat(600));
        for state in ["no list", &long] {
            let context = TraceContext::of(&headers(&[("traceparent", PARENT), ("tracestate", state)]));
            assert_eq!(context.unwrap().state, "", "{state}");
        }
    }
}
