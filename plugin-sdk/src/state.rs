//! State that outlives a request: the stores that the server grants.

use std::error::Error;
use std::fmt;

use crate::ServerInfo;
use crate::bindings::state::wasi::keyvalue::atomics::{self, Cas, CasError};
use crate::bindings::state::wasi::keyvalue::batch;
use crate::bindings::state::wasi::keyvalue::store::{self, Bucket};

impl ServerInfo {
    /// Opens the store that the server grants under this name (`--state NAME=…`).
    ///
    /// ```no_run
    /// use plugsock_sdk::{Result, StreamRequest, StreamRequestHandler, export};
    /// use std::io::Write;
    ///
    /// #[derive(Default)]
    /// struct Visits;
    ///
    /// impl StreamRequestHandler for Visits {
    ///     fn handle(&mut self, request: &mut StreamRequest) -> Result {
    ///         let visits = request.server().state("counts")?.increment("visits", 1)?;
    ///         Ok(writeln!(request.wfile, "You are visitor {visits}.")?)
    ///     }
    /// }
    ///
    /// export!(Visits: StreamRequestHandler);
    /// ```
    pub fn state(&self, name: &str) -> Result<Store, StateError> {
        Ok(Store(store::open(name)?))
    }
}

/// Values by their keys, which all requests of all handlers share that are granted the store.
pub struct Store(Bucket);

impl Store {
    /// The value of a key, if it has one.
    pub fn get(&self, key: &str) -> Result<Option<Vec<u8>>, StateError> {
        Ok(self.0.get(key)?)
    }

    /// Sets the value of a key, whether it had one or not.
    pub fn set(&self, key: &str, value: impl AsRef<[u8]>) -> Result<(), StateError> {
        Ok(self.0.set(key, value.as_ref())?)
    }

    /// Deletes a key; nothing happens if it has no value.
    pub fn delete(&self, key: &str) -> Result<(), StateError> {
        Ok(self.0.delete(key)?)
    }

    /// Whether a key has a value.
    pub fn exists(&self, key: &str) -> Result<bool, StateError> {
        Ok(self.0.exists(key)?)
    }

    /// Adds to the number that a key has, and returns the sum, whoever else adds to it at once. A key without a value has 0;
    /// the value is the number as decimal text.
    pub fn increment(&self, key: &str, delta: i64) -> Result<i64, StateError> {
        Ok(atomics::increment(&self.0, key, delta)?)
    }

    /// Replaces the value of a key if it is the one expected, `None` for none; whether it was.
    pub fn compare_and_swap(
        &self,
        key: &str,
        expected: Option<&[u8]>,
        value: impl AsRef<[u8]>,
    ) -> Result<bool, StateError> {
        let seen = Cas::new(&self.0, key)?;
        if seen.current()?.as_deref() != expected {
            return Ok(false);
        }
        match atomics::swap(seen, value.as_ref()) {
            Ok(()) => Ok(true),
            Err(CasError::CasFailed(_)) => Ok(false),
            Err(CasError::StoreError(error)) => Err(error.into()),
        }
    }

    /// Replaces the value of a key by what `change` makes of it, and returns that. If somebody else changes the value meanwhile,
    /// `change` is asked again.
    pub fn update(
        &self,
        key: &str,
        mut change: impl FnMut(Option<Vec<u8>>) -> Vec<u8>,
    ) -> Result<Vec<u8>, StateError> {
        let mut seen = Cas::new(&self.0, key)?;
        loop {
            let value = change(seen.current()?);
            match atomics::swap(seen, &value) {
                Ok(()) => return Ok(value),
                Err(CasError::CasFailed(again)) => seen = again,
                Err(CasError::StoreError(error)) => return Err(error.into()),
            }
        }
    }

    /// All keys that begin with `prefix`, in order. It has the whole store looked through.
    pub fn keys(&self, prefix: &str) -> Result<Vec<String>, StateError> {
        let (mut keys, mut cursor) = (Vec::new(), None);
        loop {
            let page = self.0.list_keys(cursor.as_deref())?;
            keys.extend(page.keys.into_iter().filter(|key| key.starts_with(prefix)));
            cursor = page.cursor;
            if cursor.is_none() {
                keys.sort_unstable();
                // A store may show a key twice that others work on meanwhile.
                keys.dedup();
                return Ok(keys);
            }
        }
    }

    /// The values of several keys, in their order.
    pub fn get_many(&self, keys: &[String]) -> Result<Vec<Option<Vec<u8>>>, StateError> {
        let entries = batch::get_many(&self.0, keys)?;
        Ok(entries.into_iter().map(|entry| entry.map(|(_, value)| value)).collect())
    }

    /// Sets several keys; after an error some may be set.
    pub fn set_many(&self, entries: &[(String, Vec<u8>)]) -> Result<(), StateError> {
        Ok(batch::set_many(&self.0, entries)?)
    }

    /// Deletes several keys; after an error some may be deleted.
    pub fn delete_many(&self, keys: &[String]) -> Result<(), StateError> {
        Ok(batch::delete_many(&self.0, keys)?)
    }
}

/// Why an operation on a store failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StateError {
    /// The server grants no store of this name.
    NoSuchStore,
    /// The server grants the store for reading only.
    AccessDenied,
    /// Anything else, in words.
    Other(String),
}

impl fmt::Display for StateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            StateError::NoSuchStore => "the server grants no store of this name",
            StateError::AccessDenied => "the server grants the store for reading only",
            StateError::Other(words) => words,
        })
    }
}

impl Error for StateError {}

impl From<store::Error> for StateError {
    fn from(error: store::Error) -> Self {
        match error {
            store::Error::NoSuchStore => StateError::NoSuchStore,
            store::Error::AccessDenied => StateError::AccessDenied,
            store::Error::Other(words) => StateError::Other(words),
        }
    }
}
