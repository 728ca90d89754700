//! `plugsock fleet push`, `rollout` and `upgrade`: what operators bring, and the records that begin roll-outs.

use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use plugsock::{Digest, Probe, RollbackPolicy, Trust, shown, signature_path};
use serde::Serialize;
use tokio::time::Instant;

use super::super::decide::{base_of_next, is_under_way};
use super::super::options::{labels, parse_label};
use super::super::records::{
    Desired, FIRST_FORMAT, HostStatus, Labels, PROGRAM, Rollout, Stage, Version, check_group, covers,
};
use super::super::store::Store;
use super::super::view::{GroupView, View};
use super::follow::follow;
use super::{At, Of, Records, change};
use crate::cli::handler_source::HandlerSource;
use crate::cli::keys::read_secret_key;
use crate::cli::options::parse_duration;
use crate::cli::registry::RegistryArgs;
use crate::cli::sign::signature_of;
use crate::cli::swapping::ProbeArgs;

/// As many layers as a roll-out may stand on.
const LAYERS_MAX: usize = 16;

/// Bring a handler to the fleet, for `rollout`; prints its digest
#[derive(Args, Debug)]
pub struct Push {
    #[command(flatten)]
    at: At,

    /// The component's file
    file: PathBuf,

    /// Sign it with this secret key; otherwise FILE.minisig is brought along where there is one
    #[arg(long, value_name = "FILE")]
    sign: Option<PathBuf>,
}

impl Push {
    pub async fn run(self) -> anyhow::Result<()> {
        let store = self.at.connect().await?;
        let version = push(&store, &self.file, COMPONENT, self.sign.as_deref()).await?;
        self.at.say(&version, version.digest)
    }
}

/// What a file is to be: how it begins, and what it is called.
type Kind = (&'static [u8], &'static str);

const COMPONENT: Kind = (b"\0asm", "WebAssembly");
const EXECUTABLE: Kind = (b"\x7fELF", "a program (ELF)");

async fn push(
    store: &Store,
    file: &Path,
    (beginning, kind): Kind,
    sign: Option<&Path>,
) -> anyhow::Result<Version> {
    let name = shown(Path::new(file.file_name().unwrap_or_default()));
    let bytes = std::fs::read(file).with_context(|| format!("cannot read {}", shown(file)))?;
    if !bytes.starts_with(beginning) {
        bail!("{} is not {kind}", shown(file));
    }
    let signature = match sign {
        Some(key) => Some(signature_of(&bytes[..], &read_secret_key(key)?, None).context("cannot sign it")?),
        None => match std::fs::read_to_string(signature_path(file)) {
            Ok(signature) => Some(signature),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => {
                return Err(error).with_context(|| format!("cannot read the signature of {}", shown(file)));
            }
        },
    };
    let replicas = store.records.stream.cached_info().config.num_replicas;
    let digest =
        store.keep(&name, &bytes, signature.as_deref(), replicas).await.map_err(anyhow::Error::msg)?;
    Ok(Version { digest, name, source: None, signature })
}

/// What was pushed before.
async fn pushed(store: &Store, digest: Digest) -> anyhow::Result<Version> {
    let (name, signature) = store.describe(digest).await.map_err(anyhow::Error::msg)?;
    Ok(Version { digest, name, source: None, signature })
}

/// What is rolled out.
#[derive(Clone, Debug)]
enum What {
    Digest(Digest),
    Source(HandlerSource),
}

impl FromStr for What {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.starts_with("sha256:") {
            true => text.parse().map(Self::Digest).map_err(|error| format!("{error}")),
            false => HandlerSource::parse(text.into()).map(Self::Source),
        }
    }
}

/// How something is rolled out.
#[derive(Args, Debug)]
struct How {
    /// How many hosts have it at a time: numbers and shares; the last stage is always all
    #[arg(long, value_name = "STAGES", default_value = "1,10%,50%,all", value_delimiter = ',')]
    stages: Vec<Stage>,

    /// The share of failed requests on a stage's hosts that is too large, and for how long it is looked at; a third part says
    /// how many requests are judged at least (10)
    #[arg(long, value_name = "errors>SHARE/TIME", default_value = "errors>1%/30s")]
    gate: RollbackPolicy,

