//! Whose certificates are believed: Mozilla's roots, and those of `--tls-ca`.

use std::sync::Arc;

use rustls::client::Resumption;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use serde::{Deserialize, Serialize};

use crate::tls::provider;

/// A certificate whose holder may sign those of servers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TlsCa(Vec<u8>);

/// Why a file has no certificates of use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TlsCaError {
    /// It is damaged.
    #[error("it is no PEM file: {0}")]
    Pem(String),
    /// It is empty, or has other things.
    #[error("it has no certificate; give a PEM file with `-----BEGIN CERTIFICATE-----`")]
    None,
    /// One that cannot be understood; which of the file, from 1.
    #[error("its certificate number {0} is damaged, or of no use for TLS")]
    Certificate(usize),
}

impl TlsCa {
    /// All certificates of a PEM file.
    pub fn from_pem(text: &[u8]) -> Result<Vec<Self>, TlsCaError> {
        let mut cas = Vec::new();
        for certificate in CertificateDer::pem_slice_iter(text) {
            let certificate = certificate.map_err(|error| TlsCaError::Pem(error.to_string()))?;
            let ca = Self(certificate.to_vec());
            let added = RootCertStore::empty().add(certificate);
            added.map_err(|_| TlsCaError::Certificate(cas.len() + 1))?;
            cas.push(ca);
        }
        if cas.is_empty() { Err(TlsCaError::None) } else { Ok(cas) }
    }
}

/// How all handlers of a sandbox speak TLS.
pub(in crate::sandbox) fn client_config(cas: &[TlsCa]) -> Arc<ClientConfig> {
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.into() };
    roots.add_parsable_certificates(cas.iter().map(|ca| CertificateDer::from(&ca.0[..])));
    let builder = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
    let builder = builder.expect("ring has what TLS 1.2 and 1.3 need");
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    // A request is not to find what another has left.
    config.resumption = Resumption::disabled();
    Arc::new(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_certificate_is_refused_in_words() {
        for (text, reason) in [
            ("", "no certificate"),
            ("words", "no certificate"),
            ("-----BEGIN CERTIFICATE-----\n", "no PEM file"),
            ("-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n", "no PEM file"),
            ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "number 1"),
            ("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "no certificate"),
        ] {
            let error = TlsCa::from_pem(text.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }
}
