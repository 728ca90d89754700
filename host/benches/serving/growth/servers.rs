//! More clients, and more open connections: ours beside their peers.

use super::{Column, Cost, Growth, Row};
use crate::load::Work;
use crate::peers::Contender::{self, *};
use crate::plan::Scale;
use crate::transport::Transport;
use crate::trial::{Failure, Trial};

const BUSY: [Contender; 6] =
    [Plugsock("pool"), Plugsock("threading"), Plugsock("async"), NativeThread, NativeAccept, NativeTokio];

const IDLE: [Contender; 4] = [Plugsock("async"), NativeTokio, Plugsock("threading"), NativeThread];

/// More threads than these are not what anybody would run.
const THREADS_MAX: usize = 1000;

/// Connections a second.
pub fn clients(points: &'static [usize]) -> Growth {
    let column = |contender: &Contender| Column::new(format!("{contender}, /s"), Cost::Rate);
    let measure = |points: &[usize], scale: &Scale| {
        let row = |clients: &usize| -> Row {
            let trial = |contender| {
                let (work, over) = (Work::Connect, Transport::Tcp);
                Trial::Load { work, over, clients: *clients, contender }
            };
            BUSY.iter().map(|contender| value(trial(*contender), scale)).collect()
        };
        points.iter().map(row).collect()
    };
    Growth {
        name: "growth/clients",
        of: "clients",
        columns: BUSY.iter().map(column).collect(),
        points,
        measure,
    }
}

/// Memory of a connection on which nothing happens.
pub fn idle(points: &'static [usize]) -> Growth {
    let column = |contender: &Contender| Column::new(format!("{contender}, KiB each"), Cost::Itself);
    let measure = |points: &[usize], scale: &Scale| {
        let row = |connections: &usize| -> Row {
            let value = |contender: &Contender| match contender {
                Plugsock("threading") | NativeThread if *connections > THREADS_MAX => {
                    Err(Failure::Unavailable(format!("nobody would run more than {THREADS_MAX} threads")))
                }
                &contender => {
                    let (over, connections) = (Transport::Tcp, *connections);
                    value(Trial::Idle { over, connections, contender }, scale)
                }
            };
            IDLE.iter().map(value).collect()
        };
        points.iter().map(row).collect()
    };
    let columns = IDLE.iter().map(column).collect();
    Growth { name: "growth/idle", of: "open connections", columns, points, measure }
}

fn value(trial: Trial, scale: &Scale) -> Result<f64, Failure> {
    trial.measure(scale).map(|sample| sample.value)
}
