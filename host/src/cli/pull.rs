//! `plugsock pull`: gets a handler from a registry, into a file.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use bytesize::ByteSize;
use clap::Args;
use plugsock::{Digest, PublicKey, Trust, shown, signature_path};
use serde_json::json;

use super::keys::parse_public_key;
use super::log::LogOptions;
use super::options::parse_size;
use super::output;
use super::progress::spin_while;
use super::registry::{OciReference, RegistryArgs};
use super::whole_file::write_whole;

/// Get a handler from a registry, into a file
///
/// The file is there when it is whole, and the one before until then; what is no file, such as a pipe, is written to. Prints the
/// reference that leads to exactly this, and the component's digest.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  plugsock pull oci://cr.example/acme/echo:1.2
  plugsock pull oci://cr.example/acme/echo:1.2 -o handlers/echo.wasm

Credentials are those of `docker login`.")]
pub struct Pull {
    /// Where it is
    #[arg(value_name = "oci://REGISTRY/NAME:TAG")]
    reference: OciReference,

    /// The file to write (default: NAME.wasm)
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,

    /// The largest component that is taken
    #[arg(long, value_name = "SIZE", default_value = "256MiB", value_parser = parse_size)]
    max_component_size: ByteSize,

    /// Take only what has a signature by this key (minisign), and write that to FILE.minisig; may be repeated for several keys
    /// of which any will do
    #[arg(long, value_name = "FILE|KEY", value_parser = parse_public_key)]
    public_key: Vec<PublicKey>,

    /// Print what was pulled as JSON
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    registry: RegistryArgs,
    #[command(flatten)]
    log: LogOptions,
}

impl Pull {
    pub fn run(self) -> anyhow::Result<ExitCode> {
        self.log.init()?;
        let (reference, registry) = (&self.reference, self.registry.registry(None));
        let (max_size, public_keys) = (self.max_component_size.as_u64(), self.public_key.clone());
        let trust = Trust { max_size, public_keys, digest: None };
        let pulled = spin_while(&format!("pulling {reference}"), || registry.pull(reference, &trust));
        let fetched = pulled.with_context(|| format!("cannot pull {reference}"))?;
        let signature = trust.check(&fetched).map_err(anyhow::Error::msg);
        let signature = signature.with_context(|| format!("will not keep {reference}"))?;
        let file = self.output.clone().unwrap_or_else(|| format!("{}.wasm", fetched.name).into());
        write_whole(&file, &fetched.bytes)?;
        if let Some(signature) = signature {
            write_whole(&signature_path(&file), signature.as_bytes())?;
        }
        let digest = Digest::of(&fetched.bytes);
        match self.json {
            true => output::print_json(&json!({
                "file": file,
                "digest": digest.to_string(),
                "reference": fetched.reference.to_string(),
            }))?,
            false => output::print_line(format!("{} {digest} {}", shown(&file), fetched.reference))?,
        }
        Ok(ExitCode::SUCCESS)
    }
}
