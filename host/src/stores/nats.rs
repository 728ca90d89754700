//! A store in NATS: a key-value bucket of JetStream's.
//!
//! Reads go to the stream's leader, so that who has written reads that. What has to be atomic is written for the revision that was
//! looked at, again and again until nobody came between. How full the bucket is, is the server's count, which
//! is a little more than that of keys and values.

use std::fmt::{self, Write};
use std::future::{Future, IntoFuture, ready};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_nats::connection::State;
use async_nats::jetstream::context::KeyValueErrorKind;
use async_nats::jetstream::kv::{Store, UpdateErrorKind};
use async_nats::jetstream::stream::{self, LastRawMessageErrorKind};
use async_nats::{Client, ServerAddr, jetstream};
use futures_util::TryStreamExt;

use super::backoff::{Backoff, PAUSE_MAX};
use super::limits::{Quota, Totals};
use super::operation::{Answer, AnswerSize, Failure, Operation, PAGE, sum};
use super::server::{advised, check_ca};
use super::{Backend, Outcome, Running, on_runtime};
use crate::error::causes;
use crate::nats::{Refusals, nats_options};

pub(super) struct Nats(Arc<Inner>);

struct Inner {
    /// Where the server is, with what it takes to be let in.
    server: ServerAddr,
    bucket: String,
    ca: Option<PathBuf>,
    /// Made with the first operation.
    store: tokio::sync::Mutex<Option<Bucket>>,
    backoff: Backoff,
    /// One at a time looks and then writes: others of this process would only have each other look again.
    changes: tokio::sync::Mutex<()>,
    /// How full the bucket is, as of when the server was asked.
    filled: Mutex<Option<(Instant, Totals)>>,
}

/// The bucket, by the connection that there is.
#[derive(Clone)]
struct Bucket {
    client: Client,
    store: Store,
    refusals: Refusals,
}

/// How long the server's word on how full the bucket is counts, with what was added since.
const FILLED: Duration = Duration::from_secs(1);

/// A value, if there is one, and the revision of what was looked at.
struct Seen {
    value: Option<Vec<u8>>,
    revision: u64,
}

impl Nats {
    pub(super) fn open(server: &str, bucket: &str, ca: Option<&Path>) -> Result<Self, String> {
        crate::tls::install_provider();
        check_ca(ca)?;
        let server = server.parse().map_err(|error: std::io::Error| error.to_string())?;
        let (store, changes) = Default::default();
        let (filled, backoff) = Default::default();
        let (bucket, ca) = (bucket.to_owned(), ca.map(Path::to_owned));
        Ok(Self(Arc::new(Inner { server, bucket, ca, store, backoff, changes, filled })))
    }
}

impl fmt::Debug for Nats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Nats({})", self.0.bucket)
    }
}

impl Backend for Nats {
    fn run(&self, operation: Operation, quota: Quota) -> Running<'_> {
        let inner = self.0.clone();
        on_runtime(async move { inner.run(operation, quota).await })
    }
}

impl Inner {
    async fn run(&self, operation: Operation, quota: Quota) -> Outcome {
        let store = self.store().await?;
        let outcome = self.operate(&store, operation, quota).await;
        if let Err(Failure::Unreachable(_)) = &outcome {
            // It may be another server now, without the bucket.
            *self.store.lock().await = None;
        }
        outcome
    }

    async fn operate(&self, store: &Bucket, operation: Operation, quota: Quota) -> Outcome {
        Ok(match operation {
            Operation::Open => Answer::Done,
            Operation::Get(key) => Answer::Value(see(store, &key).await?.value),
            Operation::Exists(key) => Answer::Exists(see(store, &key).await?.value.is_some()),
            Operation::List(after) => list(store, after).await?,
            Operation::GetMany(keys) => {
                let (mut values, mut size) = (Vec::with_capacity(keys.len()), AnswerSize::default());
                for key in keys {
                    let value = see(store, &key).await?.value;
                    size.add(key.len() + value.as_ref().map_or(0, Vec::len))?;
                    values.push(value);
                }
                Answer::Values(values)
            }
            Operation::Set(key, value) => {
                self.put(store, &key, value, quota).await?;
                Answer::Done
            }
            Operation::SetMany(entries) => {
                for (key, value) in entries {
                    self.put(store, &key, value, quota).await?;
                }
                Answer::Done
            }
            Operation::Delete(key) => {
                remove(store, &key).await?;
                Answer::Done
            }
            Operation::DeleteMany(keys) => {
                for key in keys {
                    remove(store, &key).await?;
                }
                Answer::Done
            }
            Operation::Increment(key, delta) => loop {
                let _change = self.changes.lock().await;
                let seen = see(store, &key).await?;
                let sum = sum(seen.value.as_deref(), delta)?;
                if self.replace(store, &key, &seen, sum.to_string().into_bytes(), quota).await? {
                    break Answer::Number(sum);
                }
            },
            Operation::Swap { key, expected, value } => loop {
                let _change = self.changes.lock().await;
                let seen = see(store, &key).await?;
                if seen.value != expected {
                    break Answer::Changed(seen.value);
                }
                if self.replace(store, &key, &seen, value.clone(), quota).await? {
                    break Answer::Done;
                }
            },
        })
    }

