//! A figure: ours against a peer, round by round, and what it is to reach.

use std::collections::HashMap;
use std::fmt;

use serde::Serialize;

use crate::plan::Scale;
use crate::trial::{Failure, Sample, Trial};

/// A trial, and mostly another one whose ratio to it says something.
pub struct Figure {
    pub name: String,
    ours: Trial,
    peer: Option<Trial>,
    target: Option<Target>,
}

/// What to reach in the median of the rounds.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Target {
    /// A ratio to the peer, at least.
    Ratio(f64),
    /// A value of ours, at most.
    Value(f64),
}

/// Figures whose trials run in the same rounds.
pub struct Group {
    pub figures: Vec<Figure>,
    pub rounds: usize,
}

/// What came of a figure.
#[derive(Debug, Serialize)]
pub struct Finding {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<Target>,
    #[serde(flatten)]
    outcome: Outcome,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Outcome {
    Compared(Comparison),
    Skipped { skipped: String },
    Failed { failed: String },
}

#[derive(Debug, Serialize)]
struct Comparison {
    #[serde(skip_serializing_if = "Option::is_none")]
    ratio: Option<Spread>,
    unit: &'static str,
    ours: Spread,
    #[serde(skip_serializing_if = "Option::is_none")]
    peer: Option<Spread>,
    rounds: Vec<(Sample, Option<Sample>)>,
}

/// What the rounds came to.
#[derive(Clone, Copy, Debug, Serialize)]
struct Spread {
    median: f64,
    least: f64,
    most: f64,
}

impl Figure {
    pub fn new(name: String, ours: Trial, peer: Trial) -> Self {
        Self { name, ours, peer: Some(peer), target: None }
    }

    /// Without a peer.
    pub fn alone(name: String, ours: Trial) -> Self {
        Self { name, ours, peer: None, target: None }
    }

    /// The ratio to reach.
    pub fn target(self, ratio: impl Into<Option<f64>>) -> Self {
        Self { target: ratio.into().map(Target::Ratio), ..self }
    }

    /// The value not to exceed.
    pub fn at_most(self, value: f64) -> Self {
        Self { target: Some(Target::Value(value)), ..self }
    }

    fn trials(&self) -> impl Iterator<Item = Trial> + use<> {
        [Some(self.ours), self.peer].into_iter().flatten()
    }
}

/// Runs a group's rounds. A trial that fails is not tried again.
pub fn compare(group: &Group, scale: &Scale) -> Vec<Finding> {
    let mut samples: HashMap<Trial, Vec<Sample>> = HashMap::new();
    let mut failures: HashMap<Trial, Failure> = HashMap::new();
    for round in 0..group.rounds {
        for trial in group.figures.iter().flat_map(Figure::trials) {
            let of_trial = samples.entry(trial).or_default();
            if of_trial.len() > round || failures.contains_key(&trial) {
                continue;
            }
            match trial.measure(scale) {
                Ok(sample) => of_trial.push(sample),
                Err(failure) => drop(failures.insert(trial, failure)),
            }
        }
    }
    let finding = |figure: &Figure| {
        let outcome = match figure.trials().find_map(|trial| failures.get(&trial)) {
            Some(Failure::Unavailable(reason)) => Outcome::Skipped { skipped: reason.clone() },
            Some(Failure::Broken(error)) => Outcome::Failed { failed: format!("{error:#}") },
            None => {
                let peer = figure.peer.map(|peer| &samples[&peer][..]);
                Outcome::Compared(Comparison::new(figure, &samples[&figure.ours], peer))
            }
        };
        Finding { name: figure.name.clone(), target: figure.target, outcome }
    };
    group.figures.iter().map(finding).collect()
}

impl Finding {
    pub fn is_failure(&self) -> bool {
        matches!(self.outcome, Outcome::Failed { .. })
    }

    /// Its row in a table of markdown.
    pub fn row(&self) -> String {
        let name = &self.name;
        match &self.outcome {
            Outcome::Skipped { skipped } => format!("| {name} | skipped: {skipped} | | | |"),
            Outcome::Failed { failed } => format!("| {name} | FAILED: {failed} | | | |"),
            Outcome::Compared(Comparison { ours, peer, ratio, unit, .. }) => {
                let peer = peer.map_or_else(String::new, |peer| format!("{peer} {unit}"));
                let ratio = ratio.map_or_else(String::new, |ratio| ratio.to_string());
                format!("| {name} | {ours} {unit} | {peer} | {ratio} | {} |", self.judgement())
            }
        }
    }

    /// The target, and whether it was reached.
    fn judgement(&self) -> String {
        let Outcome::Compared(Comparison { ours, ratio, unit, .. }) = &self.outcome else {
            return String::new();
        };
        let (target, reached) = match (self.target, ratio) {
            (Some(Target::Ratio(target)), Some(ratio)) => (format!("≥ {target}"), ratio.median >= target),
            (Some(Target::Value(target)), _) => (format!("≤ {target} {unit}"), ours.median <= target),
            _ => return String::new(),
        };
        format!("{target} {}", if reached { "reached" } else { "missed" })
    }
}

/// What stands above [`Finding::row`].
pub const HEAD: &str = "| figure | ours | peer | ratio | target |\n|---|---|---|---|---|";

impl Comparison {
    fn new(figure: &Figure, ours: &[Sample], peer: Option<&[Sample]>) -> Self {
        let unit = figure.ours.unit();
        let rounds: Vec<_> = ours
            .iter()
            .enumerate()
            .map(|(round, ours)| (ours.clone(), peer.map(|peer| peer[round].clone())))
            .collect();
        let ratio = |(ours, peer): &(Sample, Option<Sample>)| {
            let (ours, peer) = (ours.value, peer.as_ref()?.value);
            Some(if unit.more_is_better { ours / peer } else { peer / ours })
        };
        Self {
            unit: unit.name,
            ours: Spread::of(ours.iter().map(|sample| sample.value)),
            peer: peer.map(|peer| Spread::of(peer.iter().map(|sample| sample.value))),
            ratio: peer.map(|_| Spread::of(rounds.iter().filter_map(ratio))),
            rounds,
        }
    }
}

impl Spread {
    fn of(values: impl Iterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.collect();
        let median = median(&mut values);
        Self { median, least: values[0], most: values[values.len() - 1] }
    }
}

/// Sorts them, too.
pub fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() % 2 {
        0 => (values[middle - 1] + values[middle]) / 2.0,
        _ => values[middle],
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:42} ", self.name)?;
        match &self.outcome {
            Outcome::Skipped { skipped } => write!(f, "skipped: {skipped}"),
            Outcome::Failed { failed } => write!(f, "FAILED: {failed}"),
            Outcome::Compared(Comparison { ratio, unit, ours, peer, .. }) => {
                if let Some(ratio) = ratio {
                    write!(f, "ratio={ratio} ")?;
                }
                write!(f, "ours={ours}{unit} ")?;
                if let Some(peer) = peer {
                    write!(f, "peer={peer}{unit} ")?;
                }
                f.write_str(&self.judgement())
            }
        }
    }
}

/// The median, and where the rounds lie.
impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}–{})", Short(self.median), Short(self.least), Short(self.most))
    }
}

/// A number with three or more digits that count.
pub struct Short(pub f64);

impl fmt::Display for Short {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(value) = self;
        let decimals = if *value >= 100.0 {
            0
        } else if *value >= 10.0 {
            1
        } else {
            2
        };
        write!(f, "{value:.decimals$}")
    }
}
