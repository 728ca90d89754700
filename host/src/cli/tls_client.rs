//! The client of `plugsock call --tls`, between the one that speaks in the clear and the handler.

use std::io;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use anyhow::Context;
use plugsock::{IdentityFiles, Tls, TlsOptions};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use tokio::io::{AsyncWriteExt, copy, split};
use tokio_rustls::TlsConnector;

use super::self_signed::SelfSigned;

const HOST: &str = "localhost";

/// Long enough that nobody is warned of the end.
const DAYS: u32 = 30;

/// A client of TLS, and what a handler needs to serve it.
pub struct TlsClient {
    pub connection: UnixStream,
    pub tls: Tls,
    /// How the connection was protected, when it is over.
    pub relay: JoinHandle<anyhow::Result<String>>,
}

impl TlsClient {
    /// Protects what is said on `plain`.
    pub fn start(plain: UnixStream, identity: &str) -> anyhow::Result<Self> {
        let SelfSigned { certificate, certificate_pem, key_pem } =
            SelfSigned::make(&[HOST.to_owned()], DAYS)?;
        let folder = tempfile::tempdir().context("no folder for a certificate")?;
        let files = ["crt", "key"].map(|kind| folder.path().join(kind));
        std::fs::write(&files[0], certificate_pem).context("cannot write a certificate")?;
        std::fs::write(&files[1], key_pem).context("cannot write a key")?;
        let [certificate_file, key] = files;
        let identity = IdentityFiles { name: identity.to_owned(), certificate: certificate_file, key };
        let tls = Tls::load(TlsOptions { identities: vec![identity], ..TlsOptions::default() })?;
        let (ours, connection) = UnixStream::pair().context("cannot make a pair of sockets")?;
        let relay = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(relay(plain, ours, certificate)).context("the client of TLS failed")
        });
        Ok(Self { connection, tls, relay })
    }
}

async fn relay(
    plain: UnixStream,
    protected: UnixStream,
    certificate: CertificateDer<'static>,
) -> anyhow::Result<String> {
    let mut roots = RootCertStore::empty();
    roots.add(certificate)?;
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connector = TlsConnector::from(Arc::new(config));
    let protected = connector.connect(HOST.try_into()?, asynchronous(protected)?).await?;
    let connection = protected.get_ref().1;
    let suite = connection.negotiated_cipher_suite().context("no cipher was agreed on")?;
    // As IANA writes it; rustls marks those of TLS 1.3.
    let suite_name = format!("{:?}", suite.suite()).replace("TLS13_", "TLS_");
    let protection = format!("tls      {:?}, {suite_name}", suite.version().version).replace("v1_", "v1.");
    let (mut from_plain, mut to_plain) = split(asynchronous(plain)?);
    let (mut from_protected, mut to_protected) = split(protected);
    let there = async {
        copy(&mut from_plain, &mut to_protected).await?;
        to_protected.shutdown().await
    };
    let back = async {
        copy(&mut from_protected, &mut to_plain).await?;
        to_plain.shutdown().await
    };
    let (mut there, mut back) = (std::pin::pin!(there), std::pin::pin!(back));
    // The handler need not have read all that it was sent.
    tokio::select! {
        ended = &mut back => ended?,
        sent = &mut there => {
            let ended = back.await;
            sent.and(ended)?;
        }
    }
    Ok(protection)
}

fn asynchronous(socket: UnixStream) -> io::Result<tokio::net::UnixStream> {
    socket.set_nonblocking(true)?;
    tokio::net::UnixStream::from_std(socket)
}
