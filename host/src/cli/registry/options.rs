//! Options that say how registries are asked.

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use clap::Args;
use reqwest::Url;

use super::Registry;
use super::credentials;
use super::tls::{Ca, parse_ca};
use crate::cli::options::parse_duration;

#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Registries (handlers as oci://REGISTRY/NAME:TAG)")]
pub struct RegistryArgs {
    /// Certificates (PEM) of those who vouch for registries, besides the system's list; may be repeated
    #[arg(long, value_name = "FILE", value_parser = parse_ca)]
    registry_ca: Vec<Ca>,

    /// Ask this registry, or whom it sends on to, by plain HTTP: whoever is on the way reads and changes what is sent,
    /// passwords too; may be repeated
    #[arg(long, value_name = "HOST[:PORT]")]
    registry_plain_http: Vec<PlainHost>,

    /// How long all that belongs to one fetch or push may take
    #[arg(long, value_name = "TIME", default_value = "2m", value_parser = parse_duration)]
    registry_timeout: Duration,
}

/// How registries are asked.
#[derive(Clone, Debug)]
pub struct RegistryOptions {
    pub ca: Vec<Ca>,
    pub plain_http: PlainHttp,
    pub timeout: Duration,
    /// Where `docker login` leaves credentials.
    pub docker_config: Option<PathBuf>,
}

impl RegistryArgs {
    /// By these options; credentials are those of the user with this home, or of the one who started the program.
    pub fn registry(self, home: Option<&Path>) -> Registry {
        Registry::new(RegistryOptions {
            ca: self.registry_ca,
            plain_http: PlainHttp(self.registry_plain_http),
            timeout: self.registry_timeout,
            docker_config: credentials::config_file(home),
        })
    }
}

/// Who may be asked by plain HTTP.
#[derive(Clone, Debug, Default)]
pub struct PlainHttp(pub Vec<PlainHost>);

/// A host, and the one port if not all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlainHost {
    host: String,
    port: Option<u16>,
}

impl FromStr for PlainHost {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (host, port) = split_port(text);
        let is_host = !host.is_empty() && !host.contains(['/', ':', '@', '*']);
        match port.map(str::parse).transpose() {
            Ok(port) if is_host => Ok(Self { host: host.to_owned(), port }),
            _ => Err("write HOST or HOST:PORT, as in localhost:5000".to_owned()),
        }
    }
}

impl PlainHttp {
    /// Whether a registry is among them, by its name with its port.
    pub fn covers_host(&self, registry: &str) -> bool {
        let (host, port) = split_port(registry);
        self.covers(host, port.map_or(Some(80), |port| port.parse().ok()))
    }

    /// Whether this may be asked: by TLS always.
    pub fn allows(&self, url: &Url) -> bool {
        match url.scheme() {
            "https" => true,
            "http" => url.host_str().is_some_and(|host| self.covers(host, url.port_or_known_default())),
            _ => false,
        }
    }

    fn covers(&self, host: &str, port: Option<u16>) -> bool {
        let is_it = |plain: &PlainHost| plain.host.eq_ignore_ascii_case(host);
        self.0.iter().any(|plain| is_it(plain) && (plain.port.is_none() || plain.port == port))
    }
}

fn split_port(text: &str) -> (&str, Option<&str>) {
    text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_is_for_those_alone_who_are_named() {
        let plain = PlainHttp(["localhost:5000", "registry.lan"].map(|host| host.parse().unwrap()).into());
        for (registry, covered) in [
            ("localhost:5000", true),
            ("LOCALHOST:5000", true),
            ("localhost:5001", false),
            ("localhost", false),
            ("127.0.0.1:5000", false),
            ("registry.lan", true),
            ("registry.lan:8080", true),
            ("evil.registry.lan", false),
        ] {
            assert_eq!(plain.covers_host(registry), covered, "{registry}");
            let url = Url::parse(&format!("http://{registry}/v2/")).unwrap();
            assert_eq!(plain.allows(&url), covered, "{url}");
            assert!(plain.allows(&Url::parse(&format!("https://{registry}/v2/")).unwrap()));
        }
        assert!(!plain.allows(&Url::parse("ftp://registry.lan/").unwrap()));
        for wrong in ["", ":5000", "http://localhost", "localhost:", "localhost:http", "localhost:70000", "*"]
        {
            assert!(wrong.parse::<PlainHost>().is_err(), "{wrong}");
        }
    }
}