    /// The bucket, which is made if there is none.
    async fn store(&self) -> Result<Bucket, Failure> {
        let mut store = self.store.lock().await;
        if let Some(bucket) = &*store {
            // The client connects again by itself; who waits for that would only learn later that there is none.
            return match bucket.client.connection_state() {
                State::Connected => Ok(bucket.clone()),
                _ => {
                    Err(Failure::Unreachable("NATS cannot be reached: the connection has broken".to_owned()))
                }
            };
        }
        self.backoff.check()?;
        let opened = self.connect().await;
        let opened = opened.map_err(|error| {
            let reason = advised(&causes(&*error), "?ca=FILE");
            self.backoff.failed(format!("NATS cannot be reached: {reason}"))
        })?;
        self.backoff.succeeded();
        Ok(store.insert(opened).clone())
    }

    async fn connect(&self) -> Result<Bucket, async_nats::Error> {
        let (options, servers) = nats_options(std::slice::from_ref(&self.server));
        let refusals = Refusals::default();
        let told = refusals.clone();
        let mut options = options
            .name("plugsock")
            .reconnect_delay_callback(|attempts| PAUSE_MAX.min(Duration::from_millis(50 << attempts.min(10))))
            .event_callback(move |event| {
                told.hear(&event);
                ready(())
            });
        if let Some(ca) = &self.ca {
            options = options.add_root_certificates(ca.clone());
        }
        let client = options.connect(servers).await?;
        let context = jetstream::new(client.clone());
        let opened = async {
            match context.get_key_value(&self.bucket).await {
                Err(error) if error.kind() == KeyValueErrorKind::GetBucket => {
                    context.create_stream(bucket_stream(&self.bucket)).await?;
                    Ok(context.get_key_value(&self.bucket).await?)
                }
                found => Ok::<_, async_nats::Error>(found?),
            }
        };
        let store = refusals.or(&format!("KV_{}", self.bucket), opened).await??;
        Ok(Bucket { client, store, refusals })
    }

    async fn put(&self, store: &Bucket, key: &str, value: Vec<u8>, quota: Quota) -> Result<(), Failure> {
        let seen = see(store, key).await?;
        self.make_room(store, key, &seen, value.len(), quota).await?;
        store
            .or_refused(&store.written(key), store.store.put(encode(key), value.into()))
            .await?
            .map_err(failed)?;
        Ok(())
    }

    /// Writes if the key is still as it was seen; whether it was.
    async fn replace(
        &self,
        store: &Bucket,
        key: &str,
        seen: &Seen,
        value: Vec<u8>,
        quota: Quota,
    ) -> Result<bool, Failure> {
        self.make_room(store, key, seen, value.len(), quota).await?;
        let update = store.store.update(encode(key), value.into(), seen.revision);
        match store.or_refused(&store.written(key), update).await? {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == UpdateErrorKind::WrongLastRevision => Ok(false),
            Err(error) => Err(failed(error)),
        }
    }

    /// Whether there is room for a value, which is then counted.
    async fn make_room(
        &self,
        store: &Bucket,
        key: &str,
        seen: &Seen,
        length: usize,
        quota: Quota,
    ) -> Result<(), Failure> {
        let known = *self.filled.lock().unwrap_or_else(PoisonError::into_inner);
        let (since, before) = match known.filter(|(since, _)| since.elapsed() < FILLED) {
            Some(known) => known,
            None => {
                let asked = store.store.stream.get_info();
                let state = store.or_refused("STREAM.INFO", asked).await?.map_err(failed)?.state;
                (Instant::now(), Totals { keys: state.messages, size: state.bytes })
            }
        };
        let gone = seen.value.as_ref().map_or(0, |value| key.len() + value.len()) as u64;
        let after = Totals {
            keys: before.keys + u64::from(seen.revision == 0),
            size: before.size.saturating_sub(gone) + (key.len() + length) as u64,
        };
        quota.check(before, after)?;
        *self.filled.lock().unwrap_or_else(PoisonError::into_inner) = Some((since, after));
        Ok(())
    }
}

