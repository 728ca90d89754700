//! Which figures there are: the table of what is compared with what.

use std::time::Duration;

use crate::figure::{Figure, Group};
use crate::load::Work;
use crate::peers::Contender::{self, *};
use crate::state::Keeper;
use crate::transport::Transport::{self, *};
use crate::trial::{Quantile, Trial};

/// At how many, or at what size, each table of growth has its rows.
pub struct Points {
    pub rounds: usize,
    pub clients: &'static [usize],
    pub connections: &'static [usize],
    pub handlers: &'static [usize],
    pub swaps: &'static [usize],
    pub kilobytes: &'static [usize],
}

/// How long and how often is measured.
pub struct Scale {
    pub warm_up: Duration,
    pub window: Duration,
    rounds: usize,
    /// For trials that open thousands of connections.
    rounds_of_many: usize,
    pub growth: Points,
    /// How many clients connect at once.
    clients: &'static [usize],
    /// Process starts in one trial.
    pub starts: usize,
    /// Swaps in one trial.
    pub swaps: usize,
}

impl Scale {
    pub fn quick() -> Self {
        Self {
            warm_up: Duration::from_millis(50),
            window: Duration::from_millis(250),
            rounds: 3,
            rounds_of_many: 1,
            growth: Points {
                rounds: 1,
                clients: &[1, 16, 256],
                connections: &[100, 1000],
                handlers: &[1, 10, 50],
                swaps: &[1, 10, 50],
                kilobytes: &[20, 200, 2000],
            },
            clients: &[1, 16, 256],
            starts: 3,
            swaps: 5,
        }
    }

    pub fn full() -> Self {
        Self {
            warm_up: Duration::from_millis(250),
            window: Duration::from_millis(1000),
            rounds: 5,
            rounds_of_many: 5,
            growth: Points {
                rounds: 3,
                clients: &[1, 4, 16, 64, 256, 1024],
                connections: &[100, 1000, 10_000, 20_000, 50_000],
                handlers: &[1, 10, 100, 300, 1000],
                swaps: &[1, 10, 100, 300, 1000],
                kilobytes: &[20, 200, 2000, 6000, 20_000],
            },
            clients: &[1, 4, 16, 256],
            starts: 5,
            swaps: 20,
        }
    }
}

/// Clients at once, unless the figure is about their number: as many as `pool` has workers on two cores, since
/// a connection that stays open occupies one.
pub const CLIENTS: usize = 8;

/// Connections of a bulk transfer.
const STREAMS: usize = 4;

/// Open connections that are busy while others are idle.
pub const ACTIVE: usize = 10;

/// Handshakes that are under way at once while another connection waits for an answer.
const HANDSHAKES: usize = 256;

const OURS: [(Contender, Contender); 4] = [
    (Plugsock("sync"), NativeSync),
    (Plugsock("threading"), NativeThread),
    (Plugsock("pool"), NativeThread),
    (Plugsock("async"), NativeTokio),
];

pub fn groups(scale: &Scale) -> Vec<Group> {
    let mut groups = vec![
        Group { figures: connect(), rounds: scale.rounds },
        Group { figures: ping(), rounds: scale.rounds },
        Group { figures: bulk(), rounds: scale.rounds },
        Group { figures: datagram(), rounds: scale.rounds },
        Group { figures: instantiate(), rounds: scale.rounds },
        Group { figures: start(), rounds: scale.rounds },
        Group { figures: answer(), rounds: scale.rounds },
        Group { figures: swap(), rounds: scale.rounds },
    ];
    for clients in scale.clients {
        groups.push(Group { figures: connect_at_once(*clients), rounds: scale.rounds });
    }
    for connections in [100, 1000, 10_000] {
        groups.push(Group { figures: idle(connections), rounds: scale.rounds_of_many });
    }
    groups.push(Group { figures: latency(), rounds: scale.rounds_of_many });
    for figures in [
        tls_connect("tls-connect", Tls, 0.95),
        tls_connect("tls-resume", TlsResumed, 0.9),
        tls_ping(),
        tls_bulk(),
        tls_idle(1000),
        tls_wait(),
        http("http-ping", Work::Ping),
        http("http-connect", Work::Connect),
        http_idle(1000),
        http_swap(),
        state(),
    ] {
        groups.push(Group { figures, rounds: scale.rounds });
    }
    groups
}

