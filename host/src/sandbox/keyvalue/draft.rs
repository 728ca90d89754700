//! The same under the names of `0.2.0-draft`, which has no compare-and-swap, counts without a sign, and gives pages of keys
//! numbers.

use wasmtime::Result;
use wasmtime::component::{HasSelf, Linker, Resource};

use self::bindings::wasi::keyvalue::store::{self, Error, KeyResponse};
use self::bindings::wasi::keyvalue::{atomics, batch};
pub use super::Bucket;
use super::{State, Told};
use super::{atomics as newer_atomics, batch as newer_batch, store as newer};

mod bindings {
    #![allow(missing_docs, unsafe_code, reason = "generated")]

    wasmtime::component::bindgen!({
        path: "wit/keyvalue-draft.wit",
        world: "imports",
        imports: { default: async | trappable },
        with: { "wasi:keyvalue/store.bucket": super::Bucket },
    });
}

/// How many pages of one store a guest may go back to.
const CURSORS_MAX: usize = 10_000;

pub(super) fn add_to_linker(linker: &mut Linker<State>) -> Result<()> {
    store::add_to_linker::<State, HasSelf<State>>(linker, |state| state)?;
    atomics::add_to_linker::<State, HasSelf<State>>(linker, |state| state)?;
    batch::add_to_linker::<State, HasSelf<State>>(linker, |state| state)
}

impl From<newer::Error> for Error {
    fn from(error: newer::Error) -> Self {
        match error {
            newer::Error::NoSuchStore => Self::NoSuchStore,
            newer::Error::AccessDenied => Self::AccessDenied,
            newer::Error::Other(reason) => Self::Other(reason),
        }
    }
}

fn renamed<T>(told: Told<T>) -> Told<T, Error> {
    told.map(|told| told.map_err(Error::from))
}

fn refused<T>(reason: &str) -> Told<T, Error> {
    Ok(Err(Error::Other(reason.to_owned())))
}

impl store::Host for State {
    async fn open(&mut self, name: String) -> Told<Resource<Bucket>, Error> {
        renamed(newer::Host::open(self, name).await)
    }
}

impl store::HostBucket for State {
    async fn get(&mut self, bucket: Resource<Bucket>, key: String) -> Told<Option<Vec<u8>>, Error> {
        renamed(newer::HostBucket::get(self, bucket, key).await)
    }

    async fn set(&mut self, bucket: Resource<Bucket>, key: String, value: Vec<u8>) -> Told<(), Error> {
        renamed(newer::HostBucket::set(self, bucket, key, value).await)
    }

    async fn delete(&mut self, bucket: Resource<Bucket>, key: String) -> Told<(), Error> {
        renamed(newer::HostBucket::delete(self, bucket, key).await)
    }

    async fn exists(&mut self, bucket: Resource<Bucket>, key: String) -> Told<bool, Error> {
        renamed(newer::HostBucket::exists(self, bucket, key).await)
    }

    async fn list_keys(&mut self, bucket: Resource<Bucket>, number: Option<u64>) -> Told<KeyResponse, Error> {
        let known = &self.table.get(&bucket)?.cursors;
        // Page 0 begins where no cursor does.
        let cursor = match number.filter(|number| *number > 0) {
            None => None,
            Some(number) => match known.get(number as usize - 1) {
                Some(cursor) => Some(cursor.clone()),
                None => return refused("the cursor is none that this bucket has given"),
            },
        };
        let borrowed = Resource::new_borrow(bucket.rep());
        let page = match newer::HostBucket::list_keys(self, borrowed, cursor).await? {
            Ok(page) => page,
            Err(error) => return Ok(Err(error.into())),
        };
        let known = &mut self.table.get_mut(&bucket)?.cursors;
        let cursor = match page.cursor {
            None => None,
            Some(_) if known.len() >= CURSORS_MAX => return refused("there are too many pages of keys"),
            Some(cursor) => {
                known.push(cursor);
                Some(known.len() as u64)
            }
        };
        Ok(Ok(KeyResponse { keys: page.keys, cursor }))
    }

    async fn drop(&mut self, bucket: Resource<Bucket>) -> Result<()> {
        newer::HostBucket::drop(self, bucket).await
    }
}

impl atomics::Host for State {
    async fn increment(&mut self, bucket: Resource<Bucket>, key: String, delta: u64) -> Told<u64, Error> {
        let Ok(delta) = i64::try_from(delta) else { return refused("so much cannot be added at once") };
        match newer_atomics::Host::increment(self, bucket, key, delta).await? {
            Ok(sum) => match u64::try_from(sum) {
                Ok(sum) => Ok(Ok(sum)),
                Err(_) => {
                    refused("the sum is below 0, which this version of wasi:keyvalue has no number for")
                }
            },
            Err(error) => Ok(Err(error.into())),
        }
    }
}

impl batch::Host for State {
    async fn get_many(
        &mut self,
        bucket: Resource<Bucket>,
        keys: Vec<String>,
    ) -> Told<Vec<Option<(String, Vec<u8>)>>, Error> {
        renamed(newer_batch::Host::get_many(self, bucket, keys).await)
    }

    async fn set_many(
        &mut self,
        bucket: Resource<Bucket>,
        entries: Vec<(String, Vec<u8>)>,
    ) -> Told<(), Error> {
        renamed(newer_batch::Host::set_many(self, bucket, entries).await)
    }

    async fn delete_many(&mut self, bucket: Resource<Bucket>, keys: Vec<String>) -> Told<(), Error> {
        renamed(newer_batch::Host::delete_many(self, bucket, keys).await)
    }
}
