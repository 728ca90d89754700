//! What operators do: bring components to a fleet, roll them out, and look at what becomes of them.

mod follow;
mod roll_out;

use std::fmt::Display;
use std::time::Duration;

use anyhow::bail;
use clap::Args;
use serde::Serialize;

use super::decide::{is_under_way, of};
use super::options::ReachArgs;
use super::records::{Desired, Drain, FIRST_FORMAT, PROGRAM, Rollout, check_group, check_name};
use super::store::{HOST_TIME, Making, NotWritten, Store, open};
use super::view::{GroupView, View, progress_line};
use crate::cli::options::parse_duration;
use crate::cli::output;
pub use follow::Watch;
pub use roll_out::{Push, RollOut, Upgrade};

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

    /// Says what was done: as JSON, or in a line.
    fn say(&self, value: &impl Serialize, line: impl Display) -> anyhow::Result<()> {
        match self.json {
            true => output::print_json(value),
            false => output::print_line(line),
        }
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
        let mut names = view.handler_slots();
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

    /// How many servers of a cluster are to keep them: 1, unless it was said before
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u8).range(1..=5))]
    replicas: Option<u8>,

    /// How long what a host says of itself holds: 15s, unless it was said before; a host says it three times as often
    #[arg(long, value_name = "TIME", value_parser = parse_host_time)]
    host_time: Option<Duration>,
}

fn parse_host_time(text: &str) -> Result<Duration, String> {
    match parse_duration(text)? {
        time if time >= Duration::from_secs(1) => Ok(time),
        _ => Err("it must be at least 1s".to_owned()),
    }
}

impl Init {
    pub async fn run(self) -> anyhow::Result<()> {
        let replicas = self.replicas.map(usize::from);
        let default = Making::default();
        let making = Making {
            replicas: replicas.unwrap_or(default.replicas),
            host_time: self.host_time.unwrap_or(default.host_time),
        };
        let store = self.at.open(making).await?;
        let replicas = store.remake(replicas, self.host_time).await.map_err(anyhow::Error::msg)?;
        let time = humantime::format_duration(store.host_time());
        let value = serde_json::json!({ "host_time": time.to_string(), "replicas": replicas });
        let kept_by = if replicas == 1 { "one server".to_owned() } else { format!("{replicas} servers") };
        let line = "what a host says of itself holds for";
        self.at.say(&value, format_args!("the buckets are there, kept by {kept_by}; {line} {time}"))
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
        let (desired, revision) =
            store.read(&store.records, &key("desired")).await.map_err(anyhow::Error::msg)?;
        let (rollout, _) = store.read(&store.records, &key("rollout")).await.map_err(anyhow::Error::msg)?;
        let wrong = desired.as_ref().and_then(|desired: &Result<Desired, String>| desired.as_ref().err());
        let wrong =
            wrong.or(rollout.as_ref().and_then(|rollout: &Result<Rollout, String>| rollout.as_ref().err()));
        if let Some(reason) = wrong.filter(|_| !is_forced) {
            return Err(readable(reason));
        }
        let is_driven = !matches!(rollout, Some(Err(_)));
        let mut next = next((desired.and_then(Result::ok), rollout.and_then(Result::ok)))?;
        next.format = next.format();
        if !is_driven {
            // Nobody could say how far it is.
            store.remove(&store.records, &key("rollout"), None).await.map_err(anyhow::Error::msg)?;
        }
        match store.write(&store.records, &key("desired"), &next, revision).await {
            Ok(_) => return Ok(next.generation),
            Err(NotWritten::Conflict) => continue,
            Err(NotWritten::Failed(trouble)) => bail!("{trouble}"),
        }
    }
    bail!("others change {group}/{slot} all the time: try again")
}

/// One slot's roll-out.
#[derive(Args, Debug)]
pub struct One {
    #[command(flatten)]
    at: At,
    #[command(flatten)]
    of: Of,

    /// That of the program itself
    #[arg(long, conflicts_with = "slot")]
    program: bool,
}

impl One {
    /// Has it pause or go on.
    pub async fn pause(self, is_paused: bool) -> anyhow::Result<()> {
        let said = if is_paused { "pauses" } else { "goes on" };
        self.change(said, true, |desired| desired.is_paused = is_paused).await
    }

    /// Takes it back.
    pub async fn roll_back(self) -> anyhow::Result<()> {
        self.change("is rolled back", false, |desired| desired.is_rolled_back = true).await
    }

    /// Changes the record of the roll-out that is there, perhaps only while that is under way.
    async fn change(
        self,
        said: &str,
        must_run: bool,
        change_it: impl Fn(&mut Desired),
    ) -> anyhow::Result<()> {
        let store = self.at.connect().await?;
        let group = &self.of.group;
        let slot = match self.program {
            true => PROGRAM.to_owned(),
            false => self.of.slot(&View::of_group(&store, group).await?)?,
        };
        let generation = change(&store, group, &slot, false, |(desired, rollout)| {
            let Some(mut desired) = desired else { bail!("nothing was ever rolled out to {group}/{slot}") };
            if must_run && !is_under_way(&desired, rollout.as_ref()) {
                let stands = progress_line(group, &slot, &desired, of(&desired, rollout.as_ref()));
                bail!("{stands}: it can neither pause nor go on");
            }
            change_it(&mut desired);
            Ok(desired)
        });
        let generation = generation.await?;
        let value = serde_json::json!({ "group": group, "slot": slot, "generation": generation });
        self.at.say(&value, format_args!("{group}/{slot}: roll-out {generation} {said}"))
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
            true => store.put(&store.records, &key, &Drain { format: FIRST_FORMAT }).await.map(drop),
            false => store.remove(&store.records, &key, None).await,
        };
        done.map_err(anyhow::Error::msg)?;
        let said = if is_drained { "is to accept nothing" } else { "is to accept again" };
        let value = serde_json::json!({ "group": group, "host": host, "drained": is_drained });
        self.at.say(&value, format_args!("{group}/{host} {said}"))
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
        self.at.say(&view.rollouts(), view.status_table(output::width()).trim_end())
    }

    pub async fn hosts(self) -> anyhow::Result<()> {
        let view = self.view().await?;
        let hosts: Vec<_> = view.all_hosts().collect();
        self.at.say(&hosts, view.hosts_table(output::width()).trim_end())
    }

    async fn view(&self) -> anyhow::Result<View> {
        View::of(&self.at.connect().await?, self.group.as_deref()).await
    }
}

/// Unless the bucket says otherwise.
const _: () = assert!(HOST_TIME.as_secs() == 15, "as the help says");