fn connect() -> Vec<Figure> {
    let figure = |ours, peer| loaded("connect", Work::Connect, Tcp, CLIENTS, ours, peer);
    vec![
        figure(Plugsock("pool"), NativeThread).target(1.2),
        figure(Plugsock("pool"), NativeAccept).target(0.85),
        figure(Plugsock("threading"), NativeThread).target(1.15),
        figure(Plugsock("async"), NativeTokio).target(0.95),
        figure(Plugsock("sync"), NativeSync).target(0.95),
        figure(Plugsock("forking"), PythonForking).target(3.0),
        figure(Plugsock("forking"), NativeFork).target(0.6),
        figure(Plugsock("threading"), PythonThreading).target(8.0),
        figure(Plugsock("forking"), InetdWasmtime),
        figure(Plugsock("threading"), InetdWasmtime),
        figure(Plugsock("forking"), InetdCat),
        figure(PlugsockReuse("pool"), NativeThread),
        figure(Made("pool", "rust"), NativeThread),
        figure(Made("sync", "rust"), NativeSync),
    ]
}

/// The same with few and with many clients.
fn connect_at_once(clients: usize) -> Vec<Figure> {
    let figure =
        |(ours, peer)| loaded(&format!("connect-{clients}"), Work::Connect, Tcp, clients, ours, peer);
    let [pool, threading, with_tasks] = [OURS[2], OURS[1], OURS[3]].map(figure);
    vec![
        pool.target(match clients {
            1 => Some(1.0),
            4 => Some(1.2),
            16 => Some(1.6),
            256 => Some(1.8),
            _ => None,
        }),
        threading.target(match clients {
            1 => Some(1.0),
            4 => Some(1.15),
            256 => Some(1.6),
            _ => None,
        }),
        with_tasks.target(if clients > 16 { 0.9 } else { 0.95 }),
    ]
}

fn ping() -> Vec<Figure> {
    let figure = |ours, peer| loaded("ping", Work::Ping, Tcp, CLIENTS, ours, peer);
    vec![
        figure(Plugsock("pool"), NativeThread).target(0.95),
        figure(Plugsock("threading"), NativeThread).target(0.95),
        figure(Plugsock("async"), NativeTokio).target(0.9),
        loaded("ping", Work::Ping, Tcp, 1, Plugsock("sync"), NativeSync).target(0.95),
        figure(Plugsock("forking"), NativeFork).target(0.9),
        figure(Plugsock("threading"), PythonThreading),
    ]
}

fn bulk() -> Vec<Figure> {
    let figure = |(ours, peer)| {
        let streams = if ours == Plugsock("sync") { 1 } else { STREAMS };
        loaded("bulk", Work::Bulk, Tcp, streams, ours, peer).target(0.95)
    };
    OURS.into_iter().chain([(Plugsock("forking"), NativeFork)]).map(figure).collect()
}

fn datagram() -> Vec<Figure> {
    let figure = |ours, peer| loaded("datagram", Work::Ping, Udp, CLIENTS, ours, peer);
    vec![
        figure(Plugsock("sync"), NativeDatagram).target(0.35),
        figure(Plugsock("threading"), NativeDatagram).target(0.6),
        figure(Plugsock("pool"), NativeDatagram).target(0.8),
        figure(Plugsock("async"), NativeDatagram).target(0.35),
        figure(Plugsock("threading"), PythonDatagram),
        figure(Plugsock("forking"), PythonDatagram).target(1.0),
        figure(PlugsockReuse("sync"), NativeDatagram),
    ]
}

