//! Certificates of every kind that a server or a client may have, made when a test wants them.

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tempfile::TempDir;

pub const DAY: Duration = Duration::from_secs(24 * 3600);

/// What issues certificates.
pub struct Ca {
    issuer: Issuer<'static, KeyPair>,
    pub pem: String,
}

/// A certificate with its key.
pub struct Certified {
    pub pem: String,
    pub key: KeyPair,
}

/// From when until when a certificate is good.
#[derive(Clone, Copy)]
pub struct Validity(pub SystemTime, pub SystemTime);

impl Validity {
    /// From yesterday for so many days.
    pub fn days(days: u32) -> Self {
        Self(SystemTime::now() - DAY, SystemTime::now() + DAY * days)
    }

    pub fn over() -> Self {
        Self(SystemTime::now() - 3 * DAY, SystemTime::now() - DAY)
    }

    pub fn to_come() -> Self {
        Self(SystemTime::now() + DAY, SystemTime::now() + 90 * DAY)
    }
}

impl Ca {
    pub fn new(name: &str) -> Self {
        let mut params = params(name, &[], Validity::days(365));
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    pub fn server(&self, names: &[&str]) -> Certified {
        self.server_for(names, Validity::days(90))
    }

    pub fn server_for(&self, names: &[&str], validity: Validity) -> Certified {
        self.issue(params(names[0], names, validity), ExtendedKeyUsagePurpose::ServerAuth)
    }

    pub fn client(&self, name: &str, validity: Validity) -> Certified {
        let alternative = format!("{name}.example.org");
        self.issue(params(name, &[&alternative], validity), ExtendedKeyUsagePurpose::ClientAuth)
    }

    fn issue(&self, mut params: CertificateParams, usage: ExtendedKeyUsagePurpose) -> Certified {
        params.extended_key_usages = vec![usage];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate().unwrap();
        Certified { pem: params.signed_by(&key, &self.issuer).unwrap().pem(), key }
    }
}

/// A client's that nobody has issued.
pub fn self_signed(name: &str) -> Certified {
    let mut params = params(name, &[], Validity::days(90));
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let key = KeyPair::generate().unwrap();
    Certified { pem: params.self_signed(&key).unwrap().pem(), key }
}

fn params(name: &str, alternative: &[&str], Validity(begins, ends): Validity) -> CertificateParams {
    let names: Vec<String> = alternative.iter().map(ToString::to_string).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = begins.into();
    params.not_after = ends.into();
    params
}

impl Certified {
    /// Writes both files, and returns what `--tls` takes.
    pub fn write(&self, directory: &Path, name: &str) -> String {
        self.files(directory, name).option(name)
    }

    fn files(&self, directory: &Path, name: &str) -> Identity {
        self.replace(directory, name);
        let [certificate, key] =
            ["crt", "key"].map(|kind| directory.join(format!("{name}.{kind}")).display().to_string());
        Identity { certificate, key }
    }

    /// Puts both files in the place of those that are there, as an operator's tools do.
    pub fn replace(&self, directory: &Path, name: &str) {
        for (extension, text) in [("crt", &self.pem), ("key", &self.key.serialize_pem())] {
            let beside = directory.join("beside");
            fs::write(&beside, text).unwrap();
            fs::rename(beside, directory.join(format!("{name}.{extension}"))).unwrap();
        }
    }

    pub fn der(&self) -> CertificateDer<'static> {
        CertificateDer::from_pem_slice(self.pem.as_bytes()).unwrap()
    }

    pub fn key_der(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::from_pem_slice(self.key.serialize_pem().as_bytes()).unwrap()
    }
}

/// A CA whose certificates are files, which are gone when this is dropped.
pub struct Authority {
    ca: Ca,
    directory: TempDir,
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
        let (ca, directory) = (Ca::new("Authority of a test"), TempDir::new().unwrap());
        let file = directory.path().join("authority.pem");
        fs::write(&file, &ca.pem).unwrap();
        Self { ca, certificate: file.display().to_string(), directory }
    }

    /// For a server of these names and addresses.
    pub fn server(&self, names: &[&str]) -> Identity {
        self.ca.server(names).files(self.directory.path(), names[0])
    }

    pub fn expired_server(&self, names: &[&str]) -> Identity {
        self.ca.server_for(names, Validity::over()).files(self.directory.path(), "expired server")
    }

    /// For a client whose subject is `CN=NAME`.
    pub fn client(&self, name: &str) -> Identity {
        self.ca.client(name, Validity::days(90)).files(self.directory.path(), name)
    }

    pub fn expired_client(&self, name: &str) -> Identity {
        self.ca.client(name, Validity::over()).files(self.directory.path(), "expired client")
    }
}

impl Identity {
    /// As `--tls` takes it.
    pub fn option(&self, name: &str) -> String {
        format!("{name}={},{}", self.certificate, self.key)
    }
}
