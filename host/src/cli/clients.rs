//! Options about clients: who is served, how many at once, and how often.

use clap::Args;
use plugsock::{ClientLimits, Networks, Proxies, Rate};

use super::options::parse_count;

#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Clients (of each address; who is refused is closed at once)")]
pub struct ClientArgs {
    /// Requests that may be open at once; more wait in the listen queue
    #[arg(long, value_name = "COUNT", value_parser = parse_count)]
    max_connections: Option<usize>,

    /// How many of them may come from one IPv4 address, IPv6 network of 64 bits, or user of a Unix socket;
    /// more are refused
    #[arg(long, value_name = "COUNT", value_parser = parse_count)]
    max_connections_per_ip: Option<usize>,

    /// How often a request may come, as in 100/s or 100/s:500, with a burst of 500 (s, m or h)
    #[arg(long, value_name = "RATE[:BURST]")]
    connection_rate: Option<Rate>,

    /// How often one may come from one IPv4 address, IPv6 network or user
    #[arg(long, value_name = "RATE[:BURST]")]
    connection_rate_per_ip: Option<Rate>,

    /// Refuse internet clients that are in none of these networks; may be repeated
    #[arg(long, value_name = "NETWORK,…")]
    allow: Vec<Networks>,

    /// Refuse internet clients in these networks, but for smaller ones that --allow names; may be repeated
    #[arg(long, value_name = "NETWORK,…")]
    deny: Vec<Networks>,

    /// Senders whose connections begin with a PROXY protocol header, version 1 or 2, which says who the client
    /// is: networks, and `unix` for all on a Unix socket; may be repeated
    #[arg(long, value_name = "NETWORK,…")]
    proxy_protocol: Vec<Proxies>,
}

impl ClientArgs {
    pub fn limits(&self) -> ClientLimits {
        ClientLimits {
            max_connections: self.max_connections,
            max_connections_per_ip: self.max_connections_per_ip,
            connection_rate: self.connection_rate,
            connection_rate_per_ip: self.connection_rate_per_ip,
            allow: self.allow.iter().cloned().collect(),
            deny: self.deny.iter().cloned().collect(),
            proxy_protocol: self.proxy_protocol.iter().cloned().collect(),
        }
    }
}
