//! Certificates and their keys, as the operator's files have them.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ring::digest::{SHA256, digest};
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys};
use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::certificate::X509Certificate;

use super::names::names_of;
use super::tickets::Certificate;
use super::{TlsError, TlsOptions, Wanted, provider};
use crate::error::{one_line, shown};

/// An identity's name and files, as options say them: `NAME=CERT.pem,KEY.pem`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentityFiles {
    /// What handlers ask for it by; for clients it is what its certificate says.
    pub name: String,
    /// The certificate and those that lead to its root, in PEM.
    pub certificate: PathBuf,
    /// Its private key, in PEM.
    pub key: PathBuf,
}

/// Why a text names no identity.
#[derive(Debug, thiserror::Error)]
#[error("'{}' is no identity: write NAME=CERT.pem,KEY.pem", one_line(.0))]
pub struct IdentityFilesError(String);

impl FromStr for IdentityFiles {
    type Err = IdentityFilesError;

    fn from_str(text: &str) -> Result<Self, IdentityFilesError> {
        let parse = || {
            let (name, files) = text.split_once('=')?;
            let (certificate, key) = files.split_once(',')?;
            let is_whole = ![name, certificate, key].iter().any(|part| part.is_empty());
            // Absolute, whatever becomes of the working directory; that fails only if it is gone already.
            let path = |file: &str| std::path::absolute(file).unwrap_or_else(|_| file.into());
            is_whole.then(|| Self { name: name.to_owned(), certificate: path(certificate), key: path(key) })
        };
        parse().ok_or_else(|| IdentityFilesError(text.to_owned()))
    }
}

/// Why certificates cannot be used: the operator's to mend.
#[derive(Debug, thiserror::Error)]
#[error("TLS: {}: {}", one_line(.file), one_line(.reason))]
pub struct TlsLoadError {
    /// The file that is not fit.
    file: String,
    /// What is wrong with it, and what to do.
    reason: String,
}

impl TlsLoadError {
    fn new(file: &Path, reason: impl fmt::Display) -> Self {
        Self { file: shown(file), reason: reason.to_string() }
    }

    pub(super) fn client_ca(TlsOptions { client_ca, .. }: &TlsOptions, reason: String) -> Self {
        Self::new(client_ca.as_deref().unwrap_or(Path::new("")), reason)
    }
}

/// What is known of a certificate that a server may show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentityStatus {
    /// What the options call it.
    pub name: String,
    /// Whom it is for: its subject, then its alternative names.
    pub names: Vec<String>,
    /// When it, or one of those above it, expires.
    pub expires: SystemTime,
}

/// A certificate with its key.
#[derive(Debug)]
pub(super) struct Identity {
    status: IdentityStatus,
    /// The host names that it is for, in lower case; they may begin with `*.`.
    hosts: Vec<String>,
    pub(super) certified_key: Arc<CertifiedKey>,
    pub(super) digest: Certificate,
}

/// All of an operator's; the first is the default.
#[derive(Debug)]
pub(super) struct Identities(Vec<Identity>);

/// An expiry that is nearer than this is warned of.
const EXPIRES_SOON: Duration = Duration::from_secs(14 * 24 * 3600);

impl Identities {
    pub(super) fn load(files: &[IdentityFiles]) -> Result<Self, TlsLoadError> {
        for (number, one) in files.iter().enumerate() {
            if files[..number].iter().any(|other| other.name == one.name) {
                let reason = format!("there are two identities '{}': give each a name of its own", one.name);
                return Err(TlsLoadError::new(&one.certificate, reason));
            }
        }
        files.iter().map(Identity::load).collect::<Result<_, _>>().map(Self)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Identity> {
        self.0.iter()
    }

    pub(super) fn status(&self) -> Vec<IdentityStatus> {
        self.0.iter().map(|identity| identity.status.clone()).collect()
    }

    pub(super) fn get(&self, number: usize) -> &Identity {
        &self.0[number]
    }

    /// The number of the one that the handler names, or of the one that fits the client's name for the server; or the default.
    pub(super) fn choose(&self, wanted: &Wanted) -> Result<usize, TlsError> {
        if let Some(name) = &wanted.identity {
            let named = self.0.iter().position(|identity| identity.status.name == *name);
            return named.ok_or_else(|| TlsError::NoIdentity(format!("the server has no identity '{name}'")));
        }
        if self.0.is_empty() {
            return Err(TlsError::no_certificates());
        }
        let server_name = wanted.server_name.as_ref().map(|name| name.to_ascii_lowercase());
        // One for the name itself goes before one for all of its domain.
        let named =
            server_name.as_ref().and_then(|name| self.0.iter().position(|one| one.hosts.contains(name)));
        let fits =
            |identity: &Identity| server_name.as_ref().is_some_and(|name| identity.is_for_domain_of(name));
        Ok(named.or_else(|| self.0.iter().position(fits)).unwrap_or(0))
    }

    pub(super) fn warn_of_expiry(&self) {
        for IdentityStatus { name, expires, .. } in self.0.iter().map(|identity| &identity.status) {
            if let Ok(left) = expires.duration_since(SystemTime::now())
                && left >= EXPIRES_SOON
            {
                continue;
            }
            let at = humantime::format_rfc3339_seconds(*expires);
            tracing::warn!(identity = name, "the certificate expires at {at}: put a new one in its file");
        }
    }
}

impl Identity {
    fn load(IdentityFiles { name, certificate, key }: &IdentityFiles) -> Result<Self, TlsLoadError> {
        let unfit = |reason: String| TlsLoadError::new(certificate, reason);
        let chain = load_certificates(certificate)?;
        let parsed: Vec<_> = chain.iter().map(|one| parse(one)).collect::<Result<_, _>>().map_err(unfit)?;
        parsed.iter().try_for_each(check_validity).map_err(unfit)?;
        let expires = parsed.iter().map(expiry).min().expect("the file has a certificate");
        let names = names_of(&parsed[0]);
        let hosts = names.hosts.iter().map(|host| host.to_ascii_lowercase()).collect();
        let status = IdentityStatus { name: name.clone(), names: names.all(), expires };
        let sha256 = digest(&SHA256, &chain[0]);
        let digest = sha256.as_ref().try_into().expect("it is as long as that");
        let key = load_key(key, certificate, chain)?;
        Ok(Self { status, hosts, certified_key: Arc::new(key), digest })
    }

