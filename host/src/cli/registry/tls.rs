//! Whom a registry's certificate must be by.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, ensure};
use plugsock::shown;
use rustls::crypto::ring;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

/// The certificates in a file.
pub fn parse_ca(path: &str) -> Result<Ca, String> {
    read_ca(Path::new(path)).map_err(|error| format!("{error:#}"))
}

/// Certificates of those whose signatures count.
#[derive(Clone, Debug)]
pub struct Ca(Vec<CertificateDer<'static>>);

fn read_ca(path: &Path) -> anyhow::Result<Ca> {
    let text = std::fs::read(path).context("it cannot be read")?;
    let found: Vec<_> = CertificateDer::pem_slice_iter(&text)
        .collect::<Result<_, _>>()
        .with_context(|| format!("{} is not PEM", shown(path)))?;
    ensure!(!found.is_empty(), "there is no certificate in it; write it as PEM");
    let mut store = RootCertStore::empty();
    for certificate in &found {
        store
            .add(certificate.clone())
            .context("there is a certificate in it that is none of an authority")?;
    }
    Ok(Ca(found))
}

/// The machine's list, or Mozilla's where it has none, and those that the operator names.
pub fn client_config(own: &[Ca]) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        tracing::debug!("some of this machine's certificates cannot be read: {error}");
    }
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    roots.add_parsable_certificates(own.iter().flat_map(|ca| ca.0.iter().cloned()));
    ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("ring has all of them")
        .with_root_certificates(roots)
        .with_no_client_auth()
}
