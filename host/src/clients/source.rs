//! What counts as one source of requests, and how many of each are open.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::address::SocketAddress;
use crate::request::UnixCredentials;

/// Whom a client is counted under. Whoever has one IPv6 address mostly has its whole network of 64 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Source {
    V4([u8; 4]),
    /// The first 64 bits.
    V6([u8; 8]),
    User(u32),
}

impl Source {
    /// `None` for a client of which nothing is known.
    pub(super) fn of(client: &SocketAddress, credentials: Option<UnixCredentials>) -> Option<Self> {
        match client {
            SocketAddress::Inet(address) => Some(match address.ip().to_canonical() {
                IpAddr::V4(v4) => Self::V4(v4.octets()),
                IpAddr::V6(v6) => {
                    let [a, b, c, d, e, f, g, h, ..] = v6.octets();
                    Self::V6([a, b, c, d, e, f, g, h])
                }
            }),
            SocketAddress::Unix(_) => credentials.map(|from| Self::User(from.uid)),
        }
    }
}

/// Counts the open requests of each source that has any.
#[derive(Debug, Default)]
pub(super) struct OpenBySource(Mutex<HashMap<Source, usize>>);

/// One open request of a source; counted until it is dropped.
#[derive(Debug)]
pub(crate) struct SourceCount {
    open: Arc<OpenBySource>,
    source: Source,
}

impl OpenBySource {
    pub(super) fn enter(self: &Arc<Self>, source: Source, max: usize) -> Option<SourceCount> {
        let mut open = self.counts();
        if open.get(&source).is_some_and(|count| *count >= max) {
            return None;
        }
        *open.entry(source).or_default() += 1;
        Some(SourceCount { open: self.clone(), source })
    }

    fn counts(&self) -> MutexGuard<'_, HashMap<Source, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for SourceCount {
    fn drop(&mut self) {
        let mut open = self.open.counts();
        if let Some(count) = open.get_mut(&self.source) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.source);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::UnixAddress;

    fn source(address: &str) -> Option<Source> {
        Source::of(&SocketAddress::Inet(address.parse().unwrap()), None)
    }

    #[test]
    fn a_source_is_an_address_a_network_or_a_user() {
        assert_eq!(source("10.0.0.1:1"), source("10.0.0.1:2"));
        assert_ne!(source("10.0.0.1:1"), source("10.0.0.2:1"));
        assert_eq!(source("10.0.0.1:1"), source("[::ffff:10.0.0.1]:1"));
        assert_eq!(source("[2001:db8::1]:1"), source("[2001:db8::ffff:1]:2"));
        assert_ne!(source("[2001:db8::1]:1"), source("[2001:db8:0:1::1]:1"));
        let of_user = |uid| {
            let credentials = UnixCredentials { pid: None, uid, gid: 0 };
            Source::of(&UnixAddress::Unnamed.into(), Some(credentials))
        };
        assert_eq!(of_user(5), of_user(5));
        assert_ne!(of_user(5), of_user(6));
        assert_eq!(Source::of(&UnixAddress::Unnamed.into(), None), None);
    }

    #[test]
    fn what_is_dropped_is_counted_no_more() {
        let open = Arc::new(OpenBySource::default());
        let enter = |user| open.enter(Source::User(user), 2);
        let places = (enter(1).unwrap(), enter(1).unwrap());
        assert!(enter(1).is_none());
        assert!(enter(2).is_some());
        drop(places);
        assert!(enter(1).is_some());
        assert!(open.counts().is_empty());
    }
}
