//! The metrics as messages of OTLP.

use std::time::SystemTime;

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value as Number;
use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality, Gauge, Histogram, HistogramDataPoint, Metric, NumberDataPoint, ResourceMetrics,
    ScopeMetrics, Sum,
};
use opentelemetry_sdk::Resource;

use super::super::family::{Family, Kind, Labels, Sample, Unit, Value};

pub(super) fn request(
    families: Vec<Family>,
    resource: &Resource,
    started: SystemTime,
) -> ExportMetricsServiceRequest {
    let span = Span { started: nanos(started), now: nanos(SystemTime::now()) };
    let scope = InstrumentationScope {
        name: "plugsock".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..InstrumentationScope::default()
    };
    let metrics = families.into_iter().map(|family| span.metric(family)).collect();
    let scope_metrics = vec![ScopeMetrics { scope: Some(scope), metrics, ..ScopeMetrics::default() }];
    let resource = Some(resource.into());
    let resource_metrics = vec![ResourceMetrics { resource, scope_metrics, ..ResourceMetrics::default() }];
    ExportMetricsServiceRequest { resource_metrics }
}

fn nanos(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_nanos() as u64
}

/// What all of one message was counted in.
#[derive(Clone, Copy)]
struct Span {
    started: u64,
    now: u64,
}

impl Span {
    fn metric(self, family: Family) -> Metric {
        let Family { name, help, unit, kind, samples } = family;
        let aggregation_temporality = AggregationTemporality::Cumulative.into();
        let data = match kind {
            Kind::Counter => {
                let data_points = samples.into_iter().filter_map(|sample| self.number(sample)).collect();
                Data::Sum(Sum { data_points, aggregation_temporality, is_monotonic: true })
            }
            Kind::Gauge => {
                let data_points = samples.into_iter().filter_map(|sample| self.number(sample)).collect();
                Data::Gauge(Gauge { data_points })
            }
            Kind::Histogram => {
                let data_points = samples.into_iter().filter_map(|sample| self.times(sample)).collect();
                Data::Histogram(Histogram { data_points, aggregation_temporality })
            }
        };
        let unit = match unit {
            Unit::None => "",
            Unit::Seconds => "s",
            Unit::Bytes => "By",
            Unit::Ratio => "1",
        };
        Metric {
            name: name.to_owned(),
            description: help.to_owned(),
            unit: unit.to_owned(),
            data: Some(data),
            ..Metric::default()
        }
    }

    fn number(self, sample: Sample) -> Option<NumberDataPoint> {
        let value = match sample.value {
            Value::Count(count) => Number::AsInt(i64::try_from(count).unwrap_or(i64::MAX)),
            Value::Number(number) => Number::AsDouble(number),
            Value::Times(_) => return None,
        };
        Some(NumberDataPoint {
            attributes: attributes(sample.labels),
            start_time_unix_nano: self.started,
            time_unix_nano: self.now,
            value: Some(value),
            ..NumberDataPoint::default()
        })
    }

    fn times(self, sample: Sample) -> Option<HistogramDataPoint> {
        let Value::Times(times) = sample.value else { return None };
        Some(HistogramDataPoint {
            attributes: attributes(sample.labels),
            start_time_unix_nano: self.started,
            time_unix_nano: self.now,
            count: times.count(),
            sum: Some(times.sum()),
            bucket_counts: times.buckets().map(|(_, count)| count).collect(),
            // The last bucket has none.
            explicit_bounds: times
                .buckets()
                .map(|(bound, _)| bound)
                .filter(|bound| bound.is_finite())
                .collect(),
            ..HistogramDataPoint::default()
        })
    }
}

fn attributes(labels: Labels) -> Vec<KeyValue> {
    let attribute = |(key, value): (&str, String)| KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue { value: Some(Any::StringValue(value)) }),
        ..KeyValue::default()
    };
    labels.into_iter().map(attribute).collect()
}
