//! Keys of minisign: how options name them, and `plugsock keygen`, which makes them.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, anyhow};
use clap::Args;
use minisign::{KeyPair, SecretKey, SecretKeyBox};
use plugsock::{PublicKey, shown};
use serde_json::json;

use super::output;
use super::self_signed::SelfSigned;

/// Make a pair of keys for signing handlers, or a certificate for TLS
///
/// The keys for signing are minisign's, and its tools take them too. The secret key is kept under a password, which is asked
/// for at the terminal. A certificate is signed by itself, and good for trials and among machines that are told of it; its
/// key has no password.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  plugsock keygen release
  plugsock sign --key release.key echo.wasm
  plugsock serve --public-key release.pub echo.wasm
  plugsock keygen --tls echo --host echo.example.org
  plugsock serve tls://:7443 --tls echo=echo.crt,echo.key")]
pub struct Keygen {
    /// What to call the keys: NAME.key, which is secret, and NAME.pub, or NAME.crt for a certificate
    name: PathBuf,

    /// Keep the secret key without a password
    #[arg(long)]
    no_password: bool,

    /// Make a certificate and its key
    #[arg(long, conflicts_with = "no_password")]
    tls: bool,

    /// A host name or IP address that the certificate is for; may be given again (default: localhost, 127.0.0.1 and ::1)
    #[arg(long = "host", value_name = "HOST", requires = "tls")]
    hosts: Vec<String>,

    /// How long the certificate is good
    #[arg(long, value_name = "DAYS", default_value_t = 365, requires = "tls", value_parser = clap::value_parser!(u32).range(1..=36_500))]
    days: u32,

    /// Print the names of the files as JSON
    #[arg(long)]
    json: bool,
}

impl Keygen {
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let (public_suffix, public_name) =
            if self.tls { ("crt", "certificate") } else { ("pub", "public key") };
        let [secret, public] = ["key", public_suffix].map(|suffix| with_suffix(&self.name, suffix));
        // First, so that nobody types a password in vain; an old key is never lost.
        let mut secret_file = create(&secret, 0o600)?;
        let mut public_file = create(&public, 0o644).inspect_err(|_| drop(std::fs::remove_file(&secret)))?;
        let made = if self.tls { self.certificate() } else { self.pair() };
        let written = made.and_then(|(secret_key, public_key)| {
            secret_file.write_all(secret_key.as_bytes())?;
            Ok(public_file.write_all(public_key.as_bytes())?)
        });
        if let Err(error) = written {
            for path in [&secret, &public] {
                let _ = std::fs::remove_file(path);
            }
            return Err(error.context(format!("cannot make a secret key and its {public_name}")));
        }
        match self.json {
            true => output::print_json(&json!({ "secret": secret, "public": public }))?,
            false => {
                output::print_line(format!("{:11} {}", "secret key", shown(&secret)))?;
                output::print_line(format!("{public_name:11} {}", shown(&public)))?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }

    fn pair(&self) -> anyhow::Result<(String, String)> {
        let pair = match self.no_password {
            true => KeyPair::generate_unencrypted_keypair()?,
            false => KeyPair::generate_encrypted_keypair(None)?,
        };
        Ok((pair.sk.to_box(None)?.into_string(), pair.pk.to_box()?.into_string()))
    }

    fn certificate(&self) -> anyhow::Result<(String, String)> {
        let local = ["localhost", "127.0.0.1", "::1"].map(str::to_owned);
        let hosts = if self.hosts.is_empty() { &local[..] } else { &self.hosts };
        let SelfSigned { certificate_pem, key_pem, .. } = SelfSigned::make(hosts, self.days)?;
        Ok((key_pem, certificate_pem))
    }
}

fn with_suffix(name: &Path, suffix: &str) -> PathBuf {
    let mut path = name.as_os_str().to_owned();
    path.push(".");
    path.push(suffix);
    path.into()
}

fn create(path: &Path, mode: u32) -> anyhow::Result<File> {
    let file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    file.map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => {
            anyhow!("{} is there already, and no key is written over: choose another name", shown(path))
        }
        _ => anyhow!("cannot make {}: {error}", shown(path)),
    })
}

/// A public key from its file, or the key itself.
pub fn parse_public_key(text: &str) -> Result<PublicKey, String> {
    if let Ok(key) = text.parse() {
        return Ok(key);
    }
    match std::fs::read_to_string(text) {
        Ok(key) => key.parse().map_err(|error| format!("{error}")),
        Err(error) => Err(format!("it is neither a public key nor a file that can be read: {error}")),
    }
}

/// A secret key from its file; asks for the password if it has one.
pub fn read_secret_key(path: &Path) -> anyhow::Result<SecretKey> {
    let name = shown(path);
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read secret key {name}"))?;
    let unencrypted = SecretKey::from_unencrypted_box(SecretKeyBox::from(text.clone()));
    let key = unencrypted.or_else(|_| SecretKey::from_box(text.into(), None));
    key.map_err(|error| {
        anyhow!(
            "cannot use secret key {name}: {error}; it must be one that `plugsock keygen` or minisign made, with its password"
        )
    })
}