    /// Only for hosts with this label; may be repeated
    #[arg(long = "where", value_name = "NAME=VALUE", value_parser = parse_label)]
    only: Vec<(String, String)>,

    /// Take it even if it was rolled back before
    #[arg(long)]
    force: bool,

    /// Sign the file with this secret key
    #[arg(long, value_name = "FILE")]
    sign: Option<PathBuf>,

    /// Wait until it is complete; the exit status is 1 if it fails
    #[arg(long)]
    wait: bool,

    /// How long to wait
    #[arg(long, value_name = "TIME", requires = "wait", value_parser = parse_duration)]
    timeout: Option<Duration>,
}

impl How {
    /// Refuses what would be done of no file.
    fn check(&self, what: &What) -> anyhow::Result<()> {
        if self.sign.is_some() && !matches!(what, What::Source(HandlerSource::File(_))) {
            bail!(
                "--sign signs a file, and what is elsewhere has been signed before: name the file, or leave --sign out"
            );
        }
        Ok(())
    }
}

/// Roll a handler out to a group's hosts, in stages
///
/// Whichever host drives it has each stage's hosts swap to it, and goes on when they have got by the gate. If they do not, or
/// one of them refuses it, all go back to what they had, and the handler is refused from then on. With --probe each host tries
/// it so before its clients get it, besides its own --probe.
#[derive(Args, Debug)]
pub struct RollOut {
    #[command(flatten)]
    at: At,
    #[command(flatten)]
    of: Of,

    /// The component's file, which is pushed first, the digest of one that was, or oci://REGISTRY/NAME:TAG
    #[arg(value_name = "FILE|sha256:DIGEST|oci://…")]
    what: What,

    #[command(flatten)]
    how: How,
    #[command(flatten)]
    probe: ProbeArgs,
    #[command(flatten)]
    registry: RegistryArgs,
}

impl RollOut {
    pub async fn run(self) -> anyhow::Result<()> {
        let store = self.at.connect().await?;
        let view = View::of_group(&store, &self.of.group).await?;
        let slot = self.of.slot(&view)?;
        let only = labels(&self.how.only)?;
        let target = self.target(&store).await?;
        let begin = Begin { at: &self.at, group: &self.of.group, slot: &slot, target, how: &self.how, only };
        begin.run(&store, &view, self.probe.probe()).await
    }

    async fn target(&self, store: &Store) -> anyhow::Result<Version> {
        self.how.check(&self.what)?;
        match &self.what {
            What::Digest(digest) => pushed(store, *digest).await,
            What::Source(HandlerSource::File(file)) => {
                push(store, file, COMPONENT, self.how.sign.as_deref()).await
            }
            What::Source(HandlerSource::Oci(reference)) => {
                let (registry, reference) = (self.registry.clone().registry(None), reference.clone());
                // It has a runtime of its own.
                let fetched = std::thread::spawn(move || registry.pull(&reference, &Trust::default())).join();
                let fetched =
                    fetched.map_err(|_| anyhow::anyhow!("the host panicked; please report this"))??;
                let digest = Digest::of(&fetched.bytes);
                Ok(Version { digest, name: fetched.name, source: Some(fetched.reference), signature: None })
            }
            What::Source(HandlerSource::Echo) => bail!("name a file"),
        }
    }
}

/// Roll another version of Plugsock itself out to a group's hosts, in stages
///
/// It comes to hosts that were started with --fleet-upgrade-key and a key that has signed it. Each starts it beside the program
/// that serves and has it take over, without a request lost; where it does not, the old one serves on and the roll-out fails.
#[derive(Args, Debug)]
pub struct Upgrade {
    #[command(flatten)]
    at: At,

    /// The group of hosts
    #[arg(long, value_name = "NAME", default_value = "default", value_parser = check_group)]
    group: String,

    /// The program's file, which is brought to the fleet first, or the digest of one that was
    #[arg(value_name = "PROGRAM|sha256:DIGEST")]
    program: What,

    #[command(flatten)]
    how: How,
}

