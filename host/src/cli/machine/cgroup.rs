//! The limits of the cgroups that this process is in, of version 1 and 2.

use std::fs;
use std::path::{Path, PathBuf};

use super::number;

/// The cgroup that leaves least room, its own or one above it.
pub struct Limit {
    pub max: u64,
    pub used: u64,
    /// Where the limit is set.
    pub file: PathBuf,
}

impl Limit {
    pub fn room(&self) -> u64 {
        self.max.saturating_sub(self.used)
    }
}

/// What version 1 has where nothing is limited is less than this in no machine.
const NO_LIMIT: u64 = 1 << 60;

/// Bytes of memory.
pub fn memory() -> Option<Limit> {
    tightest("memory", ["memory.max", "memory.limit_in_bytes"], ["memory.current", "memory.usage_in_bytes"])
}

/// Processes and threads.
pub fn processes() -> Option<Limit> {
    tightest("pids", ["pids.max"; 2], ["pids.current"; 2])
}

fn tightest(controller: &str, max: [&str; 2], used: [&str; 2]) -> Option<Limit> {
    let limit = |directory: PathBuf| {
        let limits = max.into_iter().zip(used).filter_map(|(max, used)| {
            let file = directory.join(max);
            let max = number(&file).filter(|max| *max < NO_LIMIT)?;
            let used = number::<u64>(directory.join(used)).unwrap_or(0);
            Some(Limit { max, used: used.saturating_sub(reclaimable(&directory)), file })
        });
        limits.min_by_key(Limit::room)
    };
    directories(controller).filter_map(limit).min_by_key(Limit::room)
}

/// What of the memory in use is of files, and given up when it is needed.
fn reclaimable(directory: &Path) -> u64 {
    let stat = fs::read_to_string(directory.join("memory.stat")).unwrap_or_default();
    let of = |name: &str| stat.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<u64>().ok());
    // In version 1 those of the cgroups below are counted by other names.
    let sum = |names: [&str; 2]| names.into_iter().map(of).sum::<Option<u64>>();
    sum(["total_inactive_file ", "total_active_file "])
        .or_else(|| sum(["inactive_file ", "active_file "]))
        .unwrap_or(0)
}

/// Processors, as a share of their time, and where that is set.
pub fn processors() -> Option<(f64, PathBuf)> {
    let quota = |directory: PathBuf| {
        let file = directory.join("cpu.max");
        if let Ok(text) = fs::read_to_string(&file) {
            let (quota, period) = text.trim().split_once(' ')?;
            return Some((quota.parse::<f64>().ok()? / period.parse::<f64>().ok()?, file));
        }
        let file = directory.join("cpu.cfs_quota_us");
        let quota = number(&file).filter(|quota: &f64| *quota > 0.0)?;
        Some((quota / number::<f64>(directory.join("cpu.cfs_period_us"))?, file))
    };
    directories("cpu").filter_map(quota).min_by(|(one, _), (other, _)| one.total_cmp(other))
}

/// This process's cgroup and those above it, as far as they can be seen here, in each hierarchy that may have the
/// controller.
fn directories(controller: &str) -> impl Iterator<Item = PathBuf> {
    let cgroups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let mut found = Vec::new();
    // `HIERARCHY:CONTROLLERS:PATH`, without controllers in version 2.
    for line in cgroups.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(names), Some(path)) = (fields.next(), fields.next()) else { continue };
        if names.is_empty() || names.split(',').any(|name| name == controller) {
            let mount = mounts.lines().find_map(|mount| mounted(mount, names, controller));
            found.extend(
                mount
                    .and_then(|(root, at)| Some((at, at.join(Path::new(path).strip_prefix(root).ok()?))))
                    .map(|(top, own)| (top.to_owned(), own)),
            );
        }
    }
    found.into_iter().flat_map(|(top, own)| {
        let above = own.ancestors().take_while(|directory| directory.starts_with(&top)).map(Path::to_owned);
        above.collect::<Vec<_>>()
    })
}

/// The root and the place of a mounted hierarchy: `ID PARENT DEVICE ROOT PLACE OPTIONS … - TYPE SOURCE OPTIONS`.
fn mounted<'a>(mount: &'a str, names: &str, controller: &str) -> Option<(&'a Path, &'a Path)> {
    let (place, what) = mount.split_once(" - ")?;
    let is_it = match names.is_empty() {
        true => what.starts_with("cgroup2 "),
        false => what.starts_with("cgroup ") && what.split([' ', ',']).any(|option| option == controller),
    };
    let mut fields = place.split(' ').skip(3);
    is_it.then_some((Path::new(fields.next()?), Path::new(fields.next()?)))
}
