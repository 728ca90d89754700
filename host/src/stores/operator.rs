//! A store as its operator works on it: without grants, and without limits but those of time.

use std::sync::Arc;
use std::time::Duration;

use super::operation::{Answer, Failure, Operation};
use super::url::StoreUrl;
use super::{Backend, Outcome, Quota, registry};
use crate::block_on::block_on;
use crate::runtime;

/// How long one operation may take.
const TIME: Duration = Duration::from_secs(10);

/// A store that is open for its operator, as `plugsock state` has it. Servers may have it open, too.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let directory = tempfile::tempdir()?;
/// # let url = format!("file:{}", directory.path().join("counts.db").display()).parse()?;
/// let store = plugsock::OpenStore::open(&url, true)?;
/// store.set("visits", b"41")?;
/// assert_eq!(store.increment("visits", 1)?, 42);
/// assert_eq!(store.get("visits")?.as_deref(), Some(&b"42"[..]));
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct OpenStore(Arc<dyn Backend>);

/// Why an operation on an [`OpenStore`] failed, in words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct StoreError(String);

impl From<Failure> for StoreError {
    fn from(failure: Failure) -> Self {
        Self(failure.to_string())
    }
}

impl OpenStore {
    /// Opens a store. Where it is a file that is not there, it is made only if it `may_be_new`.
    pub fn open(url: &StoreUrl, may_be_new: bool) -> Result<Self, StoreError> {
        match url {
            StoreUrl::Memory => {
                Err(StoreError("what is in a server's memory, it alone can reach".to_owned()))
            }
            StoreUrl::File { path, .. } if !may_be_new => match path.try_exists() {
                Ok(true) => Self::open(url, true),
                Ok(false) => Err(StoreError("there is no such file".to_owned())),
                Err(error) => Err(StoreError(error.to_string())),
            },
            _ => registry::open_by("", url).map(Self).map_err(StoreError),
        }
    }

    /// The value of a key, if it has one.
    pub fn get(&self, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        match self.run(Operation::Get(key.to_owned()))? {
            Answer::Value(value) => Ok(value),
            answer => Err(strange(&answer)),
        }
    }

    /// Sets the value of a key.
    pub fn set(&self, key: &str, value: &[u8]) -> Result<(), StoreError> {
        self.run(Operation::Set(key.to_owned(), value.to_owned())).map(drop)
    }

    /// Sets several keys; after an error some may be set.
    pub fn set_many(&self, entries: Vec<(String, Vec<u8>)>) -> Result<(), StoreError> {
        self.run(Operation::SetMany(entries)).map(drop)
    }

    /// Adds to the number that a key has; the sum.
    pub fn increment(&self, key: &str, delta: i64) -> Result<i64, StoreError> {
        match self.run(Operation::Increment(key.to_owned(), delta))? {
            Answer::Number(sum) => Ok(sum),
            answer => Err(strange(&answer)),
        }
    }

    /// Deletes a key; whether it had a value.
    pub fn delete(&self, key: &str) -> Result<bool, StoreError> {
        let had = self.get(key)?.is_some();
        self.run(Operation::Delete(key.to_owned()))?;
        Ok(had)
    }

    /// A page of keys, from where a cursor says, and the cursor of the next page.
    pub fn keys(&self, cursor: Option<String>) -> Result<(Vec<String>, Option<String>), StoreError> {
        match self.run(Operation::List(cursor))? {
            Answer::Keys(keys, cursor) => Ok((keys, cursor)),
            answer => Err(strange(&answer)),
        }
    }

    fn run(&self, operation: Operation) -> Result<Answer, StoreError> {
        let outcome: Outcome = (|| {
            runtime::enter().map_err(Failure::other)?;
            let within_time = async {
                let ended = tokio::time::timeout(TIME, self.0.run(operation, Quota::NONE)).await;
                ended.unwrap_or_else(|_| {
                    Err(Failure::TimedOut(format!("the store has not answered within {TIME:?}")))
                })
            };
            block_on(within_time)
        })();
        Ok(outcome?)
    }
}

fn strange(answer: &Answer) -> StoreError {
    StoreError(format!("the store has answered something else: {answer:?}"))
}
