//! The metrics as Prometheus reads them: OpenMetrics, or its own older text.

use std::fmt;
use std::sync::Mutex;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, prometheus_text, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit as PrometheusUnit};

use super::family::{Family, Kind, Labels, Unit, Value};
use super::negotiation::Format;

/// All of them, as text.
pub(super) fn encode(families: Vec<Family>, format: Format) -> String {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Families(Mutex::new(families))));
    let mut text = String::new();
    let encoded = match format {
        Format::OpenMetrics => text::encode(&mut text, &registry),
        Format::Text => prometheus_text::encode(&mut text, &registry),
    };
    // Into memory nothing fails to be written.
    encoded.expect("a string takes all");
    text
}

/// Locked only since a collector may be asked by several, as this one never is.
#[derive(Debug)]
struct Families(Mutex<Vec<Family>>);

impl Collector for Families {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let families = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        families.iter().try_for_each(|family| {
            let kind = match family.kind {
                Kind::Counter => MetricType::Counter,
                Kind::Gauge => MetricType::Gauge,
                Kind::Histogram => MetricType::Histogram,
            };
            let unit = match family.unit {
                Unit::None => None,
                Unit::Seconds => Some(PrometheusUnit::Seconds),
                Unit::Bytes => Some(PrometheusUnit::Bytes),
                Unit::Ratio => Some(PrometheusUnit::Other("ratio".to_owned())),
            };
            let mut metric = encoder.encode_descriptor(family.name, family.help, unit.as_ref(), kind)?;
            family.samples.iter().try_for_each(|sample| {
                write(metric.encode_family(&sample.labels)?, family.kind, &sample.value)
            })
        })
    }
}

fn write(mut metric: MetricEncoder<'_>, kind: Kind, value: &Value) -> fmt::Result {
    match (kind, value) {
        (Kind::Counter, Value::Count(count)) => metric.encode_counter::<Labels, _, u64>(count, None),
        (Kind::Counter, Value::Number(number)) => metric.encode_counter::<Labels, _, f64>(number, None),
        (_, Value::Count(count)) => metric.encode_gauge(count),
        (_, Value::Number(number)) => metric.encode_gauge(number),
        (_, Value::Times(times)) => {
            let buckets: Vec<_> = times.buckets().collect();
            metric.encode_histogram::<Labels>(times.sum(), times.count(), &buckets, None)
        }
    }
}
