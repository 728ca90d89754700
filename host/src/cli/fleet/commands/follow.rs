//! What becomes of roll-outs, told as it happens.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::bail;
use bytes::Bytes;
use clap::Args;
use serde::de::DeserializeOwned;
use tokio::time::{Instant, timeout_at};

use super::super::decide::of;
use super::super::records::{Desired, Progress, Rollout, check_group, parse};
use super::super::store::Store;
use super::super::view::progress_line;
use super::At;
use crate::cli::ctl::tables::printable;
use crate::cli::output;

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

/// Takes a record in, if it is there and can be read.
fn take<T: DeserializeOwned>(known: &mut Option<T>, value: &Option<Bytes>) -> Result<(), String> {
    *known = None;
    *known = value.as_ref().map(|value| parse(value)).transpose()?;
    Ok(())
}

/// Says what becomes of roll-outs: of one until its end, or of all for ever.
pub(super) async fn follow(
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
        let readable = match (kind, &change.value) {
            ("desired", value) => take(&mut entry.0, value),
            ("rollout", value) => take(&mut entry.1, value),
            _ => continue,
        };
        if let Some((of, generation)) = until {
            // What was to be served before may be told first, and what follows may be all that is told.
            let now = entry.0.as_ref().map(|desired| desired.generation);
            match now {
                _ if of != slot => continue,
                Some(now) if now < generation => continue,
                Some(now) if now > generation => bail!("roll-out {now} has taken its place"),
                None if kind == "desired" => bail!("its record was removed, or can be read no more"),
                _ => {}
            }
        }
        if let Err(reason) = readable {
            let line = format!("{}: {reason}", change.key);
            match json {
                true => output::print_line(
                    serde_json::json!({ "group": group, "slot": slot, "problem": reason }),
                )?,
                false => output::print_line(printable(line))?,
            }
        }
        let (Some(desired), rollout) = (&entry.0, &entry.1) else { continue };
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
            match json {
                true => output::print_line(told)?,
                false => output::print_line(line)?,
            }
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
