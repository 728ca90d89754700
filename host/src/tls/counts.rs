//! How the handshakes of one server went.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use super::{TlsError, TlsInfo};

/// How many handshakes came to what.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Handshakes {
    /// Those that were done, by the version of the protocol.
    pub done: BTreeMap<String, u64>,
    /// Those of them that resumed an earlier session.
    pub resumed: u64,
    /// Those that failed, by the reason's name.
    pub failed: BTreeMap<String, u64>,
}

#[derive(Debug, Default)]
pub(crate) struct HandshakeCounts(Mutex<Handshakes>);

impl HandshakeCounts {
    pub(crate) fn count(&self, handshake: &Result<TlsInfo, TlsError>) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match handshake {
            Ok(info) => {
                *counts.done.entry(info.protocol.clone()).or_default() += 1;
                counts.resumed += u64::from(info.resumed);
            }
            Err(error) => *counts.failed.entry(error.name().to_owned()).or_default() += 1,
        }
    }

    pub(crate) fn so_far(&self) -> Handshakes {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
