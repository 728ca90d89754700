//! What operators do: bring components to a fleet, roll them out, and look at what becomes of them.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use plugsock::{Digest, RollbackPolicy, Trust, shown, signature_path};
use serde::Serialize;
use tokio::time::{Instant, timeout_at};

use super::decide::{base_of_next, is_under_way, of};
use super::options::{ReachArgs, parse_label};
use super::records::{
    Desired, Drain, FORMAT, Progress, Rollout, Stage, Version, check_group, check_name, parse,
};
use super::store::{HOST_TIME, Making, NotWritten, Store, open};
use super::view::{GroupView, View, progress_line};
use crate::cli::handler_source::HandlerSource;
use crate::cli::keys::read_secret_key;
use crate::cli::options::parse_duration;
use crate::cli::output;
use crate::cli::registry::RegistryArgs;
use crate::cli::sign::signature_of;

/// As many layers as a roll-out may stand on.
const LAYERS_MAX: usize = 16;

/// How often a record is written again that somebody else has changed meanwhile.
const ATTEMPTS: usize = 5;

// Which fleet is asked, and in what form it answers: also by the environment, which no host that is started beside it joins by.
#[derive(Args, Debug)]
#[command(mut_arg("fleet", |arg| arg.env("PLUGSOCK_FLEET").hide_env_values(true)))]
pub struct At {
    #[command(flatten)]
    reach: ReachArgs,

    /// Print the answer as JSON
    #[arg(long)]
    pub json: bool,
}

impl At {
    pub async fn connect(&self) -> anyhow::Result<Store> {
        self.open(Making::default()).await
    }

    async fn open(&self, making: Making) -> anyhow::Result<Store> {
        let Some(reach) = self.reach.reach() else {
            bail!("say with --fleet, or in PLUGSOCK_FLEET, where NATS is, as in nats://127.0.0.1:4222");
        };
        let opened = open(&reach, "plugsock fleet", making).await.map_err(anyhow::Error::msg);
        Ok(opened?.0)
    }
}

/// Which slot is meant.
#[derive(Args, Debug)]
pub struct Of {
    /// The group of hosts
    #[arg(long, value_name = "NAME", default_value = "default", value_parser = check_group)]
    pub group: String,

    /// The slot, if the group's hosts have several
    #[arg(long, value_name = "NAME", value_parser = check_name)]
    slot: Option<String>,
}

impl Of {
    /// The slot that was named, or the only one.
    fn slot(&self, view: &GroupView) -> anyhow::Result<String> {
        if let Some(slot) = &self.slot {
            return Ok(slot.clone());
        }
        let mut names = view.slot_names();
        match names.len() {
            1 => Ok(names.remove(0)),
            0 => bail!("no host of group {} is there: name the slot with --slot", self.group),
            _ => bail!("name one with --slot: group {} has {}", self.group, names.join(", ")),
        }
    }
}

/// Make the buckets that a fleet needs, for those who may not make them themselves
#[derive(Args, Debug)]
pub struct Init {
    #[command(flatten)]
    at: At,

    /// How many servers of a cluster are to keep them
    #[arg(long, value_name = "COUNT", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=5))]
    replicas: u8,

    /// How long what a host says of itself holds; it says it three times as often
    #[arg(long, value_name = "TIME", default_value = "15s", value_parser = parse_host_time)]
    host_time: Duration,
}

fn parse_host_time(text: &str) -> Result<Duration, String> {
    match parse_duration(text)? {
        time if time >= Duration::from_secs(1) => Ok(time),
        _ => Err("it must be at least 1s".to_owned()),
    }
}

impl Init {
    pub async fn run(self) -> anyhow::Result<()> {
        let making = Making { replicas: self.replicas.into(), host_time: self.host_time };
        let store = self.at.open(making).await?;
        store.make_components(making.replicas).await.map_err(anyhow::Error::msg)?;
        let time = humantime::format_duration(store.host_time());
        output::print(&format!("the buckets are there; what a host says of itself holds for {time}\n"))
    }
}

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
        let version = push(&self.at.connect().await?, &self.file, self.sign.as_deref()).await?;
        match self.at.json {
            true => output::print_json(&version),
            false => output::print(&format!("{}\n", version.digest)),
        }
    }
}

