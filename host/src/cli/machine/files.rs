//! Files that a host makes.

use std::fs;

use plugsock::{CacheOptions, shown};
use rustix::process::{Resource, getrlimit};

use super::{Finding, Verdict, shown_limit};

/// The largest that a component may be by default; what it compiles to is some times as large.
const COMPONENT: u64 = 256 << 20;

pub fn file_size() -> Finding {
    let limit = getrlimit(Resource::Fsize).current;
    let is_low = limit.is_some_and(|limit| limit < COMPONENT);
    Finding::good("file size", shown_limit(limit)).but_if(is_low, Verdict::Lacking, || {
        format!(
            "a component, and what it is compiled to, are no larger than {} bytes here, since they are files in memory: \
             raise `ulimit -f`",
            shown_limit(limit)
        )
    })
}

/// Where compiled handlers are kept.
pub fn cache() -> Finding {
    let what = "cache";
    let remedy = "each start compiles handlers anew: name a directory of this user's with --cache-dir";
    let Some(CacheOptions { directory, .. }) = CacheOptions::for_user() else {
        return Finding::good(what, "this user has no home").but(Verdict::Lacking, remedy);
    };
    let found = shown(&directory);
    let made = fs::create_dir_all(&directory).and_then(|()| tempfile::tempfile_in(&directory));
    match made {
        Ok(_) => Finding::good(what, found),
        Err(error) => Finding::good(what, found).but(Verdict::Lacking, format!("{error}: {remedy}")),
    }
}
