//! A figure: ours against a peer, round by round.

use std::collections::HashMap;
use std::fmt;

use serde::Serialize;

use crate::plan::Scale;
use crate::trial::{Failure, Sample, Trial};

/// Two trials whose ratio says something.
pub struct Figure {
    pub name: String,
    ours: Trial,
    peer: Trial,
    target: Option<f64>,
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
    target: Option<f64>,
    #[serde(flatten)]
    outcome: Outcome,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Outcome {
    Compared(Comparison),
    Skipped { skipped: String },
}

#[derive(Debug, Serialize)]
struct Comparison {
    ratio: f64,
    spread: f64,
    unit: &'static str,
    ours: f64,
    peer: f64,
    rounds: Vec<(Sample, Sample)>,
}

impl Figure {
    pub fn new(name: String, ours: Trial, peer: Trial) -> Self {
        Self { name, ours, peer, target: None }
    }

    /// The ratio to reach.
    pub fn target(self, ratio: f64) -> Self {
        Self { target: Some(ratio), ..self }
    }
}

/// Runs a group's rounds.
pub fn compare(group: &Group, scale: &Scale) -> anyhow::Result<Vec<Finding>> {
    let mut samples: HashMap<Trial, Vec<Sample>> = HashMap::new();
    let mut skipped: HashMap<Trial, String> = HashMap::new();
    for round in 0..group.rounds {
        for trial in group.figures.iter().flat_map(|figure| [figure.ours, figure.peer]) {
            let of_trial = samples.entry(trial).or_default();
            if of_trial.len() > round || skipped.contains_key(&trial) {
                continue;
            }
            match trial.measure(scale) {
                Ok(sample) => of_trial.push(sample),
                Err(Failure::Unavailable(reason)) => drop(skipped.insert(trial, reason)),
                Err(Failure::Broken(error)) => return Err(error.context(format!("{trial:?}"))),
            }
        }
    }
    let finding = |figure: &Figure| {
        let outcome = match skipped.get(&figure.ours).or_else(|| skipped.get(&figure.peer)) {
            Some(reason) => Outcome::Skipped { skipped: reason.clone() },
            None => {
                Outcome::Compared(Comparison::new(figure, &samples[&figure.ours], &samples[&figure.peer]))
            }
        };
        Finding { name: figure.name.clone(), target: figure.target, outcome }
    };
    Ok(group.figures.iter().map(finding).collect())
}

impl Comparison {
    fn new(figure: &Figure, ours: &[Sample], peer: &[Sample]) -> Self {
        let unit = figure.ours.unit();
        let rounds: Vec<_> = ours.iter().cloned().zip(peer.iter().cloned()).collect();
        let mut ratios: Vec<f64> = rounds
            .iter()
            .map(|(ours, peer)| match unit.more_is_better {
                true => ours.value / peer.value,
                false => peer.value / ours.value,
            })
            .collect();
        let ratio = median(&mut ratios);
        let spread = (ratios[ratios.len() - 1] - ratios[0]) / ratio;
        let value =
            |samples: &[Sample]| median(&mut samples.iter().map(|sample| sample.value).collect::<Vec<_>>());
        Self { ratio, spread, unit: unit.name, ours: value(ours), peer: value(peer), rounds }
    }
}

/// Sorts them, too.
fn median(values: &mut [f64]) -> f64 {
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
            Outcome::Compared(Comparison { ratio, spread, unit, ours, peer, .. }) => {
                write!(
                    f,
                    "ratio={ratio:.2} ours={}{unit} peer={}{unit} spread={spread:.2}",
                    Short(*ours),
                    Short(*peer)
                )?;
                match self.target {
                    Some(target) if *ratio < target => write!(f, " target={target} missed"),
                    Some(target) => write!(f, " target={target} met"),
                    None => Ok(()),
                }
            }
        }
    }
}

/// A number with three or more digits that count.
struct Short(f64);

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
