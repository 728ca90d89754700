//! TLS in a child of a fork server, which runs guest code and therefore has no key: it asks its host for the certificate, the
//! signature and the tickets. A guest that broke out may have one handshake signed, and tickets of other children opened or made up;
//! where clients show certificates, nothing is resumed, so that no client can be made up.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};
use std::time::Duration;

use rustls::server::{ProducesTickets, ServerConfig};
use rustls::sign::{CertifiedKey, Signer, SigningKey, SingleCertAndKey};
use rustls::{Error, SignatureAlgorithm, SignatureScheme};
use rustls_pki_types::CertificateDer;
use serde::{Deserialize, Serialize};

use super::tickets::{Certificate, Whose};
use super::{Clients, Keeper, ServerTls, TlsError, TlsInfo, Wanted, server_config, with_alpn};

/// What a child says to its host; all but the last has an answer.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Ask {
    Terms(Wanted),
    /// To sign what the handshake has come to.
    Sign {
        scheme: u16,
        message: Vec<u8>,
    },
    /// To make a ticket of a session.
    Seal(Vec<u8>),
    /// To make a session of a ticket.
    Open(Vec<u8>),
    /// How the handshake has ended.
    Ended(Result<TlsInfo, TlsError>),
}

/// What its host says.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Answer {
    Terms(Result<Terms, TlsError>),
    /// A signature, a ticket or a session; `None` if there is none to be had.
    Bytes(Option<Vec<u8>>),
}

/// What a server does with one connection, without its secrets.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Terms {
    /// The certificate and those above it, in DER.
    chain: Vec<Vec<u8>>,
    algorithm: u8,
    /// What its key can sign by.
    schemes: Vec<u16>,
    clients: Clients,
    alpn: Vec<String>,
}

/// How a child reaches its host.
pub(crate) trait Host: fmt::Debug + Send + Sync {
    fn tell(&self, ask: Ask) -> io::Result<()>;

    fn ask(&self, ask: Ask) -> io::Result<Answer>;
}

/// What a child has in the place of certificates.
#[derive(Debug)]
pub(crate) struct RemoteKeeper {
    asking: Arc<Asking>,
    handshake_timeout: Duration,
}

impl RemoteKeeper {
    pub(crate) fn new(host: Arc<dyn Host>, handshake_timeout: Duration) -> Self {
        let asking = Asking { host, left: AtomicU8::new(ANSWERS), opens_left: AtomicU8::new(OPENS) };
        Self { asking: Arc::new(asking), handshake_timeout }
    }
}

/// Asks the host, and no more often than it answers.
#[derive(Debug)]
struct Asking {
    host: Arc<dyn Host>,
    left: AtomicU8,
    opens_left: AtomicU8,
}

impl Asking {
    fn count(&self, ask: &Ask) -> io::Result<()> {
        let may_ask = !matches!(ask, Ask::Open(_)) || take_one(&self.opens_left);
        if !(may_ask && take_one(&self.left)) {
            return Err(io::Error::other("it was asked too often"));
        }
        Ok(())
    }

    fn tell(&self, ask: Ask) -> io::Result<()> {
        self.count(&ask)?;
        self.host.tell(ask)
    }

    fn ask(&self, ask: Ask) -> io::Result<Answer> {
        self.count(&ask)?;
        self.host.ask(ask)
    }

    fn ask_for_bytes(&self, ask: Ask) -> Option<Vec<u8>> {
        match self.ask(ask) {
            Ok(Answer::Bytes(bytes)) => bytes,
            Ok(Answer::Terms(_)) | Err(_) => None,
        }
    }
}

/// Whether there was one left.
fn take_one(left: &AtomicU8) -> bool {
    left.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)).is_ok()
}

impl Keeper for RemoteKeeper {
    fn config(&self, wanted: &Wanted) -> Result<Arc<ServerConfig>, TlsError> {
        let failed = |reason: String| TlsError::Host(format!("the host gives no certificate: {reason}"));
        let terms = match self.asking.ask(Ask::Terms(wanted.clone())) {
            Ok(Answer::Terms(terms)) => terms?,
            Ok(Answer::Bytes(_)) => return Err(failed("it has misunderstood".to_owned())),
            Err(error) => return Err(failed(error.to_string())),
        };
        let verifier = terms.clients.verifier().map_err(failed)?;
        let key = RemoteKey {
            asking: self.asking.clone(),
            algorithm: terms.algorithm.into(),
            schemes: terms.schemes.iter().map(|scheme| (*scheme).into()).collect(),
        };
        let chain = terms.chain.into_iter().map(CertificateDer::from).collect();
        let certificate = SingleCertAndKey::from(CertifiedKey::new(chain, Arc::new(key)));
        let are_made = !terms.clients.are_verified();
        let tickets = RemoteTickets { asking: self.asking.clone(), are_made };
        let config = server_config(&terms.clients, verifier, Arc::new(certificate), Arc::new(tickets));
        Ok(Arc::new(with_alpn(config, &terms.alpn)))
    }

