//! `wasi:keyvalue`: what a guest asks of stores. What it may, and what becomes of it, is for `stores` to say.

mod draft;

use wasmtime::Result;
use wasmtime::component::{HasSelf, Linker, Resource};

use self::bindings::wasi::keyvalue::atomics::{self, CasError};
use self::bindings::wasi::keyvalue::batch;
use self::bindings::wasi::keyvalue::store::{self, Error, KeyResponse};
use super::state::State;
use crate::stores::{Answer, Failure, Operation};

mod bindings {
    #![allow(missing_docs, unsafe_code, reason = "generated")]

    wasmtime::component::bindgen!({
        path: "../plugin-sdk/wit",
        world: "with-state",
        imports: { default: async | trappable },
        with: {
            "wasi:keyvalue/store.bucket": super::Bucket,
            "wasi:keyvalue/atomics.cas": super::Cas,
        },
    });
}

/// A store that the guest has opened.
pub struct Bucket {
    name: String,
    /// Where pages of keys begin that the guest knows by number (`draft`).
    cursors: Vec<String>,
}

/// A value that the guest has looked at.
pub struct Cas {
    store: String,
    key: String,
    seen: Option<Vec<u8>>,
}

/// An operation's result as the guest sees it.
type Told<T, E = Error> = Result<std::result::Result<T, E>>;

pub(super) fn add_to_linker(linker: &mut Linker<State>) -> Result<()> {
    store::add_to_linker::<State, HasSelf<State>>(linker, |state| state)?;
    atomics::add_to_linker::<State, HasSelf<State>>(linker, |state| state)?;
    batch::add_to_linker::<State, HasSelf<State>>(linker, |state| state)?;
    draft::add_to_linker(linker)
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::NoSuchStore => Self::NoSuchStore,
            Failure::AccessDenied => Self::AccessDenied,
            Failure::Limit(reason)
            | Failure::TimedOut(reason)
            | Failure::NotAllowed(reason)
            | Failure::Unreachable(reason)
            | Failure::Other(reason) => Self::Other(reason),
        }
    }
}

/// Picks what an operation's answer has; an answer of another kind is the host's mistake.
macro_rules! told {
    ($outcome:expr, $($answer:pat => $value:expr),+) => {
        match $outcome {
            $(Ok($answer) => Ok(Ok($value)),)+
            Ok(answer) => Err(wasmtime::format_err!("a store has answered something else: {answer:?}")),
            Err(failure) => Ok(Err(Error::from(failure).into())),
        }
    };
}

impl State {
    async fn operate(&mut self, store: &str, operation: Operation) -> Result<crate::stores::Outcome> {
        self.watch.goes_on();
        // What waits for a store has a timer.
        crate::runtime::enter()?;
        let outcome = self.sandbox.operate(store, operation, self.deadlines.of_request()).await;
        match self.watch.reached() {
            Some(limit) => Err(limit.into()),
            None => Ok(outcome),
        }
    }

    fn bucket(&self, bucket: &Resource<Bucket>) -> Result<String> {
        Ok(self.table.get(bucket)?.name.clone())
    }

    async fn on(
        &mut self,
        bucket: &Resource<Bucket>,
        operation: Operation,
    ) -> Result<crate::stores::Outcome> {
        let store = self.bucket(bucket)?;
        self.operate(&store, operation).await
    }

    fn push_cas(&mut self, store: String, key: String, seen: Option<Vec<u8>>) -> Result<Resource<Cas>> {
        Ok(self.table.push(Cas { store, key, seen })?)
    }
}

impl store::Host for State {
    async fn open(&mut self, name: String) -> Told<Resource<Bucket>> {
        let opened = self.operate(&name, Operation::Open).await?;
        told!(opened, Answer::Done => self.table.push(Bucket { name, cursors: Vec::new() })?)
    }
}

impl store::HostBucket for State {
    async fn get(&mut self, bucket: Resource<Bucket>, key: String) -> Told<Option<Vec<u8>>> {
        told!(self.on(&bucket, Operation::Get(key)).await?, Answer::Value(value) => value)
    }

    async fn set(&mut self, bucket: Resource<Bucket>, key: String, value: Vec<u8>) -> Told<()> {
        told!(self.on(&bucket, Operation::Set(key, value)).await?, Answer::Done => ())
    }

    async fn delete(&mut self, bucket: Resource<Bucket>, key: String) -> Told<()> {
        told!(self.on(&bucket, Operation::Delete(key)).await?, Answer::Done => ())
    }

    async fn exists(&mut self, bucket: Resource<Bucket>, key: String) -> Told<bool> {
        told!(self.on(&bucket, Operation::Exists(key)).await?, Answer::Exists(exists) => exists)
    }

    async fn list_keys(&mut self, bucket: Resource<Bucket>, cursor: Option<String>) -> Told<KeyResponse> {
        let listed = self.on(&bucket, Operation::List(cursor)).await?;
        told!(listed, Answer::Keys(keys, cursor) => KeyResponse { keys, cursor })
    }

    async fn drop(&mut self, bucket: Resource<Bucket>) -> Result<()> {
        Ok(self.table.delete(bucket).map(drop)?)
    }
}

impl atomics::Host for State {
    async fn increment(&mut self, bucket: Resource<Bucket>, key: String, delta: i64) -> Told<i64> {
        told!(self.on(&bucket, Operation::Increment(key, delta)).await?, Answer::Number(sum) => sum)
    }

    async fn swap(&mut self, cas: Resource<Cas>, value: Vec<u8>) -> Told<(), CasError> {
        let Cas { store, key, seen: expected } = self.table.delete(cas)?;
        let swap = Operation::Swap { key: key.clone(), expected, value };
        match self.operate(&store, swap).await? {
            Ok(Answer::Changed(seen)) => Ok(Err(CasError::CasFailed(self.push_cas(store, key, seen)?))),
            outcome => told!(outcome, Answer::Done => ()),
        }
    }
}

impl From<Error> for CasError {
    fn from(error: Error) -> Self {
        Self::StoreError(error)
    }
}

impl atomics::HostCas for State {
    async fn new(&mut self, bucket: Resource<Bucket>, key: String) -> Told<Resource<Cas>> {
        let store = self.bucket(&bucket)?;
        let seen = self.operate(&store, Operation::Get(key.clone())).await?;
        told!(seen, Answer::Value(seen) => self.push_cas(store, key, seen)?)
    }

    async fn current(&mut self, cas: Resource<Cas>) -> Told<Option<Vec<u8>>> {
        Ok(Ok(self.table.get(&cas)?.seen.clone()))
    }

    async fn drop(&mut self, cas: Resource<Cas>) -> Result<()> {
        Ok(self.table.delete(cas).map(drop)?)
    }
}

impl batch::Host for State {
    async fn get_many(
        &mut self,
        bucket: Resource<Bucket>,
        keys: Vec<String>,
    ) -> Told<Vec<Option<(String, Vec<u8>)>>> {
        let values = self.on(&bucket, Operation::GetMany(keys.clone())).await?;
        told!(values, Answer::Values(values) => {
            keys.into_iter().zip(values).map(|(key, value)| value.map(|value| (key, value))).collect()
        })
    }

    async fn set_many(&mut self, bucket: Resource<Bucket>, entries: Vec<(String, Vec<u8>)>) -> Told<()> {
        told!(self.on(&bucket, Operation::SetMany(entries)).await?, Answer::Done => ())
    }

    async fn delete_many(&mut self, bucket: Resource<Bucket>, keys: Vec<String>) -> Told<()> {
        told!(self.on(&bucket, Operation::DeleteMany(keys)).await?, Answer::Done => ())
    }
}