fn loaded(
    name: &str,
    work: Work,
    over: Transport,
    clients: usize,
    ours: Contender,
    peer: Contender,
) -> Figure {
    let trial = |contender| Trial::Load { work, over, clients, contender };
    Figure::new(format!("{name}/{ours}/{peer}"), trial(ours), trial(peer))
}

fn instantiate() -> Vec<Figure> {
    let figure = |name: &str, language| {
        let name = format!("instantiate/{name}/thread-spawn");
        Figure::new(name, Trial::Instantiate(language), Trial::SpawnThread)
    };
    vec![figure("library", None).at_most(4.0), figure("library-rust", Some("rust"))]
}

fn start() -> Vec<Figure> {
    let figure = |(ours, peer): (Contender, Contender)| {
        Figure::new(format!("start/{ours}/{peer}"), Trial::Start(ours), Trial::Start(peer)).at_most(3.0)
    };
    let with_python = [(Plugsock("threading"), PythonThreading)];
    OURS.into_iter().chain(with_python).map(figure).collect()
}

/// Not against a peer: handlers that carry an interpreter.
fn answer() -> Vec<Figure> {
    let figure = |language| {
        let ours = Made("threading", language);
        Figure::alone(format!("answer/{ours}"), Trial::Answer(ours))
    };
    vec![figure("rust"), figure("python").at_most(2.0), figure("js").at_most(1.0)]
}

/// Not against a peer: how long a swap takes, and what is served in the second of a swap against another second.
fn swap() -> Vec<Figure> {
    let time =
        |strategy| Figure::alone(format!("swap-time/{strategy}"), Trial::SwapTime(strategy)).at_most(20.0);
    let throughput = |strategy| swapped("swap-connect", Tcp, strategy);
    let strategies = ["threading", "pool", "async", "sync", "forking"];
    strategies.map(time).into_iter().chain(strategies.map(throughput)).collect()
}

fn swapped(name: &str, over: Transport, strategy: &'static str) -> Figure {
    let trial = |is_swapped| Trial::Swap { over, strategy, clients: CLIENTS, is_swapped };
    Figure::new(format!("{name}/{strategy}/unswapped"), trial(true), trial(false)).target(0.9)
}

fn held(name: &str, over: Transport, connections: usize, ours: Contender, peer: Contender) -> Figure {
    let trial = |contender| Trial::Idle { over, connections, contender };
    Figure::new(format!("{name}-{connections}/{ours}/{peer}"), trial(ours), trial(peer))
}

fn idle(connections: usize) -> Vec<Figure> {
    // Ten thousand threads are not what anybody would run.
    let pairs = if connections > 1000 { &OURS[3..] } else { &OURS[1..] };
    // A pool holds no more connections than it has workers.
    let pairs = pairs.iter().filter(|(ours, _)| *ours != Plugsock("pool"));
    let figure = |&(ours, peer)| {
        let kibibytes = if ours == Plugsock("async") { 24.0 } else { 40.0 };
        held("idle", Tcp, connections, ours, peer).at_most(kibibytes)
    };
    pairs.map(figure).collect()
}

/// Not against a peer: how much slower active connections are among 10,000 idle ones than among 100.
fn latency() -> Vec<Figure> {
    let figure = |contender| {
        [("latency-p50", Quantile::Median), ("latency-p99", Quantile::P99)].map(|(name, quantile)| {
            let trial = |idle| Trial::Latency { idle, quantile, contender };
            Figure::new(format!("{name}/{contender}-10000-idle/100-idle"), trial(10_000), trial(100))
        })
    };
    let ours = figure(Plugsock("async")).map(|figure| figure.target(0.5));
    ours.into_iter().chain(figure(NativeTokio)).collect()
}

