//! Certificates, made when a test wants them.

use std::fs;
use std::path::Path;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};
use tempfile::TempDir;

/// Whoever signs certificates. The files are gone when this is dropped.
pub struct Authority {
    directory: TempDir,
    issuer: Issuer<'static, KeyPair>,
    /// The file of its own certificate, which those trust who trust its signatures.
    pub certificate: String,
}

/// A certificate and its key, as files in PEM.
pub struct Identity {
    pub certificate: String,
    pub key: String,
}

impl Authority {
    pub fn new() -> Self {
        let directory = TempDir::new().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "Authority of a test");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().unwrap();
        let certificate = write(directory.path(), "authority.pem", &params.self_signed(&key).unwrap().pem());
        Self { directory, issuer: Issuer::new(params, key), certificate }
    }

    /// For a server of these names and addresses.
    pub fn server(&self, names: &[&str]) -> Identity {
        self.identity(names[0], server(names))
    }

    /// For a server whose certificate was good for a year.
    pub fn expired_server(&self, names: &[&str]) -> Identity {
        self.identity(&format!("expired {}", names[0]), expired(server(names)))
    }

    /// For a client whose subject is `CN=NAME`.
    pub fn client(&self, name: &str) -> Identity {
        self.identity(name, client(name))
    }

    /// For a client whose certificate was good for a year.
    pub fn expired_client(&self, name: &str) -> Identity {
        self.identity(&format!("expired {name}"), expired(client(name)))
    }

    /// Signs a certificate of any kind; `file` names its files.
    pub fn identity(&self, file: &str, mut params: CertificateParams) -> Identity {
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let directory = self.directory.path();
        Identity {
            certificate: write(directory, &format!("{file}.pem"), &certificate.pem()),
            key: write(directory, &format!("{file}.key.pem"), &key.serialize_pem()),
        }
    }
}

impl Identity {
    /// As `--tls` takes it.
    pub fn option(&self, name: &str) -> String {
        format!("{name}={},{}", self.certificate, self.key)
    }
}

fn server(names: &[&str]) -> CertificateParams {
    let mut params =
        CertificateParams::new(names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>()).unwrap();
    params.distinguished_name.push(DnType::CommonName, names[0]);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params
}

fn client(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params
}

fn expired(mut params: CertificateParams) -> CertificateParams {
    params.not_before = date_time_ymd(2000, 1, 1);
    params.not_after = date_time_ymd(2001, 1, 1);
    params
}

fn write(directory: &Path, name: &str, text: &str) -> String {
    let path = directory.join(name);
    fs::write(&path, text).unwrap();
    path.display().to_string()
}
