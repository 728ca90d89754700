//! A store in this process's memory: it is there as long as the process is, and goes along to one that takes over (`moving.rs`).

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::future::ready;
use std::mem::take;
use std::ops::Bound;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use super::entries::{Entries, apply};
use super::limits::{Quota, Totals};
use super::operation::{Failure, Operation};
use super::{Backend, Outcome, Running};

/// Cloning it is cheap and shares all.
#[derive(Clone, Debug, Default)]
pub(crate) struct Memory(Arc<Mutex<Place>>);

/// Where the entries are.
#[derive(Debug)]
enum Place {
    Here(Map),
    /// On their way to another process; what is asked waits for how that ends.
    Moving(Vec<Asked>),
    /// In another process, which is asked in turn.
    There(Sender<Asked>),
}

impl Default for Place {
    fn default() -> Self {
        Self::Here(Map::default())
    }
}

/// An operation, and who waits for it.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) operation: Operation,
    pub(super) quota: Quota,
    pub(super) reply: oneshot::Sender<Outcome>,
}

#[derive(Debug, Default)]
struct Map {
    entries: BTreeMap<String, Vec<u8>>,
    totals: Totals,
}

/// The entries of a store on their way. Dropped, they are here again.
#[derive(Debug)]
pub(super) struct Moving {
    memory: Memory,
    map: Map,
}

impl Memory {
    /// Takes the entries out; `None` if they are elsewhere.
    pub(super) fn begin_to_move(&self) -> Option<Moving> {
        let mut place = self.place();
        let Place::Here(map) = &mut *place else { return None };
        let map = take(map);
        *place = Place::Moving(Vec::new());
        Some(Moving { memory: self.clone(), map })
    }

    /// Has the entries of another process's store, in the place of its own.
    pub(super) fn take_over(&self, entries: BTreeMap<String, Vec<u8>>) {
        let size = entries.iter().map(|(key, value)| (key.len() + value.len()) as u64).sum();
        let totals = Totals { keys: entries.len() as u64, size };
        *self.place() = Place::Here(Map { entries, totals });
    }

    fn place(&self) -> MutexGuard<'_, Place> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Moving {
    pub(super) fn entries(&self) -> &BTreeMap<String, Vec<u8>> {
        &self.map.entries
    }

    /// From now on they are there.
    pub(super) fn finish(self, there: Sender<Asked>) {
        let mut place = self.memory.place();
        if let Place::Moving(waiting) = &mut *place {
            waiting.drain(..).for_each(|asked| drop(there.send(asked)));
            *place = Place::There(there);
        }
    }
}

impl Drop for Moving {
    fn drop(&mut self) {
        let mut place = self.memory.place();
        let Place::Moving(waiting) = &mut *place else { return };
        let (waiting, mut map) = (take(waiting), take(&mut self.map));
        // Who has given up need not be written for.
        for Asked { operation, quota, reply } in waiting.into_iter().filter(|asked| !asked.reply.is_closed())
        {
            let Ok(outcome) = apply(&mut map, operation, quota);
            let _ = reply.send(outcome);
        }
        *place = Place::Here(map);
    }
}

impl Backend for Memory {
    fn run(&self, operation: Operation, quota: Quota) -> Running<'_> {
        let (reply, outcome) = oneshot::channel();
        let asked = |operation| Asked { operation, quota, reply };
        match &mut *self.place() {
            Place::Here(map) => {
                let Ok(outcome) = apply(map, operation, quota);
                return Box::pin(ready(outcome));
            }
            Place::Moving(waiting) => waiting.push(asked(operation)),
            Place::There(there) => drop(there.send(asked(operation))),
        }
        Box::pin(async { outcome.await.unwrap_or_else(|_| Err(gone())) })
    }

    fn as_memory(&self) -> Option<&Memory> {
        Some(self)
    }
}

/// What is in a process that has ended is nowhere.
pub(super) fn gone() -> Failure {
    Failure::other("the process that has taken the store over has ended")
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block_on::{block_on, poll_once};
    use crate::stores::Answer;
    use std::sync::mpsc::channel;

    fn increment(memory: &Memory) -> Running<'_> {
        memory.run(Operation::Increment("a".to_owned(), 1), Quota::NONE)
    }

    /// What came meanwhile is done, but for what nobody waits for any more.
    #[test]
    fn what_does_not_arrive_goes_on_here() {
        let memory = Memory::default();
        assert_eq!(block_on(increment(&memory)), Ok(Answer::Number(1)));
        let moving = memory.begin_to_move().unwrap();
        assert_eq!(moving.entries()["a"], b"1");
        assert!(memory.begin_to_move().is_none());
        let (mut waiting, given_up) = (increment(&memory), increment(&memory));
        assert!(poll_once(waiting.as_mut()).is_pending());
        drop(given_up);
        drop(moving);
        assert_eq!(block_on(waiting), Ok(Answer::Number(2)));
        assert_eq!(block_on(increment(&memory)), Ok(Answer::Number(3)));
    }

    #[test]
    fn what_has_arrived_is_asked_for_there() {
        let (memory, (there, asked)) = (Memory::default(), channel());
        let moving = memory.begin_to_move().unwrap();
        let waiting = increment(&memory);
        moving.finish(there);
        let later = increment(&memory);
        for sum in [7, 8] {
            let Asked { operation, reply, .. } = asked.recv().unwrap();
            assert_eq!(operation, Operation::Increment("a".to_owned(), 1));
            reply.send(Ok(Answer::Number(sum))).unwrap();
        }
        assert_eq!([block_on(waiting), block_on(later)], [7, 8].map(|sum| Ok(Answer::Number(sum))));
        drop(asked);
        assert_eq!(block_on(increment(&memory)), Err(gone()));
    }

    #[test]
    fn what_was_taken_over_is_counted() {
        let memory = Memory::default();
        memory.take_over(BTreeMap::from([("ab".to_owned(), b"123".to_vec())]));
        let quota = Quota { keys: 1, size: 5 };
        let full = block_on(memory.run(Operation::Set("b".to_owned(), Vec::new()), quota));
        assert!(matches!(full, Err(Failure::Limit(_))), "{full:?}");
        let larger = block_on(memory.run(Operation::Set("ab".to_owned(), b"1234".to_vec()), quota));
        assert!(matches!(larger, Err(Failure::Limit(_))), "{larger:?}");
    }
}