impl Bucket {
    /// What comes of asking, unless NATS does not allow it.
    async fn or_refused<T>(&self, about: &str, asked: impl Future<Output = T>) -> Result<T, Failure> {
        self.refusals.or(about, asked).await.map_err(Failure::NotAllowed)
    }

    fn subject(&self, key: &str) -> String {
        format!("{}{}", self.store.prefix, encode(key))
    }

    /// How a refusal to write a key names it.
    fn written(&self, key: &str) -> String {
        format!("\"{}\"", self.subject(key))
    }
}

/// A bucket as NATS has it. The client's own way to make one asks servers for more than those before 2.10 say of themselves.
fn bucket_stream(bucket: &str) -> stream::Config {
    stream::Config {
        name: format!("KV_{bucket}"),
        subjects: vec![format!("$KV.{bucket}.>")],
        max_messages_per_subject: 1,
        discard: stream::DiscardPolicy::New,
        num_replicas: 1,
        allow_rollup: true,
        deny_delete: true,
        allow_direct: true,
        ..stream::Config::default()
    }
}

fn failed(error: impl fmt::Display) -> Failure {
    Failure::Unreachable(format!("NATS: {error}"))
}

async fn see(store: &Bucket, key: &str) -> Result<Seen, Failure> {
    let subject = store.subject(key);
    let asked = store.store.stream.get_last_raw_message_by_subject(&subject);
    match store.or_refused("MSG.GET", asked).await? {
        Ok(message) => {
            let is_gone =
                message.headers.get("KV-Operation").is_some_and(|operation| operation.as_str() != "PUT");
            Ok(Seen { value: (!is_gone).then(|| message.payload.to_vec()), revision: message.sequence })
        }
        Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => {
            Ok(Seen { value: None, revision: 0 })
        }
        Err(error) => Err(failed(error)),
    }
}

/// Leaves no mark, as NATS's own way to delete does: those would fill the bucket.
async fn remove(store: &Bucket, key: &str) -> Result<(), Failure> {
    let asked = store.store.stream.purge().filter(store.subject(key)).into_future();
    store.or_refused("STREAM.PURGE", asked).await?.map_err(failed)?;
    Ok(())
}

/// All keys are looked through for a page.
async fn list(store: &Bucket, after: Option<String>) -> Outcome {
    let asked = async {
        store.store.keys().await.map_err(failed)?.try_collect::<Vec<String>>().await.map_err(failed)
    };
    let keys = store.or_refused("CONSUMER.", asked).await??;
    let mut keys: Vec<String> = keys.iter().filter_map(|key| decode(key)).collect();
    keys.sort_unstable();
    if let Some(after) = after {
        keys.retain(|key| *key > after);
    }
    let has_more = keys.len() > PAGE;
    keys.truncate(PAGE);
    let cursor = if has_more { keys.last().cloned() } else { None };
    Ok(Answer::Keys(keys, cursor))
}

/// A key as NATS can have it: what may not stand there is written as `=` and two hexadecimal digits a byte.
fn encode(key: &str) -> String {
    let mut encoded = String::with_capacity(key.len());
    for byte in key.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'/' => encoded.push(char::from(byte)),
            _ => write!(encoded, "={byte:02X}").expect("a string has room"),
        }
    }
    // A key has at least one character.
    if encoded.is_empty() { "=".to_owned() } else { encoded }
}

/// What [`encode`] was given; `None` if that was nobody here.
fn decode(encoded: &str) -> Option<String> {
    if encoded == "=" {
        return Some(String::new());
    }
    let mut parts = encoded.split('=');
    let mut key = parts.next()?.as_bytes().to_vec();
    for part in parts {
        let (byte, rest) = part.split_at_checked(2)?;
        key.push(u8::from_str_radix(byte, 16).ok()?);
        key.extend(rest.as_bytes());
    }
    String::from_utf8(key).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_key_has_a_name_in_nats() {
        for (key, encoded) in [
            ("", "="),
            ("a/b_C-9", "a/b_C-9"),
            ("name:tea", "name=3Atea"),
            (".", "=2E"),
            ("=", "=3D"),
            ("ä *>", "=C3=A4=20=2A=3E"),
        ] {
            assert_eq!(encode(key), encoded);
            assert_eq!(decode(encoded).as_deref(), Some(key));
        }
        // Others may write there, too.
        assert_eq!(decode("a.b").as_deref(), Some("a.b"));
        assert_eq!([decode("a=1"), decode("a=XY"), decode("=FF")], [None, None, None]);
    }
}
