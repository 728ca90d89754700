//! The stores that this process has open, and what is counted of them.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use tokio::time::timeout;

use super::file::FileStore;
use super::grant::StateGrant;
use super::limits::Quota;
use super::memory::Memory;
use super::nats::Nats;
use super::operation::Operation;
use super::redis::Redis;
use super::url::StoreUrl;
use super::{Answer, Backend, Failure, Outcome};
use crate::error::one_line;
use crate::runtime;

/// What tells one store from another.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Identity {
    /// In memory a store is what it is called.
    Memory(String),
    File(PathBuf),
    /// A server's, by its URL.
    Remote(StoreUrl),
}

/// How long a server has to answer at the start before that is said.
const FIRST_ANSWER: Duration = Duration::from_secs(5);

static OPEN: Mutex<Option<HashMap<Identity, Weak<dyn Backend>>>> = Mutex::new(None);

/// The store of a grant: the one that this process has open, if it has.
pub(super) fn open(grant: &StateGrant) -> Result<Arc<dyn Backend>, String> {
    open_by(&grant.name, &grant.url)
}

pub(super) fn open_by(name: &str, url: &StoreUrl) -> Result<Arc<dyn Backend>, String> {
    let identity = match url {
        StoreUrl::Memory => Identity::Memory(name.to_owned()),
        StoreUrl::File { path, .. } => Identity::File(canonical(path)?),
        StoreUrl::Redis { .. } | StoreUrl::Nats { .. } => Identity::Remote(url.clone()),
    };
    let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
    let open = open.get_or_insert_default();
    open.retain(|_, store| store.strong_count() > 0);
    if let Some(store) = open.get(&identity).and_then(Weak::upgrade) {
        return Ok(store);
    }
    let store: Arc<dyn Backend> = match (&identity, url) {
        (Identity::File(path), StoreUrl::File { durable, .. }) => Arc::new(FileStore::open(path, *durable)?),
        (_, StoreUrl::Redis { url, hash, ca }) => Arc::new(Redis::open(url, hash, ca.as_deref())?),
        (_, StoreUrl::Nats { server, bucket, ca }) => Arc::new(Nats::open(server, bucket, ca.as_deref())?),
        _ => Arc::new(Memory::default()),
    };
    open.insert(identity, Arc::downgrade(&store));
    if matches!(url, StoreUrl::Redis { .. } | StoreUrl::Nats { .. }) {
        warn_if_unreachable(store.clone(), url.to_string());
    }
    Ok(store)
}

/// Those that are in this process's memory, by their names.
pub(super) fn in_memory() -> Vec<(String, Memory)> {
    let open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
    let named = open.iter().flatten().filter_map(|(identity, store)| match identity {
        Identity::Memory(name) => Some((name.clone(), store.upgrade()?.as_memory()?.clone())),
        Identity::File(_) | Identity::Remote(_) => None,
    });
    named.collect()
}

/// Says in the log if a server does not answer at the start. It may later.
fn warn_if_unreachable(store: Arc<dyn Backend>, url: String) {
    let asked = runtime::spawn(async move {
        let reason = match timeout(FIRST_ANSWER, store.run(Operation::Open, Quota::NONE)).await {
            Ok(Ok(_)) => return,
            Ok(Err(failure)) => failure.to_string(),
            Err(_) => "it does not answer".to_owned(),
        };
        tracing::warn!("state in {} cannot be reached now: {}", one_line(&url), one_line(&reason));
    });
    if let Err(error) = asked {
        tracing::warn!("state cannot be reached: {error}");
    }
}

/// A path by which a file has one name, whether it is there yet or not.
fn canonical(path: &Path) -> Result<PathBuf, String> {
    if let Ok(path) = path.canonicalize() {
        return Ok(path);
    }
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = path.file_name().ok_or("it is no file's name")?;
    let directory = directory.canonicalize().map_err(|error| format!("its directory: {error}"))?;
    Ok(directory.join(name))
}

/// How often each operation came to each end, and when it was last said that one has failed.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    ends: [[AtomicU64; OUTCOMES.len()]; Operation::NAMES.len()],
    complained: Mutex<Option<Instant>>,
}

/// How long nothing is said of a store that goes on failing.
const SILENCE: Duration = Duration::from_secs(60);

const OUTCOMES: [&str; 6] = ["ok", "conflict", "denied", "limit", "timeout", "error"];

static COUNTS: Mutex<BTreeMap<String, Arc<Counts>>> = Mutex::new(BTreeMap::new());

fn all_counts() -> MutexGuard<'static, BTreeMap<String, Arc<Counts>>> {
    COUNTS.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Counts {
    /// Those of the stores of this name, as long as the process goes on: only the operator gives names.
    pub(super) fn of(name: &str) -> Arc<Self> {
        all_counts().entry(name.to_owned()).or_default().clone()
    }

    pub(super) fn count(&self, operation: usize, outcome: &Outcome) {
        let outcome = match outcome {
            Ok(Answer::Changed(_)) => 1,
            Ok(_) => 0,
            Err(Failure::NoSuchStore | Failure::AccessDenied | Failure::NotAllowed(_)) => 2,
            Err(Failure::Limit(_)) => 3,
            Err(Failure::TimedOut(_)) => 4,
            Err(Failure::Unreachable(_) | Failure::Other(_)) => 5,
        };
        self.ends[operation][outcome].fetch_add(1, Relaxed);
    }

    /// Says in the log what the store fails at, and not the handler: now and then, however often it does.
    pub(super) fn complain(&self, name: &str, outcome: &Outcome) {
        let Err(failure @ (Failure::NotAllowed(_) | Failure::TimedOut(_) | Failure::Unreachable(_))) =
            outcome
        else {
            return;
        };
        let mut complained = self.complained.lock().unwrap_or_else(PoisonError::into_inner);
        if complained.is_none_or(|at| at.elapsed() >= SILENCE) {
            *complained = Some(Instant::now());
            let reason = failure.to_string();
            tracing::warn!("state {name}: {}; this is said once in {SILENCE:?} at most", one_line(&reason));
        }
    }
}

/// The operations so far, by store, kind and outcome; what never happened is left out.
pub(crate) fn counts() -> Vec<(String, &'static str, &'static str, u64)> {
    let stores = all_counts();
    let of_store = |(name, counts): (&String, &Arc<Counts>)| {
        let (name, counts) = (name.clone(), counts.clone());
        let kinds = Operation::NAMES.into_iter().enumerate();
        let all = kinds.flat_map(|(kind, operation)| {
            OUTCOMES.into_iter().enumerate().map(move |(outcome, word)| (kind, outcome, operation, word))
        });
        let counted = all.map(move |(kind, outcome, operation, word)| {
            (name.clone(), operation, word, counts.ends[kind][outcome].load(Relaxed))
        });
        counted.filter(|(.., count)| *count > 0).collect::<Vec<_>>()
    };
    stores.iter().flat_map(of_store).collect()
}