async fn push(store: &Store, file: &Path, sign: Option<&Path>) -> anyhow::Result<Version> {
    let name = shown(Path::new(file.file_name().unwrap_or_default()));
    let component = std::fs::read(file).with_context(|| format!("cannot read {}", shown(file)))?;
    if !component.starts_with(b"\0asm") {
        bail!("{} is not WebAssembly", shown(file));
    }
    let signature = match sign {
        Some(key) => {
            Some(signature_of(&component[..], &read_secret_key(key)?, None).context("cannot sign it")?)
        }
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
        store.keep(&name, &component, signature.as_deref(), replicas).await.map_err(anyhow::Error::msg)?;
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

/// Roll a handler out to a group's hosts, in stages
///
/// Whichever host drives it has each stage's hosts swap to it, and goes on when they have got by the gate. If they do not, or
/// one of them refuses it, all go back to what they had, and the handler is refused from then on.
#[derive(Args, Debug)]
pub struct RollOut {
    #[command(flatten)]
    at: At,
    #[command(flatten)]
    of: Of,

    /// The component's file, which is pushed first, the digest of one that was, or oci://REGISTRY/NAME:TAG
    #[arg(value_name = "FILE|sha256:DIGEST|oci://…")]
    what: What,

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

    #[command(flatten)]
    registry: RegistryArgs,
}

#[derive(Serialize)]
struct Begun<'a> {
    group: &'a str,
    slot: &'a str,
    generation: u64,
    digest: String,
}

impl RollOut {
    pub async fn run(mut self) -> anyhow::Result<()> {
        let store = self.at.connect().await?;
        let group = self.of.group.clone();
        let slot = self.of.slot(&View::of_group(&store, &group).await?)?;
        let target = self.target(&store).await?;
        if !self.stages.last().is_some_and(|stage| stage.is_all()) {
            self.stages.extend(Stage::ALL.parse::<Stage>());
        }
        let generation =
            change(&store, &group, &slot, self.force, |known| self.desired(&group, &slot, &target, known))
                .await?;
        let (name, digest) = (&target.name, target.digest.to_string());
        match self.at.json {
            true => output::print_json(&Begun { group: &group, slot: &slot, generation, digest })?,
            false => {
                let stages = self.stages.iter().map(Stage::to_string).collect::<Vec<_>>().join(",");
                output::print(&format!(
                    "{group}/{slot}: roll-out {generation} of {name} {digest}, in stages {stages}\n"
                ))?;
            }
        }
        if !self.wait {
            return Ok(());
        }
        let deadline = self.timeout.map(|timeout| Instant::now() + timeout);
        follow(&store, &group, Some((&slot, generation)), self.at.json, deadline).await
    }

    async fn target(&self, store: &Store) -> anyhow::Result<Version> {
        match &self.what {
            What::Digest(digest) => {
                let (name, signature) = store.describe(*digest).await.map_err(anyhow::Error::msg)?;
                Ok(Version { digest: *digest, name, source: None, signature })
            }
            What::Source(HandlerSource::File(file)) => push(store, file, self.sign.as_deref()).await,
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

    /// The record that begins it.
    fn desired(
        &self,
        group: &str,
        slot: &str,
        target: &Version,
        (before, rollout): Records,
    ) -> anyhow::Result<Desired> {
        let mut desired = Desired {
            format: FORMAT,
            generation: 1,
            target: target.clone(),
            stages: self.stages.clone(),
            gate: self.gate,
            only: self.only.iter().cloned().collect(),
            base: Vec::new(),
            is_paused: false,
            is_rolled_back: false,
            is_forced: self.force,
        };
        // Also where what was to be served cannot be read, its roll-out is not this one.
        let last = [
            before.as_ref().map(|before| before.generation),
            rollout.as_ref().map(|rollout| rollout.generation),
        ];
        desired.generation = last.into_iter().flatten().max().unwrap_or_default() + 1;
        let Some(before) = before else { return Ok(desired) };
        let which = format!("{group}/{slot}: roll-out {}", before.generation);
        if is_under_way(&before, rollout.as_ref()) {
            bail!("{which} is under way: wait for its end, or take it back with `plugsock fleet rollback`");
        }
        let mut refused = rollout.iter().flat_map(|rollout| &rollout.refused);
        if let Some(refused) = refused.find(|refused| refused.digest == target.digest && !self.force) {
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

/// A slot's records.
type Records = (Option<Desired>, Option<Rollout>);

/// Writes what a slot is to serve, made of what is there; its generation. What nobody can read is overwritten by who insists.
async fn change(
    store: &Store,
    group: &str,
    slot: &str,
    is_forced: bool,
    next: impl Fn(Records) -> anyhow::Result<Desired>,
) -> anyhow::Result<u64> {
    let readable = |reason: &String| {
        anyhow::anyhow!("{reason}; `plugsock fleet rollout --force` puts another in its place")
    };
    let key = |kind: &str| format!("{kind}.{group}.{slot}");
    for _ in 0..ATTEMPTS {
        let (desired, revision) = store.read(&key("desired")).await.map_err(anyhow::Error::msg)?;
        let (rollout, _) = store.read(&key("rollout")).await.map_err(anyhow::Error::msg)?;
        let wrong = desired.as_ref().and_then(|desired: &Result<Desired, String>| desired.as_ref().err());
        let wrong =
            wrong.or(rollout.as_ref().and_then(|rollout: &Result<Rollout, String>| rollout.as_ref().err()));
        if let Some(reason) = wrong.filter(|_| !is_forced) {
            return Err(readable(reason));
        }
        let next = next((desired.and_then(Result::ok), rollout.and_then(Result::ok)))?;
        match store.write(&store.records, &key("desired"), &next, revision).await {
            Ok(_) => return Ok(next.generation),
            Err(NotWritten::Conflict) => continue,
            Err(NotWritten::Failed(reason)) => bail!(reason),
        }
    }
    bail!("others change {group}/{slot} all the time: try again")
}

/// Say what becomes of a group's roll-outs, as it happens
#[derive(Args, Debug)]
pub struct Watch {
    #[command(flatten)]
    at: At,

    /// The group of hosts
    #[arg(long, value_name = "NAME", default_value = "default", value_parser = check_group)]
    group: String,
}

impl Watch {
    pub async fn run(self) -> anyhow::Result<()> {
        follow(&self.at.connect().await?, &self.group, None, self.at.json, None).await
    }
}

/// Says what becomes of roll-outs: of one until its end, or of all for ever.
async fn follow(
    store: &Store,
    group: &str,
    until: Option<(&str, u64)>,
    json: bool,
    deadline: Option<Instant>,
) -> anyhow::Result<()> {
    let mut changes =
        store.follow(&store.records, &format!("*.{group}.>")).await.map_err(anyhow::Error::msg)?;
    let mut known: BTreeMap<String, (Option<Desired>, Option<Rollout>)> = BTreeMap::new();
    let far = Instant::now() + Duration::from_secs(365 * 24 * 3600);
    let mut said = BTreeMap::new();
    loop {
        let Ok(change) = timeout_at(deadline.unwrap_or(far), changes.next()).await else {
            bail!("it is not complete yet: `plugsock fleet status` says how far it is");
        };
        let change = change.map_err(anyhow::Error::msg)?;
        let mut parts = change.key.splitn(3, '.');
        let (kind, slot) = (parts.next().unwrap_or_default(), parts.nth(1).unwrap_or_default().to_owned());
        let entry = known.entry(slot.clone()).or_default();
        match (kind, &change.value) {
            ("desired", value) => entry.0 = value.as_ref().and_then(|value| parse(value).ok()),
            ("rollout", value) => entry.1 = value.as_ref().and_then(|value| parse(value).ok()),
            _ => continue,
        }
        let (Some(desired), rollout) = (&entry.0, &entry.1) else { continue };
        if until.is_some_and(|(of, generation)| of != slot || generation != desired.generation) {
            continue;
        }
        let rollout = of(desired, rollout.as_ref());
        let line = progress_line(group, &slot, desired, rollout);
        if said.insert(slot.clone(), line.clone()).as_ref() != Some(&line) {
            let progress = rollout.map(|rollout| rollout.progress);
            let told = serde_json::json!({
                "group": group, "slot": slot, "generation": desired.generation, "digest": desired.target.digest.to_string(),
                "progress": progress, "stage": rollout.map(|rollout| rollout.stage + 1), "stages": desired.stages.len(),
                "paused": desired.is_paused, "rolled_back": desired.is_rolled_back,
                "reason": rollout.and_then(|rollout| rollout.reason.clone()),
            });
            output::print(&if json { format!("{told}\n") } else { format!("{line}\n") })?;
        }
        match (until, rollout) {
            (Some(_), Some(rollout)) if rollout.progress == Progress::Complete => return Ok(()),
            (Some(_), Some(Rollout { progress: Progress::Failed, reason, .. })) => {
                bail!("it has failed: {}", reason.as_deref().unwrap_or_default())
            }
            (Some(_), _) if desired.is_rolled_back => bail!("somebody has rolled it back"),
            _ => {}
        }
    }
}

/// One slot's roll-out.
#[derive(Args, Debug)]
pub struct One {
    #[command(flatten)]
    at: At,
    #[command(flatten)]
    of: Of,
}

impl One {
    /// Changes the record of the roll-out that is there.
    pub async fn change(self, said: &str, change_it: impl Fn(&mut Desired)) -> anyhow::Result<()> {
        let store = self.at.connect().await?;
        let group = &self.of.group;
        let slot = self.of.slot(&View::of_group(&store, group).await?)?;
        let generation = change(&store, group, &slot, false, |(desired, _)| {
            let Some(mut desired) = desired else { bail!("nothing was ever rolled out to {group}/{slot}") };
            change_it(&mut desired);
            Ok(desired)
        });
        let generation = generation.await?;
        match self.at.json {
            true => output::print_json(
                &serde_json::json!({ "group": group, "slot": slot, "generation": generation }),
            ),
            false => output::print(&format!("{group}/{slot}: roll-out {generation} {said}\n")),
        }
    }
}

/// One host.
#[derive(Args, Debug)]
pub struct Host {
    #[command(flatten)]
    at: At,

    /// The group of hosts
    #[arg(long, value_name = "NAME", default_value = "default", value_parser = check_group)]
    group: String,

    /// The host, as `plugsock fleet hosts` calls it
    #[arg(value_parser = check_name)]
    host: String,
}

impl Host {
    pub async fn drain(self, is_drained: bool) -> anyhow::Result<()> {
        let store = self.at.connect().await?;
        let (group, host) = (&self.group, &self.host);
        let key = format!("drain.{group}.{host}");
        let view = View::of_group(&store, group).await?;
        if is_drained && !view.hosts.iter().any(|known| known.host == *host) {
            bail!("there is no host {host} in group {group}: `plugsock fleet hosts` says which there are");
        }
        let done = match is_drained {
            true => store.put(&store.records, &key, &Drain { format: FORMAT }).await.map(drop),
            false => {
                store.records.delete(&key).await.map_err(|error| format!("cannot remove {key}: {error}"))
            }
        };
        done.map_err(anyhow::Error::msg)?;
        let said = if is_drained { "is to accept nothing" } else { "is to accept again" };
        match self.at.json {
            true => output::print_json(
                &serde_json::json!({ "group": group, "host": host, "drained": is_drained }),
            ),
            false => output::print(&format!("{group}/{host} {said}\n")),
        }
    }
}

/// What there is.
#[derive(Args, Debug)]
pub struct Look {
    #[command(flatten)]
    at: At,

    /// One group of hosts alone
    #[arg(long, value_name = "NAME", value_parser = check_group)]
    group: Option<String>,
}

impl Look {
    pub async fn status(self) -> anyhow::Result<()> {
        let view = self.view().await?;
        match self.at.json {
            true => output::print_json(&view.rollouts()),
            false => output::print(&view.status_table(output::width())),
        }
    }

    pub async fn hosts(self) -> anyhow::Result<()> {
        let view = self.view().await?;
        match self.at.json {
            true => output::print_json(&view.all_hosts().collect::<Vec<_>>()),
            false => output::print(&view.hosts_table(output::width())),
        }
    }

    async fn view(&self) -> anyhow::Result<View> {
        View::of(&self.at.connect().await?, self.group.as_deref()).await
    }
}

/// Unless the bucket says otherwise.
const _: () = assert!(HOST_TIME.as_secs() == 15, "as the help says");
