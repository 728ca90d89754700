//! What is counted of servers.

use std::sync::Arc;
use std::time::SystemTime;

use super::super::family::{Family, Labels, Unit, labelled};
use crate::server::Server;
use crate::taken::CLASSES;

/// A server, and what tells it from others.
struct Labelled {
    server: Arc<Server>,
    labels: Labels,
}

impl Labelled {
    fn of(server: &Arc<Server>) -> Self {
        let (address, slot) = (server.address().to_string(), server.handler().name().to_owned());
        Self { server: server.clone(), labels: vec![("address", address), ("slot", slot)] }
    }

    /// With the names of counts.
    fn each<'a, N: Into<String>>(
        &'a self,
        label: &'static str,
        counts: impl IntoIterator<Item = (N, u64)> + 'a,
    ) -> impl Iterator<Item = (Labels, u64)> + 'a {
        counts.into_iter().map(move |(name, count)| (labelled(&self.labels, label, name), count))
    }
}

pub(super) fn of_servers(servers: &[Arc<Server>]) -> Vec<Family> {
    let servers: Vec<Labelled> = servers.iter().map(Labelled::of).collect();
    let mut families = of_connections(&servers);
    families.extend(of_tls(&servers));
    families.extend(of_fork_servers(&servers));
    families
}

fn of_connections(servers: &[Labelled]) -> Vec<Family> {
    let each = || servers.iter().map(|it| (it.labels.clone(), it.server.counts()));
    let queues = || servers.iter().filter_map(|it| Some((it.labels.clone(), it.server.listen_queue()?)));
    let info = |it: &Labelled| {
        let info = it.server.info();
        let labels = labelled(&it.labels, "type", info.server_type.scheme());
        (labelled(&labels, "concurrency", info.concurrency.clone()), 1_u64)
    };
    vec![
        Family::gauge("plugsock_server_info", "What a server is").with(servers.iter().map(info)),
        Family::gauge("plugsock_accepting", "Whether a server accepts: 0 while it is drained or closed")
            .with(servers.iter().map(|it| {
                let accepts = it.server.fileno().is_some() && !it.server.is_paused();
                (it.labels.clone(), u64::from(accepts))
            })),
        Family::gauge(
            "plugsock_open_requests",
            "Connections and packets that are being served, or have room and wait",
        )
        .with(servers.iter().map(|it| (it.labels.clone(), it.server.open_requests()))),
        Family::counter("plugsock_refusals", "Clients that were turned away, by the reason")
            .with(servers.iter().flat_map(|it| it.each("reason", it.server.refused().by_reason()))),
        Family::counter("plugsock_received", "Bytes that handlers have received from clients")
            .in_unit(Unit::Bytes)
            .with(each().map(|(labels, counts)| (labels, counts.volume.so_far().received))),
        Family::counter("plugsock_sent", "Bytes that handlers have sent to clients")
            .in_unit(Unit::Bytes)
            .with(each().map(|(labels, counts)| (labels, counts.volume.so_far().sent))),
        Family::gauge(
            "plugsock_listen_queue_connections",
            "Connections that wait in the kernel to be accepted, of TCP",
        )
        .with(queues().map(|(labels, queue)| (labels, u64::from(queue.waiting)))),
        Family::gauge(
            "plugsock_listen_queue_max_connections",
            "As many connections may wait in the kernel; those beyond have to try again",
        )
        .with(queues().map(|(labels, queue)| (labels, u64::from(queue.max)))),
        Family::times(
            "plugsock_room_wait",
            "How long clients that were accepted waited for room among the open requests",
        )
        .with(each().map(|(labels, counts)| (labels, counts.room_wait.so_far()))),
        Family::times(
            "plugsock_start_wait",
            "How long requests with room waited for a thread, a task or a process to begin with them",
        )
        .with(each().map(|(labels, counts)| (labels, counts.start_wait.so_far()))),
        Family::counter(
            "plugsock_http_responses",
            "Requests of HTTP that were answered, by the class of the status",
        )
        .with(servers.iter().flat_map(|it| {
            let answers = it.server.counts().answers.so_far();
            let are_some = answers.iter().any(|count| *count > 0);
            let answers = CLASSES.into_iter().zip(answers).filter(move |_| are_some);
            it.each("class", answers)
        })),
    ]
}

fn of_tls(servers: &[Labelled]) -> Vec<Family> {
    let with_tls = || servers.iter().filter(|it| it.server.tls().is_some());
    vec![
        Family::counter("plugsock_tls_handshakes", "TLS handshakes that were done, by the protocol")
            .with(with_tls().flat_map(|it| it.each("protocol", it.server.handshakes().done))),
        Family::counter("plugsock_tls_resumptions", "TLS handshakes that resumed an earlier session")
            .with(with_tls().map(|it| (it.labels.clone(), it.server.handshakes().resumed))),
        Family::counter("plugsock_tls_handshake_failures", "TLS handshakes that failed, by the reason")
            .with(with_tls().flat_map(|it| it.each("reason", it.server.handshakes().failed))),
        Family::times(
            "plugsock_tls_handshake_duration",
            "How long the TLS handshakes of new connections took",
        )
        .with(with_tls().map(|it| (it.labels.clone(), it.server.counts().handshakes.so_far()))),
        Family::gauge(
            "plugsock_tls_certificate_expiry_timestamp",
            "When a certificate expires, in seconds since 1970",
        )
        .in_unit(Unit::Seconds)
        .with(with_tls().flat_map(|it| {
            let identities = it.server.tls().map(|tls| tls.identities()).unwrap_or_default();
            identities.into_iter().map(|identity| {
                let expires = identity.expires.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
                (labelled(&it.labels, "certificate", identity.name), expires.as_secs_f64())
            })
        })),
    ]
}

fn of_fork_servers(servers: &[Labelled]) -> Vec<Family> {
    let each = || servers.iter().filter_map(|it| Some((it.labels.clone(), it.server.fork_servers()?)));
    vec![
        Family::gauge(
            "plugsock_fork_servers",
            "Fork servers that are running, one for each version that is still used",
        )
        .with(each().map(|(labels, fork_servers)| (labels, fork_servers.running))),
        Family::counter("plugsock_fork_server_deaths", "Fork servers that died and were started again")
            .with(each().map(|(labels, fork_servers)| (labels, fork_servers.deaths))),
    ]
}
