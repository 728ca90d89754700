//! What a fleet has in NATS: two buckets of records and one of components. Every wait for it has an end, and nothing is kept
//! that is larger than it may be.

use std::fmt;
use std::future::Future;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_nats::jetstream::consumer::push::{Ordered, OrderedConfig};
use async_nats::jetstream::consumer::{DeliverPolicy, ReplayPolicy};
use async_nats::jetstream::context::GetStreamErrorKind;
use async_nats::jetstream::object_store::{self, ObjectMetadata, ObjectStore};
use async_nats::jetstream::{self, Context, ErrorCode, kv, stream};
use async_nats::{Client, Event, ServerAddr};
use bytes::Bytes;
use futures_util::StreamExt;
use plugsock::{Digest, Refusals, advised, causes, nats_options};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::AsyncReadExt;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::timeout;

use super::records::{RECORD_MAX, parse};

/// What operators want, and how far it is.
pub const RECORDS: &str = "plugsock-fleet";
/// What hosts say of themselves, which goes when they do not say it again.
pub const HOSTS: &str = "plugsock-hosts";
/// Components, under their digests.
pub const COMPONENTS: &str = "plugsock-components";

/// How long what hosts say of themselves holds, unless the bucket says otherwise.
pub const HOST_TIME: Duration = Duration::from_secs(15);

/// How long NATS may take for a connection, and for an answer.
const CONNECT_TIME: Duration = Duration::from_secs(5);
const ANSWER_TIME: Duration = Duration::from_secs(5);
/// How long a component's next part may take.
const STALL_TIME: Duration = Duration::from_secs(30);

/// How long what was there at first, and is not told, is waited for.
const EXPIRY_TIME: Duration = Duration::from_secs(1);

/// What names certificates of those who vouch for NATS.
const CA: &str = "--fleet-ca FILE";

/// The longest signature that is looked at.
const SIGNATURE_MAX: usize = 64 << 10;
/// The key of an object's metadata that has it.
const SIGNATURE: &str = "minisig";

/// How NATS is reached.
#[derive(Clone, Debug)]
pub struct Reach {
    pub servers: Vec<ServerAddr>,
    pub credentials: Option<PathBuf>,
    pub ca: Option<PathBuf>,
}

impl Reach {
    /// Where it is, without passwords.
    pub fn shown(&self) -> String {
        let shown = |server: &ServerAddr| format!("{}:{}", server.host(), server.port());
        self.servers.iter().map(shown).collect::<Vec<_>>().join(",")
    }
}

/// A connection to a fleet's records.
#[derive(Clone)]
pub struct Store {
    client: Client,
    context: Context,
    refusals: Refusals,
    pub records: kv::Store,
    pub hosts: kv::Store,
    /// How long what hosts say of themselves holds, as far as it was asked.
    host_time: Arc<Mutex<Duration>>,
}

