//! Options that may be others for each server.

use std::time::Duration;

use clap::Args;
use plugsock::traces::Traces;
use plugsock::{ClientLimits, Concurrency, ServerOptions, SocketOptions, Tls, UnixSocketOptions};

use super::clients::ClientArgs;
use super::helper_process::HelperProcess;
use super::http::HttpArgs;
use super::log::LogOptions;
use super::options::{Time, parse_count, parse_duration, parse_time};
use super::privileges::{parse_group, parse_user};
use super::serve::ProcessArgs;
use super::tls::TlsArgs;

#[derive(Args, Clone, Debug)]
pub struct ServerArgs {
    #[command(flatten)]
    serving: ServingArgs,
    #[command(flatten)]
    clients: ClientArgs,
    #[command(flatten)]
    pub tls: TlsArgs,
    #[command(flatten)]
    http: HttpArgs,
    #[command(flatten)]
    socket: SocketArgs,
}

#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Serving")]
struct ServingArgs {
    /// Where requests are served: sync, threading, forking, pool or async
    #[arg(long, value_name = "STRATEGY", default_value = "threading")]
    concurrency: Concurrency,

    /// Threads that serve, for pool (default: 4 a core) and async (default: 1 a core)
    #[arg(long, value_name = "COUNT", value_parser = parse_count)]
    workers: Option<usize>,

    /// forking: how many processes may serve at once
    #[arg(long, value_name = "COUNT", default_value_t = 40, value_parser = parse_count)]
    max_children: usize,

    /// threading: do not wait at the end for threads that still serve
    #[arg(long)]
    daemon_threads: bool,

    /// threading, forking: do not wait at the end for open requests
    #[arg(long)]
    no_block_on_close: bool,

    /// Run the handler's `handle-timeout` hook after so long without a request (forking: 5m where none is given)
    #[arg(long, value_name = "TIME", default_value = "none", value_parser = parse_time)]
    timeout: Time,

    /// How long open requests may go on after the first signal; the rest are cut off
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = parse_duration)]
    shutdown_timeout: Duration,
}

#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Sockets")]
struct SocketArgs {
    /// Connections that may wait in the kernel to be accepted
    #[arg(long, value_name = "COUNT", default_value_t = 1024)]
    request_queue_size: u32,

    /// Bind a TCP address that closed connections still occupy
    #[arg(long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set)]
    reuse_address: bool,

    /// Let several servers share an address (SO_REUSEPORT)
    #[arg(long)]
    reuse_port: bool,

    /// Let [::] leave IPv4 alone
    #[arg(long)]
    ipv6_only: bool,

    /// The largest datagram that is served; larger ones are dropped and logged
    #[arg(long, value_name = "BYTES", default_value_t = 8192, value_parser = clap::value_parser!(u16))]
    max_packet_size: u16,

    /// Permission bits of a Unix socket's file, in octal
    #[arg(long, value_name = "MODE", value_parser = parse_mode)]
    mode: Option<u32>,

    /// Owner of a Unix socket's file, by name or id
    #[arg(long, value_name = "USER", value_parser = parse_user)]
    owner: Option<u32>,

    /// Group of a Unix socket's file, by name or id
    #[arg(long, value_name = "GROUP", value_parser = parse_group)]
    group: Option<u32>,
}

fn parse_mode(text: &str) -> Result<u32, String> {
    match u32::from_str_radix(text, 8) {
        Ok(mode) if mode <= 0o7777 => Ok(mode),
        _ => Err("write permission bits in octal, as in 660".to_owned()),
    }
}

impl ServerArgs {
    /// How a server of this process serves, with these certificates.
    pub fn options(&self, tls: Option<Tls>, process: &ProcessArgs, traces: Option<&Traces>) -> ServerOptions {
        ServerOptions {
            concurrency: self.concurrency(&process.log),
            timeout: self.serving.timeout.0,
            clients: self.client_limits(),
            tls,
            http: self.http.options(),
            socket: self.socket_options(),
            measure: process.telemetry.is_wanted(),
            traces: traces.cloned(),
            ..ServerOptions::default()
        }
    }

    pub fn client_limits(&self) -> ClientLimits {
        self.clients.limits()
    }

    pub fn socket_options(&self) -> SocketOptions {
        let SocketArgs { request_queue_size, max_packet_size, ipv6_only, mode, owner, group, .. } =
            self.socket;
        SocketOptions {
            request_queue_size,
            allow_reuse_address: self.socket.reuse_address,
            allow_reuse_port: self.socket.reuse_port,
            ipv6_only,
            max_packet_size: max_packet_size.into(),
            unix: UnixSocketOptions { mode, owner, group },
        }
    }

    /// `log` is how processes that fork log.
    pub fn concurrency(&self, log: &LogOptions) -> Concurrency {
        let ServingArgs { max_children, daemon_threads, no_block_on_close, .. } = self.serving;
        let concurrency = match self.serving.concurrency {
            Concurrency::Forking { .. } => Concurrency::Forking {
                max_children,
                block_on_close: !no_block_on_close,
                arguments: HelperProcess::arguments(log),
            },
            Concurrency::Threading { .. } => {
                Concurrency::Threading { daemon_threads, block_on_close: !no_block_on_close }
            }
            ref other => other.clone(),
        };
        match self.serving.workers {
            Some(workers) => concurrency.with_workers(workers),
            None => concurrency,
        }
    }

    /// How long open requests may go on when the server ends.
    pub fn shutdown_timeout(&self, log: &LogOptions) -> Duration {
        if self.concurrency(log).waits_on_close() { self.serving.shutdown_timeout } else { Duration::ZERO }
    }

    /// Whether others may have its addresses, too.
    pub fn shares_addresses(&self) -> bool {
        self.socket.reuse_port
    }

    pub fn is_forking(&self) -> bool {
        matches!(self.serving.concurrency, Concurrency::Forking { .. })
    }
}