impl Upgrade {
    pub async fn run(self) -> anyhow::Result<()> {
        let store = self.at.connect().await?;
        let view = View::of_group(&store, &self.group).await?;
        if !view.hosts.iter().any(|host| host.slots.contains_key(PROGRAM)) {
            bail!(
                "no host of group {} has its program replaced: they are to be started with --fleet-upgrade-key",
                self.group
            );
        }
        self.how.check(&self.program)?;
        let only = labels(&self.how.only)?;
        let target = match &self.program {
            What::Digest(digest) => pushed(&store, *digest).await?,
            What::Source(HandlerSource::File(file)) => {
                push(&store, file, EXECUTABLE, self.how.sign.as_deref()).await?
            }
            What::Source(_) => bail!("name the program's file, or the digest of one that was brought"),
        };
        if target.signature.is_none() {
            bail!("a program needs a signature: sign it with --sign, or with `plugsock sign` beforehand");
        }
        let begin = Begin { at: &self.at, group: &self.group, slot: PROGRAM, target, how: &self.how, only };
        begin.run(&store, &view, None).await
    }
}

/// A roll-out that is to begin.
struct Begin<'a> {
    at: &'a At,
    group: &'a str,
    slot: &'a str,
    target: Version,
    how: &'a How,
    only: Labels,
}

#[derive(Serialize)]
struct Begun<'a> {
    group: &'a str,
    slot: &'a str,
    generation: u64,
    digest: String,
}

impl Begin<'_> {
    /// Writes its record, and waits for its end if that was asked for.
    async fn run(&self, store: &Store, view: &GroupView, probe: Option<Probe>) -> anyhow::Result<()> {
        let Self { at, group, slot, target, how, only } = self;
        let generation =
            change(store, group, slot, how.force, |known| self.desired(known, probe.clone())).await?;
        let (name, digest) = (&target.name, target.digest.to_string());
        let stages = self.stages().iter().map(Stage::to_string).collect::<Vec<_>>().join(",");
        let line = format!("{group}/{slot}: roll-out {generation} of {name} {digest}, in stages {stages}");
        at.say(&Begun { group, slot, generation, digest }, line)?;
        let is_meant = |host: &HostStatus| host.slots.contains_key(*slot) && covers(only, &host.labels);
        if !view.hosts.iter().any(is_meant) {
            let remark = "no host that is there has this slot and these labels: it waits for one";
            writeln!(io::stderr(), "{group}/{slot}: {remark}")?;
        }
        if !how.wait {
            return Ok(());
        }
        let deadline = how.timeout.map(|timeout| Instant::now() + timeout);
        follow(store, group, Some((slot, generation)), at.json, deadline).await
    }

    fn stages(&self) -> Vec<Stage> {
        let mut stages = self.how.stages.clone();
        if !stages.last().is_some_and(|stage| stage.is_all()) {
            stages.extend(Stage::ALL.parse::<Stage>());
        }
        stages
    }

    /// The record that begins it.
    fn desired(&self, (before, rollout): Records, probe: Option<Probe>) -> anyhow::Result<Desired> {
        let Self { group, slot, target, how, .. } = self;
        let mut desired = Desired {
            format: FIRST_FORMAT,
            generation: 1,
            target: target.clone(),
            stages: self.stages(),
            gate: how.gate,
            only: self.only.clone(),
            base: Vec::new(),
            is_paused: false,
            is_rolled_back: false,
            is_forced: how.force,
            probe: probe.map(Into::into),
        };
        // Also where what was to be served cannot be read, its roll-out is not this one.
        let last = [
            before.as_ref().map(|before| before.generation),
            rollout.as_ref().map(|rollout: &Rollout| rollout.generation),
        ];
        desired.generation = last.into_iter().flatten().max().unwrap_or_default() + 1;
        let Some(before) = before else { return Ok(desired) };
        let which = format!("{group}/{slot}: roll-out {}", before.generation);
        if is_under_way(&before, rollout.as_ref()) {
            bail!("{which} is under way: wait for its end, or take it back with `plugsock fleet rollback`");
        }
        let mut refused = rollout.iter().flat_map(|rollout| &rollout.refused);
        if let Some(refused) = refused.find(|refused| refused.digest == target.digest && !how.force) {
            bail!(
                "{} was rolled back before ({}); --force has it tried again",
                target.digest,
                refused.reason
            );
        }
        desired.base = base_of_next(&before, rollout.as_ref());
        if desired.base.len() > LAYERS_MAX {
            bail!("there are {LAYERS_MAX} roll-outs by labels upon each other: roll one out to all first");
        }
        Ok(desired)
    }
}