/// Why something did not come about.
#[derive(Debug, PartialEq)]
pub struct Trouble {
    reason: String,
    /// NATS does not allow it, now and as long as the connection holds.
    pub is_refusal: bool,
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

impl From<String> for Trouble {
    fn from(reason: String) -> Self {
        Self { reason, is_refusal: false }
    }
}

impl From<Trouble> for String {
    fn from(trouble: Trouble) -> Self {
        trouble.reason
    }
}

/// Waits for what was asked of NATS. `what` says what fails where it does, and a refusal names `about`.
async fn ask<T, E: std::error::Error>(
    refusals: &Refusals,
    about: &str,
    what: &str,
    asked: impl Future<Output = Result<T, E>>,
) -> Result<T, Trouble> {
    match refusals.or(about, asked).await {
        Ok(answered) => {
            answered.map_err(|error| Trouble::from(format!("{what}: {}", advised(&causes(&error), CA))))
        }
        Err(refusal) => Err(Trouble { reason: format!("{what}: {refusal}"), is_refusal: true }),
    }
}

/// What comes of asking; nothing if it is an error that somebody asks to learn.
async fn unless<T, E>(
    is_expected: impl FnOnce(&E) -> bool,
    asked: impl Future<Output = Result<T, E>>,
) -> Result<Option<T>, E> {
    match asked.await {
        Err(error) if is_expected(&error) => Ok(None),
        answered => answered.map(Some),
    }
}

/// What becomes of a connection.
pub enum Notice {
    /// It is over.
    Lost,
    /// NATS does not allow something that nobody waits for, in its words.
    Refused(String),
}

/// Why a record was not written.
#[derive(Debug, PartialEq)]
pub enum NotWritten {
    /// Somebody else has written it since.
    Conflict,
    Failed(Trouble),
}

/// How buckets are made that are not there.
#[derive(Clone, Copy, Debug)]
pub struct Making {
    pub replicas: usize,
    pub host_time: Duration,
}

impl Default for Making {
    fn default() -> Self {
        Self { replicas: 1, host_time: HOST_TIME }
    }
}

/// Connects, and makes what buckets are not there.
pub async fn open(
    reach: &Reach,
    name: &str,
    making: Making,
) -> Result<(Store, UnboundedReceiver<Notice>), String> {
    let (notices, noticed) = unbounded_channel();
    let (refusals, (options, servers)) = (Refusals::default(), nats_options(&reach.servers));
    let told = refusals.clone();
    let mut options = options
        .name(name)
        .connection_timeout(CONNECT_TIME)
        .request_timeout(Some(ANSWER_TIME))
        .event_callback(move |event| {
            let notice = match event {
                Event::Disconnected | Event::Closed => Some(Notice::Lost),
                other => {
                    tracing::debug!("NATS: {other}");
                    told.hear(&other).map(Notice::Refused)
                }
            };
            if let Some(notice) = notice {
                let _ = notices.send(notice);
            }
            std::future::ready(())
        });
    if let Some(ca) = &reach.ca {
        options = options.add_root_certificates(ca.clone());
    }
    if let Some(credentials) = &reach.credentials {
        options = options
            .credentials_file(credentials)
            .await
            .map_err(|error| format!("cannot read {}: {error}", plugsock::shown(credentials)))?;
    }
    let at = reach.shown();
    let connected = timeout(CONNECT_TIME * 2, options.connect(servers)).await;
    let client = connected
        .map_err(|_| format!("NATS at {at} does not answer"))?
        .map_err(|error| format!("cannot connect to NATS at {at}: {}", advised(&causes(&error), CA)))?;
    let mut context = jetstream::new(client.clone());
    context.set_timeout(ANSWER_TIME);
    let records = key_value(&context, &refusals, bucket(RECORDS, Duration::ZERO, making.replicas)).await?;
    let hosts = key_value(&context, &refusals, bucket(HOSTS, making.host_time, making.replicas)).await?;
    let host_time = Arc::new(Mutex::new(holds_for(&hosts.stream.cached_info().config)));
    Ok((Store { client, context, refusals, records, hosts, host_time }, noticed))
}

/// How long records hold in a bucket.
fn holds_for(config: &stream::Config) -> Duration {
    // Of a bucket that somebody made without.
    if config.max_age.is_zero() { HOST_TIME } else { config.max_age }
}

/// A bucket as a stream, which is what it is: `create_key_value` asks first for what older servers do not say.
fn bucket(name: &str, max_age: Duration, num_replicas: usize) -> stream::Config {
    stream::Config {
        name: format!("KV_{name}"),
        subjects: vec![format!("$KV.{name}.>")],
        max_messages_per_subject: 1,
        max_age,
        max_message_size: RECORD_MAX as i32,
        num_replicas,
        discard: stream::DiscardPolicy::New,
        allow_rollup: true,
        deny_delete: true,
        allow_direct: true,
        ..stream::Config::default()
    }
}

async fn key_value(
    context: &Context,
    refusals: &Refusals,
    config: stream::Config,
) -> Result<kv::Store, String> {
    let (name, about) = (config.name.trim_start_matches("KV_").to_owned(), config.name.clone());
    let what = format!("cannot open the bucket {name}");
    let found = unless(is_not_found, context.get_key_value(&name));
    if let Some(store) = ask(refusals, &about, &what, found).await? {
        return Ok(store);
    }
    let made = refusals.or(&about, context.get_or_create_stream(config)).await;
    made.map_err(|refusal| not_made(&name, &refusal))?.map_err(|error| not_made(&name, &causes(&error)))?;
    Ok(ask(refusals, &about, &what, context.get_key_value(&name)).await?)
}

fn not_made(name: &str, why: &str) -> String {
    format!(
        "there is no bucket {name}, and it cannot be made: {why}; `plugsock fleet init` makes it for who may"
    )
}

/// Whether a stream is not there.
fn is_not_found<E: std::error::Error + 'static>(error: &E) -> bool {
    let found =
        std::iter::successors(Some(error as &(dyn std::error::Error + 'static)), |error| error.source());
    let mut streams = found.filter_map(|error| error.downcast_ref::<jetstream::context::GetStreamError>());
    streams.any(|error| {
        matches!(error.kind(), GetStreamErrorKind::JetStream(error) if error.error_code() == ErrorCode::STREAM_NOT_FOUND)
    })
}

impl Store {
    /// How long what hosts say of themselves holds.
    pub fn host_time(&self) -> Duration {
        *self.host_time.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks anew for how long that is: `plugsock fleet init` may have changed it.
    pub async fn learn_host_time(&self) -> Result<(), Trouble> {
        let asked = self.hosts.stream.get_info();
        let what = format!("cannot look at the bucket {HOSTS}");
        let info = self.ask(&format!("KV_{HOSTS}"), &what, asked).await?;
        *self.host_time.lock().unwrap_or_else(PoisonError::into_inner) = holds_for(&info.config);
        Ok(())
    }

    /// As [`ask`] by this connection.
    async fn ask<T, E: std::error::Error>(
        &self,
        about: &str,
        what: &str,
        asked: impl Future<Output = Result<T, E>>,
    ) -> Result<T, Trouble> {
        ask(&self.refusals, about, what, asked).await
    }

    /// A record, or what is wrong with it, and its revision, which is 0 where there is none.
    pub async fn read<T: DeserializeOwned>(
        &self,
        store: &kv::Store,
        key: &str,
    ) -> Result<(Option<Result<T, String>>, u64), Trouble> {
        let entry = self.ask(&named(store, key), &format!("cannot read {key}"), store.entry(key)).await?;
        let Some(entry) = entry else { return Ok((None, 0)) };
        let is_there = entry.operation == kv::Operation::Put;
        let parsed = || parse(&entry.value).map_err(|reason| format!("record {key}: {reason}"));
        Ok((is_there.then(parsed), entry.revision))
    }

    /// Writes a record if it is still of this revision, which is 0 where there is none.
    pub async fn write(
        &self,
        store: &kv::Store,
        key: &str,
        record: &impl Serialize,
        revision: u64,
    ) -> Result<u64, NotWritten> {
        let bytes = bytes_of(key, record).map_err(NotWritten::Failed)?;
        let is_conflict = |error: &kv::UpdateError| error.kind() == kv::UpdateErrorKind::WrongLastRevision;
        self.written(store, key, unless(is_conflict, store.update(key, bytes, revision))).await
    }

    /// Writes a record where there is none, or one that was removed.
    pub async fn create(
        &self,
        store: &kv::Store,
        key: &str,
        record: &impl Serialize,
    ) -> Result<u64, NotWritten> {
        let bytes = bytes_of(key, record).map_err(NotWritten::Failed)?;
        let is_conflict = |error: &kv::CreateError| error.kind() == kv::CreateErrorKind::AlreadyExists;
        self.written(store, key, unless(is_conflict, store.create(key, bytes))).await
    }

    /// The revision of what was written, unless somebody else was before.
    async fn written<E: std::error::Error>(
        &self,
        store: &kv::Store,
        key: &str,
        written: impl Future<Output = Result<Option<u64>, E>>,
    ) -> Result<u64, NotWritten> {
        let written = self.ask(&named(store, key), &format!("cannot write {key}"), written).await;
        written.map_err(NotWritten::Failed)?.ok_or(NotWritten::Conflict)
    }

    /// Writes a record, whatever was there.
    pub async fn put(&self, store: &kv::Store, key: &str, record: &impl Serialize) -> Result<u64, Trouble> {
        let put = store.put(key, bytes_of(key, record)?);
        self.ask(&named(store, key), &format!("cannot write {key}"), put).await
    }

    /// Removes a record if it is still of this revision, or of any where none is said.
    pub async fn remove(&self, store: &kv::Store, key: &str, revision: Option<u64>) -> Result<(), Trouble> {
        let removed = store.delete_expect_revision(key, revision);
        self.ask(&named(store, key), &format!("cannot remove {key}"), removed).await
    }

    /// Follows the records whose keys are as `pattern`, beginning with what they are now.
    pub async fn follow(&self, store: &kv::Store, pattern: &str) -> Result<Changes, Trouble> {
        let what = format!("cannot follow {pattern} in {}", store.name);
        let consumer = OrderedConfig {
            deliver_subject: self.client.new_inbox(),
            description: Some("plugsock".to_owned()),
            filter_subject: format!("{}{pattern}", store.prefix),
            deliver_policy: DeliverPolicy::LastPerSubject,
            replay_policy: ReplayPolicy::Instant,
            ..OrderedConfig::default()
        };
        let about = format!("KV_{}", store.name);
        let made = self.ask(&about, &what, store.stream.create_consumer(consumer));
        let consumer = timeout(ANSWER_TIME * 2, made).await.map_err(|error| format!("{what}: {error}"))??;
        let pending = consumer.cached_info().num_pending;
        let messages = self.ask(&about, &what, consumer.messages()).await?;
        Ok(Changes { messages, prefix: store.prefix.clone(), pending, left: pending })
    }

    /// All records whose keys are as `pattern`.
    pub async fn all(&self, store: &kv::Store, pattern: &str) -> Result<Vec<Change>, Trouble> {
        let mut changes = self.follow(store, pattern).await?;
        let mut found: Vec<Change> = Vec::new();
        while !changes.is_current() {
            let patience = if changes.left == 0 { EXPIRY_TIME } else { ANSWER_TIME };
            let change = match timeout(patience, changes.next()).await {
                Ok(change) => change?,
                // Some were no more, once it was their turn.
                Err(_) if changes.left == 0 => break,
                Err(_) => return Err(format!("NATS does not say all of {pattern}").into()),
            };
            found.retain(|other| other.key != change.key);
            found.push(change);
        }
        found.retain(|change| change.value.is_some());
        Ok(found)
    }

    /// Keeps a component, and a signature if there is one; it need not be the first time.
    pub async fn keep(
        &self,
        name: &str,
        component: &[u8],
        signature: Option<&str>,
        replicas: usize,
    ) -> Result<Digest, String> {
        let digest = Digest::of(component);
        let what = format!("cannot store {digest}");
        let store = self.make_components(replicas).await?;
        let there = store.info(digest.to_string()).await.ok();
        let is_there = there.is_some_and(|info| {
            !info.deleted
                && info.size == component.len()
                && info.metadata.get(SIGNATURE).map(String::as_str) == signature
        });
        if is_there {
            return Ok(digest);
        }
        let metadata =
            signature.map(|signature| (SIGNATURE.to_owned(), signature.to_owned())).into_iter().collect();
        let object = ObjectMetadata {
            name: digest.to_string(),
            description: Some(name.to_owned()),
            metadata,
            ..ObjectMetadata::default()
        };
        self.ask(COMPONENTS, &what, store.put(object, &mut &*component)).await?;
        Ok(digest)
    }

    /// The object store, which is made if it is not there.
    pub async fn make_components(&self, replicas: usize) -> Result<ObjectStore, String> {
        let what = format!("cannot open the object store {COMPONENTS}");
        let found = unless(is_not_found, self.context.get_object_store(COMPONENTS));
        if let Some(store) = self.ask(COMPONENTS, &what, found).await? {
            return Ok(store);
        }
        let config = object_store::Config {
            bucket: COMPONENTS.to_owned(),
            num_replicas: replicas,
            ..object_store::Config::default()
        };
        let made = self.refusals.or(COMPONENTS, self.context.create_object_store(config)).await;
        made.map_err(|refusal| not_made(COMPONENTS, &refusal))?
            .map_err(|error| not_made(COMPONENTS, &causes(&error)))
    }

    /// Has all buckets be as they are to be, also those that were there; how many servers keep the records.
    pub async fn remake(
        &self,
        replicas: Option<usize>,
        host_time: Option<Duration>,
    ) -> Result<usize, String> {
        self.make_components(replicas.unwrap_or(Making::default().replicas)).await?;
        let mut kept_by = 0;
        for (name, max_age) in [
            (format!("OBJ_{COMPONENTS}"), None),
            (format!("KV_{HOSTS}"), host_time),
            (format!("KV_{RECORDS}"), None),
        ] {
            let what = format!("cannot change {name}");
            let stream = self.ask(&name, &what, self.context.get_stream(&name)).await?;
            let before = &stream.cached_info().config;
            let mut config = before.clone();
            config.num_replicas = replicas.unwrap_or(config.num_replicas);
            if let Some(max_age) = max_age {
                config.max_age = max_age;
                // NATS remembers none for longer than it is there.
                config.duplicate_window = config.duplicate_window.min(max_age);
            }
            kept_by = config.num_replicas;
            if config != *before {
                self.ask(&name, &what, self.context.update_stream(config)).await?;
            }
        }
        self.learn_host_time().await?;
        Ok(kept_by)
    }

    /// What is known of a component that is kept: its name and its signature.
    pub async fn describe(&self, digest: Digest) -> Result<(String, Option<String>), String> {
        let (_, info) = self.look(digest).await?;
        Ok((info.description.unwrap_or_default(), info.metadata.get(SIGNATURE).cloned()))
    }

    async fn look(&self, digest: Digest) -> Result<(ObjectStore, object_store::ObjectInfo), String> {
        let what = format!("cannot open the object store {COMPONENTS}");
        let store = self.ask(COMPONENTS, &what, self.context.get_object_store(COMPONENTS)).await?;
        let what = format!(
            "{digest} is not in the object store {COMPONENTS}, where `plugsock fleet push` brings it"
        );
        let info = self.ask(COMPONENTS, &what, store.info(digest.to_string())).await?;
        if info.metadata.get(SIGNATURE).is_some_and(|signature| signature.len() > SIGNATURE_MAX) {
            return Err(format!("the signature of {digest} is longer than {SIGNATURE_MAX} bytes"));
        }
        Ok((store, info))
    }

    /// The bytes of a component or a program, of which no more are read than allowed by whatever has the name. They are whatever
    /// is there: who takes them checks them.
    pub fn fetch(
        &self,
        digest: Digest,
        (max, allowed_by): (u64, &'static str),
    ) -> impl Future<Output = Result<Vec<u8>, String>> + Send + 'static {
        let store = self.clone();
        async move {
            let (bucket, info) = store.look(digest).await?;
            if info.size as u64 > max {
                return Err(format!(
                    "{digest} has {} bytes, and {max} is the most that is loaded ({allowed_by})",
                    info.size
                ));
            }
            let what = format!("cannot fetch {digest}");
            let object = store.ask(COMPONENTS, &what, bucket.get(digest.to_string())).await?;
            // What is there need not be as long as it is said to be.
            let mut object = object.take(max.saturating_add(1));
            let mut bytes = Vec::new();
            loop {
                let read = timeout(STALL_TIME, object.read_buf(&mut bytes)).await;
                let read = read.map_err(|_| format!("{what}: nothing comes for {STALL_TIME:?}"))?;
                if read.map_err(|error| format!("{what}: {}", causes(&error)))? == 0 {
                    return Ok(bytes);
                }
            }
        }
    }
}

/// How a refusal names a record: at the end of what was asked.
fn named(store: &kv::Store, key: &str) -> String {
    format!("{}{key}\"", store.prefix)
}

fn bytes_of(key: &str, record: &impl Serialize) -> Result<Bytes, Trouble> {
    let bytes = serde_json::to_vec(record).map_err(|error| error.to_string())?;
    match bytes.len() {
        0..=RECORD_MAX => Ok(bytes.into()),
        _ => Err(format!("{key} would be longer than {RECORD_MAX} bytes").into()),
    }
}

/// A record as it was written; without a value it was removed.
#[derive(Debug)]
pub struct Change {
    pub key: String,
    pub revision: u64,
    pub value: Option<Bytes>,
}

/// What records are, and what they become.
pub struct Changes {
    messages: Ordered,
    prefix: String,
    /// How many are still to come of those that were there at first. One that is written anew meanwhile comes as it is then.
    pending: u64,
    /// How many NATS has to tell now, which may be none while one is written anew.
    left: u64,
}

impl Changes {
    /// Whether all that was there at first has been told.
    pub fn is_current(&self) -> bool {
        self.pending == 0
    }

    pub async fn next(&mut self) -> Result<Change, String> {
        let ended =
            |error: &dyn std::error::Error| format!("NATS tells no more of records: {}", causes(error));
        let message = self.messages.next().await.ok_or_else(|| "NATS tells no more of records".to_owned())?;
        let message = message.map_err(|error| ended(&error))?;
        let info = message.info().map_err(|error| format!("NATS tells no more of records: {error}"))?;
        let revision = info.stream_sequence;
        (self.pending, self.left) = (self.pending.saturating_sub(1), info.pending);
        let key = message.subject.strip_prefix(&self.prefix).unwrap_or_default().to_owned();
        let operation = message.headers.as_ref().and_then(|headers| headers.get("KV-Operation"));
        let is_put = operation.is_none_or(|operation| operation.as_str() == "PUT");
        Ok(Change { key, revision, value: is_put.then(|| message.payload.clone()) })
    }
}
