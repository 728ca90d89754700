//! `plugsock push`: brings a handler to a registry.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Args;
use plugsock::{shown, signature_path};
use serde_json::json;

use super::keys::read_secret_key;
use super::log::LogOptions;
use super::output;
use super::progress::spin_while;
use super::registry::{OciReference, Pushing, RegistryArgs};
use super::sign::signature_of;

/// Push a handler to a registry, where `serve`, `ctl swap` and others find it as oci://REGISTRY/NAME:TAG
///
/// It is an artifact of OCI as wkg, Spin and wasmCloud read it. Prints the reference that leads to exactly this.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  plugsock push echo.wasm oci://cr.example/acme/echo:1.2
  plugsock push echo.wasm oci://cr.example/acme/echo:1.2 --sign release.key
  plugsock push echo.wasm oci://localhost:5000/echo:1 --registry-plain-http localhost:5000

Credentials are those of `docker login`.")]
pub struct Push {
    /// The handler, a component's file or a program's for WASI preview 1
    file: PathBuf,

    /// Where to push it to
    #[arg(value_name = "oci://REGISTRY/NAME:TAG")]
    reference: OciReference,

    /// What the artifact's manifest is to say besides, as in org.opencontainers.image.version=1.2; may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = parse_annotation)]
    annotation: Vec<(String, String)>,

    /// Sign it with this secret key, as `plugsock keygen` or minisign made it; otherwise FILE.minisig is pushed along where
    /// there is one
    #[arg(long, value_name = "FILE")]
    sign: Option<PathBuf>,

    /// Print the reference as JSON
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    registry: RegistryArgs,
    #[command(flatten)]
    log: LogOptions,
}

fn parse_annotation(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("write KEY=VALUE".to_owned()),
    }
}

impl Push {
    pub fn run(self) -> anyhow::Result<ExitCode> {
        self.log.init()?;
        let (reference, name) = (&self.reference, shown(&self.file));
        if reference.digest().is_some() {
            bail!("cannot push {name}: {reference} names a digest; push to a tag, and the digest is printed");
        }
        let pushing = self.pushing().with_context(|| format!("cannot push {name}"))?;
        let registry = self.registry.registry(None);
        let pushed = spin_while(&format!("pushing {name}"), || registry.push(reference, &pushing));
        let digest = pushed.with_context(|| format!("cannot push {name} to {reference}"))?;
        let pushed = reference.at(digest).to_string();
        match self.json {
            true => output::print_json(&json!({ "reference": pushed }))?,
            false => output::print_line(pushed)?,
        }
        Ok(ExitCode::SUCCESS)
    }

    fn pushing(&self) -> anyhow::Result<Pushing> {
        let mut file = File::open(&self.file).context("cannot read it")?;
        let metadata = file.metadata().context("cannot read it")?;
        let mut component = Vec::new();
        file.read_to_end(&mut component).context("cannot read it")?;
        if !component.starts_with(b"\0asm") {
            bail!("it is not WebAssembly");
        }
        let annotations: BTreeMap<_, _> = self.annotation.iter().cloned().collect();
        let signature = self.signature(&component)?;
        Pushing::new(component, metadata.modified()?, annotations, signature)
    }

    fn signature(&self, component: &[u8]) -> anyhow::Result<Option<String>> {
        if let Some(key) = &self.sign {
            let key = read_secret_key(key)?;
            return signature_of(component, &key, None).context("cannot sign it").map(Some);
        }
        let beside = signature_path(&self.file);
        match std::fs::read_to_string(&beside) {
            Ok(signature) => Ok(Some(signature)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("cannot read its signature {}", shown(&beside))),
        }
    }
}
