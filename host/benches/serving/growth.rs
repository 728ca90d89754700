//! How cost grows with the number or the size of something: a table for each, and where its lines bend.

mod handlers;
mod servers;
mod size;

use std::collections::BTreeSet;
use std::fmt;

use serde::Serialize;

use crate::figure::{Short, median};
use crate::plan::Scale;
use crate::trial::Failure;

/// What is measured while there is more and more of something.
pub struct Growth {
    pub name: &'static str,
    /// Of what there is more.
    of: &'static str,
    columns: Vec<Column>,
    points: &'static [usize],
    measure: fn(&[usize], &Scale) -> Vec<Row>,
}

/// What is measured at each point.
struct Column {
    name: String,
    cost: Cost,
}

/// What a value says about the cost of one.
#[derive(Clone, Copy)]
enum Cost {
    /// It is the cost of one, or should not grow at all.
    Itself,
    /// It is so many a second.
    Rate,
    /// It is the cost of all.
    Total,
}

/// A value for each column.
type Row = Vec<Result<f64, Failure>>;

/// The values of one measurement, or the same failure for each column.
fn row<const COLUMNS: usize>(values: Result<[f64; COLUMNS], Failure>) -> Row {
    match values {
        Ok(values) => values.map(Ok).into(),
        Err(failure) => vec![Err(failure); COLUMNS],
    }
}

/// What came of it.
#[derive(Debug, Serialize)]
pub struct Table {
    name: &'static str,
    of: &'static str,
    columns: Vec<String>,
    rows: Vec<(usize, Vec<Option<f64>>)>,
    bends: Vec<Option<usize>>,
    /// Why values are missing.
    unavailable: BTreeSet<String>,
    pub failed: BTreeSet<String>,
}

pub fn all(scale: &Scale) -> Vec<Growth> {
    let points = &scale.growth;
    vec![
        servers::clients(points.clients),
        servers::idle(points.connections),
        handlers::loaded(points.handlers),
        handlers::swapped(points.swaps),
        size::growth(points.kilobytes),
    ]
}

impl Growth {
    pub fn measure(&self, scale: &Scale) -> Table {
        let (mut unavailable, mut failed) = (BTreeSet::new(), BTreeSet::new());
        let mut value = |value| match value {
            Ok(value) => Some(value),
            Err(Failure::Unavailable(reason)) => {
                unavailable.insert(reason);
                None
            }
            Err(Failure::Broken(error)) => {
                failed.insert(format!("{error:#}"));
                None
            }
        };
        let rounds: Vec<Vec<Vec<Option<f64>>>> = (0..scale.growth.rounds)
            .map(|_| (self.measure)(self.points, scale))
            .map(|rows| rows.into_iter().map(|row| row.into_iter().map(&mut value).collect()).collect())
            .collect();
        let values_at = |row: usize| {
            let of_column = |column: usize| -> Option<f64> {
                let mut values: Vec<f64> =
                    rounds.iter().map(|rows| rows[row][column]).collect::<Option<_>>()?;
                Some(median(&mut values))
            };
            (0..self.columns.len()).map(of_column).collect()
        };
        let rows: Vec<(usize, Vec<Option<f64>>)> =
            self.points.iter().enumerate().map(|(row, point)| (*point, values_at(row))).collect();
        let bend =
            |(number, column): (usize, &Column)| {
                bend(rows.iter().filter_map(|(point, values)| {
                    Some((*point, column.cost.of_one(*point, values[number]?)))
                }))
            };
        let bends = self.columns.iter().enumerate().map(bend).collect();
        let columns = self.columns.iter().map(|column| column.name.clone()).collect();
        Table { name: self.name, of: self.of, columns, rows, bends, unavailable, failed }
    }
}

impl Column {
    fn new(name: impl Into<String>, cost: Cost) -> Self {
        Self { name: name.into(), cost }
    }
}

impl Cost {
    fn of_one(self, point: usize, value: f64) -> f64 {
        match self {
            Self::Itself => value,
            Self::Rate => 1.0 / value,
            Self::Total => value / point as f64,
        }
    }
}

/// The first point at which one costs clearly more than it has before.
fn bend(costs: impl Iterator<Item = (usize, f64)>) -> Option<usize> {
    let mut best = f64::INFINITY;
    // What drowns in noise may even be below nothing.
    for (point, cost) in costs.filter(|(_, cost)| *cost > 0.0) {
        if cost > 1.5 * best {
            return Some(point);
        }
        best = best.min(cost);
    }
    None
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, of, columns, rows, bends, unavailable, failed } = self;
        writeln!(f, "{name}\n")?;
        writeln!(f, "| {of} | {} |", columns.join(" | "))?;
        writeln!(f, "|{}", "---|".repeat(columns.len() + 1))?;
        for (point, values) in rows {
            write!(f, "| {point} |")?;
            for value in values {
                match value {
                    Some(value) => write!(f, " {} |", Short(*value))?,
                    None => write!(f, " – |")?,
                }
            }
            writeln!(f)?;
        }
        write!(f, "| *bends at* |")?;
        for bend in bends {
            write!(f, " {} |", bend.map_or("–".to_owned(), |point| point.to_string()))?;
        }
        writeln!(f)?;
        for reason in unavailable {
            writeln!(f, "\n– {reason}")?;
        }
        for error in failed {
            writeln!(f, "\nFAILED: {error}")?;
        }
        Ok(())
    }
}