    fn handshake_timeout(&self) -> Duration {
        self.handshake_timeout
    }

    fn ended(&self, handshake: &Result<TlsInfo, TlsError>) {
        // A host that has gone need not know.
        let _ = self.asking.tell(Ask::Ended(handshake.clone()));
    }

    fn answering(self: Arc<Self>) -> Option<Answering> {
        None
    }
}

/// A private key that somebody else has.
#[derive(Debug)]
struct RemoteKey {
    asking: Arc<Asking>,
    algorithm: SignatureAlgorithm,
    schemes: Vec<SignatureScheme>,
}

#[derive(Debug)]
struct RemoteSigner {
    asking: Arc<Asking>,
    scheme: SignatureScheme,
}

impl SigningKey for RemoteKey {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        let scheme = *self.schemes.iter().find(|scheme| offered.contains(scheme))?;
        Some(Box::new(RemoteSigner { asking: self.asking.clone(), scheme }))
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        self.algorithm
    }
}

impl Signer for RemoteSigner {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        let ask = Ask::Sign { scheme: self.scheme.into(), message: message.to_vec() };
        self.asking.ask_for_bytes(ask).ok_or_else(|| Error::General("the host does not sign".to_owned()))
    }

    fn scheme(&self) -> SignatureScheme {
        self.scheme
    }
}

/// Tickets that somebody else makes and takes.
#[derive(Debug)]
struct RemoteTickets {
    asking: Arc<Asking>,
    are_made: bool,
}

impl ProducesTickets for RemoteTickets {
    fn enabled(&self) -> bool {
        self.are_made
    }

    fn lifetime(&self) -> u32 {
        super::tickets::LIFETIME.as_secs() as u32
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.asking.ask_for_bytes(Ask::Seal(plain.to_vec()))
    }

    fn decrypt(&self, cipher: &[u8]) -> Option<Vec<u8>> {
        self.asking.ask_for_bytes(Ask::Open(cipher.to_vec()))
    }
}

/// The host's side, for one child. It does what one handshake needs and no more, whatever the child asks.
#[derive(Debug)]
pub(crate) struct Answering {
    server: Arc<ServerTls>,
    /// What it was told to show, and may sign for once.
    certified_key: Option<Arc<CertifiedKey>>,
    /// The digest of the certificate that it was told to show, once it was.
    shown: Option<Certificate>,
    /// How many more answers it gets.
    left: u8,
    has_ended: bool,
    info: Option<TlsInfo>,
}

/// A client may come with several tickets, and gets two; a handler may name an identity that there is not.
const ANSWERS: u8 = 24;

/// How many tickets are looked at: a client may come with hundreds, and the rest of the answers is for the handshake.
const OPENS: u8 = 8;

/// A child has asked for more than any handshake needs.
#[derive(Debug)]
pub(crate) struct AskedTooMuch;

impl Answering {
    pub(super) fn new(server: Arc<ServerTls>) -> Self {
        Self { server, certified_key: None, shown: None, left: ANSWERS, has_ended: false, info: None }
    }

    /// How the connection is protected, if that has just been said.
    pub(crate) fn take_info(&mut self) -> Option<TlsInfo> {
        self.info.take()
    }

