//! Users and groups: whose a socket file is, and whom the host becomes once its addresses are bound.

use std::ffi::CString;
use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::Args;
use nix::unistd::{Gid, Group, Uid, User, initgroups, setgid, setgroups, setuid};
use rustix::process::DumpableBehavior;

#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Privileges")]
pub struct PrivilegeArgs {
    /// Become this user, and this group or else the user's own, once the addresses are bound (only as root)
    #[arg(long, value_name = "USER[:GROUP]", value_parser = parse_identity)]
    user: Option<Identity>,
}

/// Whom a process becomes.
#[derive(Clone, Debug)]
struct Identity {
    user: Uid,
    group: Gid,
    /// Whose supplementary groups come along; an id without an entry has none.
    name: Option<CString>,
    /// Where its files are; an id without an entry has no place of its own.
    home: PathBuf,
}

impl PrivilegeArgs {
    /// Becomes the user that was asked for, with no way back; that user's home, if it is another than was before.
    pub fn drop(&self) -> anyhow::Result<Option<PathBuf>> {
        let Some(Identity { user, group, name, home }) = &self.user else { return Ok(None) };
        if (Uid::effective(), Gid::effective()) == (*user, *group) {
            // Perhaps since the process before this one has become that user, whose environment was another's.
            let is_own = std::env::var_os("HOME").is_some_and(|own| own == *home);
            return Ok(Some(home.clone()).filter(|_| !is_own));
        }
        if !Uid::effective().is_root() {
            bail!("only root can become another user: start as root, or leave --user out");
        }
        match name {
            Some(name) => initgroups(name, *group),
            None => setgroups(&[*group]),
        }
        .context("cannot set the groups")?;
        setgid(*group).with_context(|| format!("cannot become group {group}"))?;
        setuid(*user).with_context(|| format!("cannot become user {user}"))?;
        // Otherwise /proc/self, and with it this executable, would be root's: a fork server is started from
        // there.
        rustix::process::set_dumpable_behavior(DumpableBehavior::Dumpable).context("cannot stay dumpable")?;
        Ok(Some(home.clone()))
    }
}

fn parse_identity(text: &str) -> Result<Identity, String> {
    let (user, group) = match text.split_once(':') {
        Some((user, group)) => (user, Some(parse_group(group)?)),
        None => (text, None),
    };
    let entry = find_user(user)?;
    let id = match &entry {
        Some(entry) => entry.uid,
        None => Uid::from_raw(parse_user(user)?),
    };
    // A user without an entry has, by custom, a group of the same number.
    let own_group = entry.as_ref().map_or(Gid::from_raw(id.as_raw()), |entry| entry.gid);
    let home = entry.as_ref().map_or_else(|| "/nonexistent".into(), |entry| entry.dir.clone());
    let name = entry.and_then(|entry| CString::new(entry.name).ok());
    Ok(Identity { user: id, group: group.map_or(own_group, Gid::from_raw), name, home })
}

/// A user's id, from its name or itself.
pub fn parse_user(text: &str) -> Result<u32, String> {
    match (find_user(text)?, text.parse()) {
        (Some(user), _) => Ok(user.uid.as_raw()),
        (None, Ok(id)) => Ok(id),
        (None, Err(_)) => Err(format!("there is no user '{text}': name one of /etc/passwd, or give an id")),
    }
}

/// A group's id, from its name or itself.
pub fn parse_group(text: &str) -> Result<u32, String> {
    let found = Group::from_name(text).map_err(|error| error.to_string())?;
    match (found, text.parse()) {
        (Some(group), _) => Ok(group.gid.as_raw()),
        (None, Ok(id)) => Ok(id),
        (None, Err(_)) => Err(format!("there is no group '{text}': name one of /etc/group, or give an id")),
    }
}

fn find_user(text: &str) -> Result<Option<User>, String> {
    let found = match text.parse() {
        Ok(id) => User::from_uid(Uid::from_raw(id)),
        Err(_) => User::from_name(text),
    };
    found.map_err(|error| error.to_string())
}
