//! Options that say which fleet is meant, and how a host is part of it.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::bail;
use async_nats::ServerAddr;
use clap::Args;
use plugsock::PublicKey;

use super::records::{Labels, check_group, check_name};
use super::store::Reach;
use crate::cli::keys::parse_public_key;
use crate::cli::options::parse_duration;
use crate::cli::plan::PlannedHandler;

#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Fleet (many hosts that serve what operators say in NATS)")]
pub struct FleetArgs {
    #[command(flatten)]
    reach: ReachArgs,

    /// The group whose handlers this host serves
    #[arg(long, value_name = "NAME", default_value = "default", requires = "fleet", value_parser = check_group)]
    fleet_group: String,

    /// What this host is called there; by default as the machine. Several on one machine need a name each
    #[arg(long, value_name = "NAME", requires = "fleet", value_parser = check_name)]
    fleet_host: Option<String>,

    /// A label by which operators tell hosts apart, as in zone=a; may be repeated
    #[arg(long, value_name = "NAME=VALUE", requires = "fleet", value_parser = parse_label)]
    label: Vec<(String, String)>,

    /// Serve whatever the fleet says, without --public-key or --digest: whoever may write there then decides what runs here
    #[arg(long, requires = "fleet")]
    fleet_trust_all: bool,

    /// Let the fleet replace this program (`plugsock fleet upgrade`) by one with a signature by this key (minisign), which signs
    /// nothing else; may be repeated. Without it nobody can
    #[arg(long, value_name = "FILE|KEY", requires = "fleet", value_parser = parse_public_key)]
    fleet_upgrade_key: Vec<PublicKey>,

    /// How long to wait at the start for what the fleet says before serving without
    #[arg(long, value_name = "TIME", default_value = "10s", requires = "fleet", value_parser = parse_duration)]
    fleet_wait: Duration,
}

/// How NATS is reached.
#[derive(Args, Clone, Debug)]
pub struct ReachArgs {
    /// NATS with JetStream, as nats://USER:PASSWORD@HOST:PORT or tls://HOST:PORT; several servers of a cluster with commas
    #[arg(long, value_name = "URL", value_delimiter = ',', value_parser = parse_server)]
    fleet: Vec<ServerAddr>,

    /// Credentials for NATS, as nsc writes them
    #[arg(long, value_name = "FILE", requires = "fleet")]
    fleet_creds: Option<PathBuf>,

    /// Certificates (PEM) of those who vouch for NATS, in place of the system's list
    #[arg(long, value_name = "FILE", requires = "fleet")]
    fleet_ca: Option<PathBuf>,
}

pub fn parse_label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() && !text.contains(char::is_control) => {
            Ok((name.to_owned(), value.to_owned()))
        }
        _ => Err("write NAME=VALUE, as in zone=a".to_owned()),
    }
}

/// Labels as they were said, each once.
pub fn labels(said: &[(String, String)]) -> anyhow::Result<Labels> {
    let mut labels = Labels::new();
    for (name, value) in said {
        if let Some(other) = labels.insert(name.clone(), value.clone()) {
            bail!("label {name} cannot be both {other} and {value}: say it once");
        }
    }
    Ok(labels)
}

fn parse_server(text: &str) -> Result<ServerAddr, String> {
    let server: ServerAddr = text.parse().map_err(|error: std::io::Error| error.to_string())?;
    match server.host() {
        "" => Err("it names no host: write nats://HOST:PORT".to_owned()),
        _ => Ok(server),
    }
}

impl ReachArgs {
    /// How it is reached, if it is named.
    pub fn reach(&self) -> Option<Reach> {
        (!self.fleet.is_empty()).then(|| Reach {
            servers: self.fleet.clone(),
            credentials: self.fleet_creds.clone(),
            ca: self.fleet_ca.clone(),
        })
    }
}

/// What a host is in a fleet.
#[derive(Clone, Debug)]
pub struct Membership {
    pub reach: Reach,
    pub group: String,
    pub host: String,
    pub labels: Labels,
    /// How long a start waits for it.
    pub wait: Duration,
    /// Whose signatures count for the program itself.
    pub upgrade_keys: Vec<PublicKey>,
}

impl FleetArgs {
    /// What this host is to be, if it is to be in a fleet; refuses one that would have everything run here.
    pub fn membership(&self, handlers: &[PlannedHandler]) -> anyhow::Result<Option<Membership>> {
        let Some(reach) = self.reach.reach() else { return Ok(None) };
        let trusting = handlers.iter().find(|handler| !handler.args.guest.is_choosy());
        if let Some(handler) = trusting.filter(|_| !self.fleet_trust_all) {
            bail!(
                "--fleet has whoever may write to NATS say what handler {} is: name whose signatures count with --public-key, \
                 or the one component with --digest, or say --fleet-trust-all",
                handler.name
            );
        }
        let host = match &self.fleet_host {
            Some(host) => host.clone(),
            None => {
                let machine = rustix::system::uname().nodename().to_string_lossy().into_owned();
                check_name(&machine).map_err(|error| anyhow::anyhow!("{error}; say --fleet-host"))?
            }
        };
        let (group, labels, wait) = (self.fleet_group.clone(), labels(&self.label)?, self.fleet_wait);
        let upgrade_keys = self.fleet_upgrade_key.clone();
        Ok(Some(Membership { reach, group, host, labels, wait, upgrade_keys }))
    }
}
