//! `plugsock sign` and `plugsock verify`: detached signatures of handlers, as minisign makes them.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use minisign::SecretKey;
use plugsock::{Digest, PublicKey, one_line, shown, signature_path};

use serde_json::json;

use super::keys::{parse_public_key, read_secret_key};
use super::output;

/// Sign handlers: make FILE.minisig beside each
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  plugsock sign --key release.key echo.wasm")]
pub struct Sign {
    /// The secret key, as `plugsock keygen` or minisign made it
    #[arg(long, value_name = "FILE")]
    key: PathBuf,

    /// What to sign along with the file; shown by `plugsock verify`
    #[arg(long, value_name = "TEXT", value_parser = parse_comment)]
    comment: Option<String>,

    /// Print what was signed as JSON, a line each
    #[arg(long)]
    json: bool,

    /// The components
    #[arg(required = true, value_name = "HANDLER")]
    files: Vec<PathBuf>,
}

/// Check the signatures of handlers
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  plugsock verify --public-key release.pub echo.wasm

Exit status: 0 if every signature is right, 1 if not.")]
pub struct Verify {
    /// The public key, or its file
    #[arg(long, value_name = "FILE|KEY", value_parser = parse_public_key)]
    public_key: PublicKey,

    /// Print what was verified as JSON, a line each
    #[arg(long)]
    json: bool,

    /// The components; their signatures are in FILE.minisig
    #[arg(required = true, value_name = "HANDLER")]
    files: Vec<PathBuf>,
}

fn parse_comment(text: &str) -> Result<String, String> {
    match text.contains(char::is_control) {
        true => Err("it must be one line without control characters".to_owned()),
        false => Ok(text.to_owned()),
    }
}

impl Sign {
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let key = read_secret_key(&self.key)?;
        for path in &self.files {
            let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
            let signature = signature_of(file, &key, self.comment.as_deref())
                .with_context(|| format!("cannot sign {}", path.display()))?;
            let signed = signature_path(path);
            std::fs::write(&signed, signature)
                .with_context(|| format!("cannot write {}", signed.display()))?;
            match self.json {
                true => output::print_line(json!({ "file": path, "signature": signed }))?,
                false => output::print_line(shown(&signed))?,
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// What goes into the file of a signature.
pub fn signature_of(data: impl Read, key: &SecretKey, comment: Option<&str>) -> anyhow::Result<String> {
    let signature = minisign::sign(None, key, data, comment, Some("signature by plugsock"))?;
    Ok(signature.into_string())
}

impl Verify {
    pub fn run(self) -> anyhow::Result<ExitCode> {
        for path in &self.files {
            let name = path.display();
            let (digest, comment) = self.verify(path).with_context(|| format!("{name} is not verified"))?;
            match self.json {
                true => {
                    let verified = json!({ "file": path, "digest": digest.to_string(), "comment": comment });
                    output::print_line(verified)?;
                }
                false => output::print_line(format!("{} {digest} {}", shown(path), one_line(&comment)))?,
            }
        }
        Ok(ExitCode::SUCCESS)
    }

    /// The file's digest, and the comment that was signed with it.
    fn verify(&self, path: &Path) -> anyhow::Result<(Digest, String)> {
        let bytes = std::fs::read(path).context("cannot read it")?;
        let signature = signature_path(path);
        let text = std::fs::read_to_string(&signature)
            .with_context(|| format!("cannot read its signature {}", signature.display()))?;
        let comment = self.public_key.verify(&bytes, &text)?;
        Ok((Digest::of(&bytes), comment))
    }
}
