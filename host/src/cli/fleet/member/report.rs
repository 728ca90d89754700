//! What a host says of itself, again and again, under its name; and beside it, where another host has that name.

use std::fs::File;
use std::time::Instant;

use plugsock::control::{FleetStatus, ServerState};
use plugsock::{VersionState, VersionStats};

use super::super::kept::Kept;
use super::super::options::Membership;
use super::super::records::{FIRST_FORMAT, HostStatus, SlotStatus};
use super::super::store::{NotWritten, Store};
use super::super::view::{refusals, rollout_status};
use super::Member;
use super::subject::Subject;
use crate::cli::registry::jittered;

/// What is complained of where another has the name.
const NAME: &str = "its name";

/// The record under a host's name.
#[derive(Default)]
pub(super) struct Place {
    /// That no other process which keeps things in the same directory is this host.
    claim: Option<File>,
    /// What told this host from others before it was killed.
    before: Option<String>,
    /// Of this host's last word there.
    revision: Option<u64>,
    /// Of another's word there, when it was first seen. Who is dead says it no more.
    other: Option<u64>,
    /// Of this host's last word beside it.
    beside: Option<u64>,
}

/// Whose a name is.
enum Whose {
    Ours,
    /// It has another's word, who may be dead.
    Unknown,
    Anothers,
}

impl Place {
    /// Has the last word of a process that was killed be this host's own.
    fn claim(&mut self, kept: &Kept, instance: &str) {
        if self.claim.is_some() {
            return;
        }
        self.claim = kept.claim();
        if self.claim.is_some() {
            self.before = kept.instance();
            kept.keep_instance(instance);
        }
    }

    fn is_ours(&self, there: &HostStatus, status: &HostStatus) -> bool {
        there.instance == status.instance || self.before.as_ref() == Some(&there.instance)
    }

    /// Says what this host is, if the name is its own, and never over what another says.
    async fn say(&mut self, store: &Store, key: &str, status: &HostStatus) -> Result<Whose, String> {
        if let Some(revision) = self.revision {
            match store.write(&store.hosts, key, status, revision).await {
                Ok(revision) => {
                    self.revision = Some(revision);
                    return Ok(Whose::Ours);
                }
                // It was there for too long, or somebody has written it since.
                Err(NotWritten::Conflict) => {
                    self.revision = None;
                    store.learn_host_time().await?;
                }
                Err(NotWritten::Failed(trouble)) => return Err(trouble.into()),
            }
        }
        let (there, revision) = store.read::<HostStatus>(&store.hosts, key).await?;
        let is_ours = match &there {
            None => true,
            Some(there) => there.as_ref().is_ok_and(|there| self.is_ours(there, status)),
        };
        if !is_ours {
            let is_alive = self.other.is_some_and(|before| before != revision);
            self.other.get_or_insert(revision);
            return Ok(if is_alive { Whose::Anothers } else { Whose::Unknown });
        }
        match store.write(&store.hosts, key, status, revision).await {
            Ok(revision) => {
                (self.revision, self.other) = (Some(revision), None);
                Ok(Whose::Ours)
            }
            Err(NotWritten::Conflict) => Ok(Whose::Unknown),
            Err(NotWritten::Failed(trouble)) => Err(trouble.into()),
        }
    }
}

impl Member {
    fn status_key(&self) -> String {
        format!("status.{}.{}", self.membership.group, self.membership.host)
    }

    /// Where it speaks that has not the name.
    fn key_beside(&self) -> String {
        format!("{}={}", self.status_key(), self.part.instance())
    }

    pub(super) async fn report(&mut self, store: &Store) {
        self.report_at = Instant::now() + jittered(store.host_time() / 3);
        if self.part.is_handed_over() {
            return;
        }
        self.place.claim(&self.kept, self.part.instance());
        let status = self.status();
        let said = match self.place.say(store, &self.status_key(), &status).await {
            Ok(Whose::Anothers) => self.say_beside(store).await,
            Ok(Whose::Ours) => {
                self.complaints.about(NAME, None);
                self.leave_beside(store).await
            }
            Ok(Whose::Unknown) => Ok(()),
            Err(reason) => Err(reason),
        };
        self.complaints.about("status", said.err());
    }

