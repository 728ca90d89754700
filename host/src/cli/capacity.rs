//! Whether the system can carry as many open requests as were asked for; if not, what to set.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors beyond one for each request: listeners, the log, epoll, the cache.
const OWN_DESCRIPTORS: u64 = 64;

/// Memory areas of an open request: linear memory, table and stack, each beside what is not accessible.
const AREAS_A_REQUEST: u64 = 5;

/// Memory areas of a host without requests.
const OWN_AREAS: u64 = 2000;

/// Raises the limit on descriptors as far as this user may, and warns of what will not do.
pub fn prepare(max_requests: usize) {
    let requests = max_requests as u64;
    let descriptors = requests + OWN_DESCRIPTORS;
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_some_and(|current| current < descriptors) {
        let most = limit.maximum.map_or(descriptors, |maximum| maximum.max(descriptors));
        // Root may raise the maximum too; others get what there is.
        let raised = Rlimit { current: Some(descriptors), maximum: Some(most) };
        if setrlimit(Resource::Nofile, raised).is_err() {
            let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
        }
        if let Some(allowed) = getrlimit(Resource::Nofile).current.filter(|allowed| *allowed < descriptors) {
            tracing::warn!(
                "{requests} open requests need {descriptors} descriptors and this process may have {allowed}: \
                 raise `ulimit -Hn` to {descriptors} before the start, or lower --max-requests"
            );
        }
    }
    let areas = requests * AREAS_A_REQUEST + OWN_AREAS;
    if max_map_count().is_some_and(|max| max < areas) {
        tracing::warn!(
            "{requests} open requests may need {areas} memory areas and the kernel allows fewer: run `sysctl -w \
             vm.max_map_count={areas}` as root, or lower --max-requests"
        );
    }
}

fn max_map_count() -> Option<u64> {
    std::fs::read_to_string("/proc/sys/vm/max_map_count").ok()?.trim().parse().ok()
}
