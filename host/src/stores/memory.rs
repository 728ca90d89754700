//! A store in this process's memory: it is there as long as the process is.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::future::ready;
use std::ops::Bound;
use std::sync::{Mutex, PoisonError};

use super::entries::{Entries, apply};
use super::limits::{Quota, Totals};
use super::operation::Operation;
use super::{Backend, Running};

#[derive(Debug, Default)]
pub(super) struct Memory(Mutex<Map>);

#[derive(Debug, Default)]
struct Map {
    entries: BTreeMap<String, Vec<u8>>,
    totals: Totals,
}

impl Backend for Memory {
    fn run(&self, operation: Operation, quota: Quota) -> Running<'_> {
        let mut map = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Ok(outcome) = apply(&mut *map, operation, quota);
        Box::pin(ready(outcome))
    }
}

impl Entries for Map {
    type Error = Infallible;

    fn get(&mut self, key: &str) -> Result<Option<Vec<u8>>, Infallible> {
        Ok(self.entries.get(key).cloned())
    }

    fn length(&mut self, key: &str) -> Result<Option<usize>, Infallible> {
        Ok(self.entries.get(key).map(Vec::len))
    }

    fn put(&mut self, key: &str, value: &[u8]) -> Result<(), Infallible> {
        self.entries.insert(key.to_owned(), value.to_owned());
        Ok(())
    }

    fn remove(&mut self, key: &str) -> Result<(), Infallible> {
        self.entries.remove(key);
        Ok(())
    }

    fn keys_after(&mut self, key: Option<&str>, count: usize) -> Result<Vec<String>, Infallible> {
        let from = key.map_or(Bound::Unbounded, Bound::Excluded);
        let keys = self.entries.range::<str, _>((from, Bound::Unbounded)).map(|(key, _)| key.clone());
        Ok(keys.take(count).collect())
    }

    fn totals(&mut self) -> &mut Totals {
        &mut self.totals
    }
}
