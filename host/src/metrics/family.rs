//! A metric with its values, whoever they are written for.

use crate::histogram::Histogram;

/// All values of one metric.
#[derive(Debug)]
pub(super) struct Family {
    /// Without what its unit and its kind add to it.
    pub(super) name: &'static str,
    pub(super) help: &'static str,
    pub(super) unit: Unit,
    pub(super) kind: Kind,
    pub(super) samples: Vec<Sample>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    None,
    Seconds,
    Bytes,
    /// A share, from 0 to 1.
    Ratio,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// It never gets less.
    Counter,
    Gauge,
    Histogram,
}

#[derive(Debug)]
pub(super) struct Sample {
    pub(super) labels: Labels,
    pub(super) value: Value,
}

pub(super) type Labels = Vec<(&'static str, String)>;

#[derive(Debug)]
pub(super) enum Value {
    Count(u64),
    Number(f64),
    Times(Box<Histogram>),
}

impl From<u64> for Value {
    fn from(count: u64) -> Self {
        Self::Count(count)
    }
}

impl From<usize> for Value {
    fn from(count: usize) -> Self {
        Self::Count(count as u64)
    }
}

impl From<f64> for Value {
    fn from(number: f64) -> Self {
        Self::Number(number)
    }
}

impl From<Histogram> for Value {
    fn from(times: Histogram) -> Self {
        Self::Times(Box::new(times))
    }
}

impl Family {
    pub(super) fn counter(name: &'static str, help: &'static str) -> Self {
        Self::new(name, help, Unit::None, Kind::Counter)
    }

    pub(super) fn gauge(name: &'static str, help: &'static str) -> Self {
        Self::new(name, help, Unit::None, Kind::Gauge)
    }

    /// How long something took.
    pub(super) fn times(name: &'static str, help: &'static str) -> Self {
        Self::new(name, help, Unit::Seconds, Kind::Histogram)
    }

    fn new(name: &'static str, help: &'static str, unit: Unit, kind: Kind) -> Self {
        Self { name, help, unit, kind, samples: Vec::new() }
    }

    pub(super) fn in_unit(self, unit: Unit) -> Self {
        Self { unit, ..self }
    }

    pub(super) fn with<V: Into<Value>>(mut self, samples: impl IntoIterator<Item = (Labels, V)>) -> Self {
        let samples = samples.into_iter().map(|(labels, value)| Sample { labels, value: value.into() });
        self.samples.extend(samples);
        self
    }
}

/// With one label more.
pub(super) fn labelled(
    labels: &[(&'static str, String)],
    name: &'static str,
    value: impl Into<String>,
) -> Labels {
    labels.iter().cloned().chain([(name, value.into())]).collect()
}
