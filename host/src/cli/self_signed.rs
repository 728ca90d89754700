//! Certificates that nobody but their maker vouches for: to try TLS out, and to begin with.

use std::time::{Duration, SystemTime};

use anyhow::{Context, ensure};
use plugsock::one_line;
use rcgen::{CertificateParams, DnType, KeyPair};
use rustls_pki_types::{CertificateDer, ServerName};

/// A certificate, and the key that it is signed by itself with.
pub struct SelfSigned {
    pub certificate: CertificateDer<'static>,
    /// In PEM.
    pub certificate_pem: String,
    /// In PEM.
    pub key_pem: String,
}

impl SelfSigned {
    /// For these host names and IP addresses, from now on for so many days.
    pub fn make(hosts: &[String], days: u32) -> anyhow::Result<Self> {
        let name = hosts.first().context("a certificate is for one host at least")?;
        for host in hosts {
            let is_name = ServerName::try_from(host.strip_prefix("*.").unwrap_or(host)).is_ok();
            ensure!(is_name, "'{}' is neither a host name nor an IP address", one_line(host));
        }
        let mut params = CertificateParams::new(hosts).context("no certificate can have such a host")?;
        params.distinguished_name.push(DnType::CommonName, name);
        let now = SystemTime::now();
        params.not_before = now.into();
        params.not_after = (now + Duration::from_secs(u64::from(days) * 24 * 3600)).into();
        let key = KeyPair::generate().context("cannot make a key")?;
        let certificate = params.self_signed(&key).context("cannot make a certificate")?;
        Ok(Self {
            certificate: certificate.der().clone(),
            certificate_pem: certificate.pem(),
            key_pem: key.serialize_pem(),
        })
    }
}