const OVER_TLS: [(Contender, Contender); 5] =
    [OURS[0], OURS[1], OURS[2], OURS[3], (Plugsock("forking"), NativeFork)];

fn tls_connect(name: &str, over: Transport, target: f64) -> Vec<Figure> {
    let figure = |(ours, peer)| loaded(name, Work::Connect, over, CLIENTS, ours, peer).target(target);
    OVER_TLS.into_iter().chain([(Plugsock("forking"), NativeThread)]).map(figure).collect()
}

fn tls_ping() -> Vec<Figure> {
    let figure = |(ours, peer)| {
        let clients = if ours == Plugsock("sync") { 1 } else { CLIENTS };
        loaded("tls-ping", Work::Ping, Tls, clients, ours, peer).target(0.95)
    };
    OVER_TLS.map(figure).into()
}

fn tls_bulk() -> Vec<Figure> {
    let figure = |(ours, peer)| {
        let streams = if ours == Plugsock("sync") { 1 } else { STREAMS };
        loaded("tls-bulk", Work::Bulk, Tls, streams, ours, peer).target(0.95)
    };
    OVER_TLS.map(figure).into()
}

fn tls_idle(connections: usize) -> Vec<Figure> {
    [OURS[1], OURS[3]].map(|(ours, peer)| held("tls-idle", Tls, connections, ours, peer)).into()
}

/// Whether a worker that computes for handshakes keeps others waiting.
fn tls_wait() -> Vec<Figure> {
    let (ours, peer) = OURS[3];
    let figure = |(name, quantile)| {
        let trial = |contender| Trial::Wait { handshakes: HANDSHAKES, quantile, contender };
        Figure::new(format!("{name}/{ours}/{peer}"), trial(ours), trial(peer))
    };
    [("tls-wait-p50", Quantile::Median), ("tls-wait-p99", Quantile::P99)].map(figure).into()
}

/// Requests of HTTP, on connections that are kept or with one for each.
fn http(name: &str, work: Work) -> Vec<Figure> {
    // One after the other is no match for those who serve several at once, nor is a process each.
    let targets = [("threading", true), ("pool", true), ("async", true), ("sync", false), ("forking", false)];
    // `sync` keeps no connection.
    let targets = targets.into_iter().filter(|(strategy, _)| work == Work::Connect || *strategy != "sync");
    let figure = |(strategy, has_target): (&'static str, bool)| {
        let against = |peer, least| {
            let figure = loaded(name, work, Http, CLIENTS, Plugsock(strategy), peer);
            figure.target(has_target.then_some(least))
        };
        [against(NativeHyper, 0.5), against(WasmtimeServe, 1.3)]
    };
    targets.flat_map(figure).collect()
}

/// What a connection holds between two requests.
fn http_idle(connections: usize) -> Vec<Figure> {
    let against =
        |peer| ["threading", "async"].map(|ours| held("http-idle", Http, connections, Plugsock(ours), peer));
    [NativeHyper, WasmtimeServe].into_iter().flat_map(against).collect()
}

fn http_swap() -> Vec<Figure> {
    ["threading", "pool", "async", "forking"].map(|strategy| swapped("http-swap", Http, strategy)).into()
}

/// What is left of a database's pace by way of a handler.
fn state() -> Vec<Figure> {
    let against = |strategy, peer, group| {
        let name = format!("state-increment/{strategy}/{peer}");
        Figure::new(name, Trial::State(Keeper::Plugsock(strategy)), Trial::State(Keeper::Rusqlite(group)))
    };
    let figure = |strategy| against(strategy, "rusqlite", 1);
    let of_threads = ["threading", "pool", "async"].map(|strategy| figure(strategy).target(0.8));
    // As many as there can be in one transaction of the store's, where each client waits for its answer.
    let grouped = against("threading", "rusqlite-grouped", crate::state::CLIENTS);
    of_threads.into_iter().chain([figure("forking"), grouped]).collect()
}
