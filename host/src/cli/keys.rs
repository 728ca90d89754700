//! Keys of minisign: how options name them, and `plugsock keygen`, which makes them.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use minisign::{KeyPair, SecretKey, SecretKeyBox};
use plugsock::{PublicKey, shown};

/// Make a pair of keys for signing handlers
///
/// The keys are minisign's, and its tools take them too. The secret key is kept under a password, which is asked
/// for at the terminal.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  plugsock keygen release
  plugsock sign --key release.key echo.wasm
  plugsock serve --public-key release.pub echo.wasm")]
pub struct Keygen {
    /// What to call the keys: NAME.key, which is secret, and NAME.pub
    name: PathBuf,

    /// Keep the secret key without a password
    #[arg(long)]
    no_password: bool,
}

impl Keygen {
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let [secret, public] = ["key", "pub"].map(|kind| with_suffix(&self.name, kind));
        // First, so that nobody types a password in vain; an old key is never lost.
        let mut files = (create(&secret, 0o600)?, create(&public, 0o644)?);
        let pair = match self.no_password {
            true => KeyPair::generate_unencrypted_keypair(),
            false => KeyPair::generate_encrypted_keypair(None),
        };
        let boxes = pair.and_then(|pair| Ok((pair.sk.to_box(None)?, pair.pk.to_box()?)));
        let written = boxes.map_err(anyhow::Error::from).and_then(|(secret_key, public_key)| {
            files.0.write_all(secret_key.into_string().as_bytes())?;
            Ok(files.1.write_all(public_key.into_string().as_bytes())?)
        });
        if let Err(error) = written {
            for path in [&secret, &public] {
                let _ = std::fs::remove_file(path);
            }
            return Err(error.context("cannot make a pair of keys"));
        }
        println!("secret key  {}", shown(&secret));
        println!("public key  {}", shown(&public));
        Ok(ExitCode::SUCCESS)
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
    file.with_context(|| format!("cannot make {}", path.display()))
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
    let name = path.display();
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read secret key {name}"))?;
    let unencrypted = SecretKey::from_unencrypted_box(SecretKeyBox::from(text.clone()));
    let key = unencrypted.or_else(|_| SecretKey::from_box(text.into(), None));
    key.with_context(|| format!("cannot use secret key {name}"))
}