    async fn say_beside(&mut self, store: &Store) -> Result<(), String> {
        let Membership { group, host, .. } = &self.membership;
        let reason = format!(
            "another host of group {group} is {host} already, and this one does not count: it serves on, and one of the \
             two is to be started with another --fleet-host"
        );
        self.complaints.about(NAME, Some(reason));
        let status = self.status();
        self.place.beside = Some(store.put(&store.hosts, &self.key_beside(), &status).await?);
        Ok(())
    }

    async fn leave_beside(&mut self, store: &Store) -> Result<(), String> {
        match self.place.beside.take() {
            Some(revision) => Ok(store.remove(&store.hosts, &self.key_beside(), Some(revision)).await?),
            None => Ok(()),
        }
    }

    /// Takes back what it has said, when it ends.
    pub(super) async fn leave(&mut self, store: &Store) {
        if let Some(revision) = self.place.revision.take() {
            let _ = store.remove(&store.hosts, &self.status_key(), Some(revision)).await;
        }
        let _ = self.leave_beside(store).await;
    }

    pub(super) fn status(&self) -> HostStatus {
        let servers = self.servers();
        let states = servers.iter().map(|bound| match &bound.server {
            server if server.is_drained() => ServerState::Drained,
            server if server.is_paused() => ServerState::Draining,
            _ => ServerState::Accepting,
        });
        let slots = self.subjects().into_iter().map(|(name, subject)| {
            let status = self.slot_status(&name, &subject);
            (name, status)
        });
        let Membership { group, host, labels, .. } = self.membership.clone();
        HostStatus {
            format: FIRST_FORMAT,
            host,
            group,
            instance: self.part.instance().to_owned(),
            labels,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            state: states.min_by_key(|state| *state as u8).unwrap_or(ServerState::Closed),
            open: servers.iter().map(|bound| bound.server.open_requests()).sum(),
            slots: slots.collect(),
            problems: self.complaints.list(),
        }
    }

    fn slot_status(&self, name: &str, subject: &Subject) -> SlotStatus {
        let (ended, failed) = match subject {
            Subject::Handler(plug) => {
                let mut versions = plug.slot.versions().into_iter();
                let serving = versions.find(|version| version.state == VersionState::Serving);
                serving.map_or((0, 0), |VersionStats { ended, failed, .. }| (ended, failed))
            }
            // It has served what its handlers have, all of them.
            Subject::Program(_) => {
                let versions = self.plugs().into_values().flat_map(|plug| plug.slot.versions());
                versions
                    .fold((0, 0), |(ended, failed), version| (ended + version.ended, failed + version.failed))
            }
        };
        let state = self.states.get(name);
        let generation = state.map_or(0, |state| state.generation);
        let refused = state.and_then(|state| state.refused.as_ref()).filter(|(of, ..)| *of == generation);
        let refused = refused.map(|(.., reason)| reason.clone());
        SlotStatus { digest: subject.digest(), generation, ended, failed, refused }
    }

    /// Has the rest of this program know what the fleet says.
    pub(super) fn show(&self, connected: bool) {
        let Membership { group, host, .. } = self.membership.clone();
        let known = self.slots.iter().map(|(name, slot)| (name, &slot.known));
        let rollouts = known.filter_map(|(name, known)| {
            Some(rollout_status(name, known.desired.as_ref()?, known.rollout.as_ref()))
        });
        let status = self.status();
        let problems = self.complaints.list().into_iter().chain(refusals(&group, &status)).collect();
        self.part.show(FleetStatus { host, connected, rollouts: rollouts.collect(), problems, group });
    }
}
