//! What connections are protected with.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use anyhow::bail;
use clap::Args;
use plugsock::{ClientAuth, IdentityFiles, Tls, TlsOptions, TlsVersion};

use super::options::parse_duration;
use super::watch::{Files, Seen, watch};

#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "TLS")]
pub struct TlsArgs {
    /// A certificate, with those above it, and its key; may be given again. Clients get the one for the name that they
    /// ask for, or the first; handlers may ask for one by NAME. The files are loaded again when they change
    #[arg(long = "tls", value_name = "NAME=CERT.pem,KEY.pem")]
    identities: Vec<IdentityFiles>,

    /// Certificates by which those of clients are verified
    #[arg(long = "tls-client-ca", value_name = "FILE", requires = "identities")]
    client_ca: Option<PathBuf>,

    /// Whether clients need a certificate: off, request or require (default: require with --tls-client-ca)
    #[arg(long = "tls-client-auth", value_name = "WHETHER", requires = "identities")]
    client_auth: Option<ClientAuth>,

    /// The oldest version of TLS: 1.2 or 1.3
    #[arg(long = "tls-min-version", value_name = "VERSION", default_value_t = TlsVersion::V1_2)]
    min_version: TlsVersion,

    /// How long a client may take for a handshake
    #[arg(long = "tls-handshake-timeout", value_name = "TIME", default_value = "10s", value_parser = parse_duration)]
    handshake_timeout: Duration,

    /// An application protocol (ALPN) for tls:// and tls+unix:// addresses, the preferred first; may be given again
    #[arg(long = "tls-alpn", value_name = "PROTOCOL", requires = "identities")]
    alpn: Vec<String>,
}

impl TlsArgs {
    /// Whether there is anything to protect connections with.
    pub fn has_certificate(&self) -> bool {
        !self.identities.is_empty()
    }

    /// What they name, checked; `None` if they name nothing.
    fn options(&self) -> anyhow::Result<Option<TlsOptions>> {
        let is_asked_for = matches!(self.client_auth, Some(ClientAuth::Request | ClientAuth::Require));
        if is_asked_for && self.client_ca.is_none() {
            bail!("--tls-client-auth needs something to verify certificates by: give --tls-client-ca FILE");
        }
        if self.identities.is_empty() {
            return Ok(None);
        }
        Ok(Some(TlsOptions {
            identities: self.identities.clone(),
            // Absolute, whatever becomes of the working directory.
            client_ca: self.client_ca.as_deref().map(std::path::absolute).transpose()?,
            client_auth: self.client_auth.unwrap_or(ClientAuth::Require),
            min_version: self.min_version,
            handshake_timeout: self.handshake_timeout,
            alpn: self.alpn.clone(),
        }))
    }
}

/// What was loaded, and what it was loaded from.
#[derive(Clone)]
pub struct Certificates {
    pub tls: Tls,
    files: Files,
    seen: Seen,
}

/// How often certificates that expire soon are warned of.
const DAY: Duration = Duration::from_secs(24 * 3600);

impl Certificates {
    /// What the options name, loaded and checked; `None` if they name nothing.
    pub fn load(args: &TlsArgs) -> anyhow::Result<Option<Self>> {
        let Some(options) = args.options()? else { return Ok(None) };
        let files = Files::all(options.files());
        // Before they are loaded, so that no change is missed.
        let seen = Arc::new(Mutex::new(Some(files.look())));
        Ok(Some(Self { tls: Tls::load(options)?, files, seen }))
    }

    /// Loads them again. What is open keeps those that it has.
    pub fn reload(&self) {
        reload(&self.tls);
    }

    /// Loads them again whenever one of the files has changed, and warns every day of those that expire soon.
    pub fn watch(&self) -> anyhow::Result<()> {
        let (changed, expiring) = (self.tls.clone(), self.tls.clone());
        watch(self.files.clone(), &self.seen, move || reload(&changed))?;
        let seen = Arc::downgrade(&self.seen);
        thread::Builder::new().name("expiry".to_owned()).spawn(move || {
            loop {
                thread::sleep(DAY);
                if seen.strong_count() == 0 {
                    return;
                }
                expiring.warn_of_expiry();
            }
        })?;
        Ok(())
    }
}

fn reload(tls: &Tls) {
    match tls.reload() {
        Ok(()) => tracing::info!("certificates loaded again"),
        Err(error) => tracing::error!("certificates not loaded again, those before serve on: {error}"),
    }
}
