//! The operations, for stores whose entries are at hand: whoever calls has them to itself meanwhile.

use super::limits::{Quota, Totals};
use super::operation::{Answer, AnswerSize, Failure, Operation, PAGE, sum};

/// The entries of a store, for the time of one operation.
pub(super) trait Entries {
    /// Why the store itself has failed, so that nothing of what was done counts.
    type Error;

    fn get(&mut self, key: &str) -> Result<Option<Vec<u8>>, Self::Error>;

    /// The length of a key's value.
    fn length(&mut self, key: &str) -> Result<Option<usize>, Self::Error>;

    fn put(&mut self, key: &str, value: &[u8]) -> Result<(), Self::Error>;

    fn remove(&mut self, key: &str) -> Result<(), Self::Error>;

    /// So many keys in their order, from the one after this on.
    fn keys_after(&mut self, key: Option<&str>, count: usize) -> Result<Vec<String>, Self::Error>;

    fn totals(&mut self) -> &mut Totals;
}

/// What an operation comes to; one that fails for its own sake has changed nothing, but for the first part of a batch.
pub(super) fn apply<E: Entries>(
    entries: &mut E,
    operation: Operation,
    quota: Quota,
) -> Result<Result<Answer, Failure>, E::Error> {
    // So that failures of both kinds can be given up for with `?`.
    let applied = run(entries, operation, quota);
    match applied {
        Ok(answer) => Ok(Ok(answer)),
        Err(Stop::Failed(failure)) => Ok(Err(failure)),
        Err(Stop::Broken(error)) => Err(error),
    }
}

enum Stop<E> {
    Failed(Failure),
    Broken(E),
}

impl<E> Stop<E> {
    fn broken(error: E) -> Self {
        Self::Broken(error)
    }
}

impl<E> From<Failure> for Stop<E> {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

fn run<E: Entries>(entries: &mut E, operation: Operation, quota: Quota) -> Result<Answer, Stop<E::Error>> {
    let get = |entries: &mut E, key: &str| entries.get(key).map_err(Stop::broken);
    Ok(match operation {
        Operation::Open => Answer::Done,
        Operation::Get(key) => Answer::Value(get(entries, &key)?),
        Operation::Exists(key) => Answer::Exists(entries.length(&key).map_err(Stop::broken)?.is_some()),
        Operation::List(after) => {
            let keys = entries.keys_after(after.as_deref(), PAGE).map_err(Stop::broken)?;
            let cursor = if keys.len() == PAGE { keys.last().cloned() } else { None };
            Answer::Keys(keys, cursor)
        }
        Operation::GetMany(keys) => {
            let mut size = AnswerSize::default();
            let mut values = Vec::with_capacity(keys.len());
            for key in keys {
                let value = get(entries, &key)?;
                size.add(key.len() + value.as_ref().map_or(0, Vec::len))?;
                values.push(value);
            }
            Answer::Values(values)
        }
        Operation::Set(key, value) => {
            put(entries, &key, &value, quota)?;
            Answer::Done
        }
        Operation::SetMany(new) => {
            new.iter().try_for_each(|(key, value)| put(entries, key, value, quota))?;
            Answer::Done
        }
        Operation::Delete(key) => {
            remove(entries, &key)?;
            Answer::Done
        }
        Operation::DeleteMany(keys) => {
            keys.iter().try_for_each(|key| remove(entries, key))?;
            Answer::Done
        }
        Operation::Increment(key, delta) => {
            let sum = sum(get(entries, &key)?.as_deref(), delta)?;
            put(entries, &key, sum.to_string().as_bytes(), quota)?;
            Answer::Number(sum)
        }
        Operation::Swap { key, expected, value } => {
            let current = get(entries, &key)?;
            if current != expected {
                return Ok(Answer::Changed(current));
            }
            put(entries, &key, &value, quota)?;
            Answer::Done
        }
    })
}

fn put<E: Entries>(entries: &mut E, key: &str, value: &[u8], quota: Quota) -> Result<(), Stop<E::Error>> {
    let old = entries.length(key).map_err(Stop::broken)?;
    let before = *entries.totals();
    let gone = old.map_or(0, |length| key.len() + length) as u64;
    let after = Totals {
        keys: before.keys + u64::from(old.is_none()),
        size: before.size.saturating_sub(gone) + (key.len() + value.len()) as u64,
    };
    quota.check(before, after)?;
    entries.put(key, value).map_err(Stop::broken)?;
    *entries.totals() = after;
    Ok(())
}

fn remove<E: Entries>(entries: &mut E, key: &str) -> Result<(), Stop<E::Error>> {
    let Some(length) = entries.length(key).map_err(Stop::broken)? else { return Ok(()) };
    entries.remove(key).map_err(Stop::broken)?;
    let totals = entries.totals();
    totals.keys = totals.keys.saturating_sub(1);
    totals.size = totals.size.saturating_sub((key.len() + length) as u64);
    Ok(())
}