    /// What to answer, if anything.
    pub(crate) fn answer(&mut self, ask: Ask) -> Result<Option<Answer>, AskedTooMuch> {
        self.left = self.left.checked_sub(1).ok_or(AskedTooMuch)?;
        let inner = &self.server.tls.0;
        let resumes = !inner.current.load().clients.are_verified();
        let tickets = self.shown.filter(|_| resumes).map(|shown| (&inner.tickets, shown));
        Ok(Some(match ask {
            Ask::Terms(wanted) => Answer::Terms(self.terms(&wanted)),
            Ask::Sign { scheme, message } => Answer::Bytes(self.sign(scheme.into(), &message)),
            Ask::Seal(session) => {
                Answer::Bytes(tickets.and_then(|(it, shown)| it.seal(Whose::Childs, &shown, &session)))
            }
            Ask::Open(ticket) => {
                Answer::Bytes(tickets.and_then(|(it, shown)| it.open(Whose::Childs, &shown, &ticket)))
            }
            Ask::Ended(handshake) => {
                // What names no protocol of ours is to reach neither counters nor the log.
                let is_sound = handshake.as_ref().map_or(true, TlsInfo::is_sound);
                if is_sound && !std::mem::replace(&mut self.has_ended, true) {
                    self.server.ended(&handshake);
                    self.info = handshake.ok();
                }
                return Ok(None);
            }
        }))
    }

    fn terms(&mut self, wanted: &Wanted) -> Result<Terms, TlsError> {
        if self.shown.is_some() {
            return Err(TlsError::AlreadyProtected);
        }
        let inner = &self.server.tls.0;
        let loaded = inner.current.load();
        let identity = loaded.identities.get(loaded.identities.choose(wanted)?);
        let certified_key = identity.certified_key.clone();
        let key = &certified_key.key;
        let schemes = ALL_SCHEMES.into_iter().filter(|scheme| key.choose_scheme(&[*scheme]).is_some());
        let terms = Terms {
            chain: certified_key.cert.iter().map(|certificate| certificate.to_vec()).collect(),
            algorithm: key.algorithm().into(),
            schemes: schemes.map(u16::from).collect(),
            clients: loaded.clients.clone(),
            alpn: wanted.alpn(&inner.options.alpn).to_vec(),
        };
        (self.shown, self.certified_key) = (Some(identity.digest), Some(certified_key));
        Ok(terms)
    }

    fn sign(&mut self, scheme: SignatureScheme, message: &[u8]) -> Option<Vec<u8>> {
        let key = self.certified_key.take().filter(|_| is_of_a_handshake(message))?;
        key.key.choose_scheme(&[scheme])?.sign(message).ok()
    }
}

/// All that a key may sign by, the preferred first.
const ALL_SCHEMES: [SignatureScheme; 10] = [
    SignatureScheme::ED25519,
    SignatureScheme::ECDSA_NISTP256_SHA256,
    SignatureScheme::ECDSA_NISTP384_SHA384,
    SignatureScheme::ECDSA_NISTP521_SHA512,
    SignatureScheme::RSA_PSS_SHA512,
    SignatureScheme::RSA_PSS_SHA384,
    SignatureScheme::RSA_PSS_SHA256,
    SignatureScheme::RSA_PKCS1_SHA512,
    SignatureScheme::RSA_PKCS1_SHA384,
    SignatureScheme::RSA_PKCS1_SHA256,
];

/// Whether a server signs such a thing: what RFC 8446 (4.4.3) writes before the digest of a handshake, or what RFC 8422 (5.4) says of
/// its key exchange.
fn is_of_a_handshake(message: &[u8]) -> bool {
    const RANDOMS: usize = 64;
    const NAMED_CURVE: u8 = 3;
    let is_of_1_3 = message
        .strip_prefix(&[b' '; 64])
        .and_then(|rest| rest.strip_prefix(b"TLS 1.3, server CertificateVerify\0"))
        .is_some_and(|digest| matches!(digest.len(), 32 | 48));
    let is_of_1_2 = message.split_at_checked(RANDOMS).is_some_and(|(_, parameters)| match parameters {
        [NAMED_CURVE, _, _, length, point @ ..] => point.len() == usize::from(*length),
        _ => false,
    });
    is_of_1_3 || is_of_1_2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_but_a_handshake_is_signed() {
        let signed = [&[b' '; 64][..], b"TLS 1.3, server CertificateVerify\0", &[7; 32]].concat();
        assert!(is_of_a_handshake(&signed));
        let key_exchange = [&[7; 64][..], &[3, 0, 29, 32], &[9; 32]].concat();
        assert!(is_of_a_handshake(&key_exchange));
        let client = [&[b' '; 64][..], b"TLS 1.3, client CertificateVerify\0", &[7; 32]].concat();
        for other in [&b""[..], b"a certificate of my own", &client, &signed[..90], &key_exchange[..90]] {
            assert!(!is_of_a_handshake(other), "{other:?}");
        }
    }
}