    fn is_for_domain_of(&self, server_name: &str) -> bool {
        let Some((_, rest)) = server_name.split_once('.') else { return false };
        self.hosts.iter().any(|host| host.strip_prefix("*.").is_some_and(|domain| domain == rest))
    }
}

/// Roots by which clients' certificates are verified, in DER.
pub(super) fn load_roots(file: &Path) -> Result<Vec<Vec<u8>>, TlsLoadError> {
    let roots = load_certificates(file)?;
    for root in &roots {
        let checked = parse(root).and_then(|root| check_validity(&root));
        checked.map_err(|reason| TlsLoadError::new(file, reason))?;
    }
    Ok(roots.into_iter().map(|root| root.to_vec()).collect())
}

/// The certificates of a file, of which there is one at least.
fn load_certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, TlsLoadError> {
    let unfit = |reason: String| TlsLoadError::new(file, reason);
    let bytes = fs::read(file).map_err(|error| unfit(unreadable(&error)))?;
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(&bytes)
        .collect::<Result<_, _>>()
        .map_err(|error| unfit(format!("it is not whole: {}", pem_reason(&error))))?;
    match certificates.is_empty() {
        true => Err(unfit("it has no certificate: it must be PEM, with BEGIN CERTIFICATE".to_owned())),
        false => Ok(certificates),
    }
}

fn load_key(
    file: &Path,
    certificate: &Path,
    chain: Vec<CertificateDer<'static>>,
) -> Result<CertifiedKey, TlsLoadError> {
    let unfit = |reason: String| TlsLoadError::new(file, reason);
    let bytes = fs::read(file).map_err(|error| unfit(unreadable(&error)))?;
    if [&b"ENCRYPTED PRIVATE KEY"[..], b"Proc-Type: 4,ENCRYPTED"].iter().any(|mark| contains(&bytes, mark)) {
        return Err(unfit(
            "the key is encrypted, and nobody is there to give the password: decrypt it with `openssl pkey -in … -out …`"
                .to_owned(),
        ));
    }
    let key = PrivateKeyDer::from_pem_slice(&bytes).map_err(|error| match error {
        pem::Error::NoItemsFound => {
            unfit("it has no private key: it must be PEM, with BEGIN PRIVATE KEY".to_owned())
        }
        error => unfit(format!("it is not whole: {}", pem_reason(&error))),
    })?;
    CertifiedKey::from_der(chain, key, &provider()).map_err(|error| match error {
        Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
            unfit(format!("the key does not fit the certificate in {}", shown(certificate)))
        }
        error => unfit(format!("the key cannot be used: {error}")),
    })
}

fn unreadable(error: &io::Error) -> String {
    format!("it cannot be read: {error}")
}

fn pem_reason(error: &pem::Error) -> String {
    match error {
        pem::Error::MissingSectionEnd { .. } => "its END line is missing".to_owned(),
        error => error.to_string(),
    }
}

fn contains(bytes: &[u8], mark: &[u8]) -> bool {
    bytes.windows(mark.len()).any(|window| window == mark)
}

pub(super) fn parse<'a>(certificate: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, String> {
    match x509_parser::parse_x509_certificate(certificate) {
        Ok((_, certificate)) => Ok(certificate),
        Err(error) => Err(format!("a certificate cannot be parsed: {error}")),
    }
}

fn check_validity(certificate: &X509Certificate<'_>) -> Result<(), String> {
    let validity = certificate.validity();
    if validity.is_valid() {
        return Ok(());
    }
    let subject = certificate.subject();
    let (begins, ends) = (validity.not_before, validity.not_after);
    Err(match x509_parser::time::ASN1Time::now() < begins {
        true => format!("the certificate of {subject} is not valid before {begins}"),
        false => format!("the certificate of {subject} expired at {ends}: renew it"),
    })
}

fn expiry(certificate: &X509Certificate<'_>) -> SystemTime {
    let seconds = certificate.validity().not_after.timestamp();
    UNIX_EPOCH + Duration::from_secs(seconds.try_into().unwrap_or_default())
}
