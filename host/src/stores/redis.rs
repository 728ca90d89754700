//! A store in Redis: a hash, which other programs may look into, too.
//!
//! There is one connection, made with the first operation and again when it breaks. What has to be atomic is a script, which the
//! server runs as one. In a cluster all of it is on one server: that is asked whom the first one names.

use std::fmt;
use std::path::Path;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ErrorKind, RedisError, Script, ScriptInvocation,
    ServerErrorKind, TlsCertificates, Value,
};

use super::backoff::Backoff;
use super::limits::Quota;
use super::operation::{
    ANSWER_MAX, Answer, Failure, Operation, PAGE, no_number, number, overflow, too_large,
};
use super::server::{advised, check_ca};
use super::{Backend, Outcome, Running, on_runtime};

static SCRIPT: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("redis.lua")));

/// What names certificates of those who vouch for it.
const CA: &str = "?ca=FILE";

/// What Redis says to whom it does not allow something, also in a script, by its versions.
const REFUSALS: [&str; 3] = ["NOPERM", "no permissions", "can't run this command"];

/// How long it may take to connect.
const CONNECT: Duration = Duration::from_secs(3);

pub(super) struct Redis(Arc<Inner>);

struct Inner {
    client: Client,
    hash: String,
    connected: tokio::sync::Mutex<Option<Connected>>,
    backoff: Backoff,
}

struct Connected {
    /// Whom another server of its cluster has named.
    node: Option<String>,
    connection: MultiplexedConnection,
}

impl Redis {
    pub(super) fn open(url: &str, hash: &str, ca: Option<&Path>) -> Result<Self, String> {
        crate::tls::install_provider();
        check_ca(ca)?;
        let client = match ca {
            None => Client::open(url),
            Some(ca) => {
                let root_cert = Some(std::fs::read(ca).map_err(|error| error.to_string())?);
                Client::build_with_tls(url, TlsCertificates { client_tls: None, root_cert })
            }
        };
        let client = client.map_err(|error| error.to_string())?;
        let (connected, backoff) = Default::default();
        Ok(Self(Arc::new(Inner { client, hash: hash.to_owned(), connected, backoff })))
    }
}

impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Redis({})", self.0.hash)
    }
}

impl Backend for Redis {
    fn run(&self, operation: Operation, quota: Quota) -> Running<'_> {
        let inner = self.0.clone();
        on_runtime(async move { inner.run(operation, quota).await })
    }
}

impl Inner {
    async fn run(&self, operation: Operation, quota: Quota) -> Outcome {
        let invocation = self.invocation(&operation, quota)?;
        let mut connection = self.connection(None).await?;
        let mut answered = invocation.invoke_async::<Value>(&mut connection).await;
        if let Some(node) = answered.as_ref().err().and_then(moved_to) {
            connection = self.connection(Some(node)).await?;
            answered = invocation.invoke_async(&mut connection).await;
        }
        match answered {
            Ok(value) => answer(&operation, value, quota),
            Err(error) => {
                if error.is_io_error() || error.is_connection_dropped() || error.is_timeout() {
                    *self.connected.lock().await = None;
                }
                let reason = format!("Redis: {}", advised(&error.to_string(), CA));
                Err(match REFUSALS.iter().any(|refusal| reason.contains(refusal)) {
                    true => Failure::NotAllowed(reason),
                    false => Failure::Unreachable(reason),
                })
            }
        }
    }

    /// The connection, to that server of a cluster if one is named; whoever comes first makes it, and the rest wait for that.
    async fn connection(&self, node: Option<&str>) -> Result<MultiplexedConnection, Failure> {
        let mut connected = self.connected.lock().await;
        if let Some(connected) = connected.as_ref().filter(|it| node.is_none() || it.node.as_deref() == node)
        {
            return Ok(connected.connection.clone());
        }
        self.backoff.check()?;
        let client = node.map_or_else(|| Ok(self.client.clone()), |node| self.client_of(node))?;
        // The limit of an operation is its caller's.
        let config =
            AsyncConnectionConfig::new().set_connection_timeout(Some(CONNECT)).set_response_timeout(None);
        match client.get_multiplexed_async_connection_with_config(&config).await {
            Ok(connection) => {
                self.backoff.succeeded();
                let node = node.map(str::to_owned);
                Ok(connected.insert(Connected { node, connection }).connection.clone())
            }
            Err(error) => {
                let reason = advised(&error.to_string(), CA);
                Err(self.backoff.failed(format!("Redis cannot be reached: {reason}")))
            }
        }
    }

    /// Another server of the cluster, reached as the first one is.
    fn client_of(&self, node: &str) -> Result<Client, Failure> {
        let strange = || Failure::other(format!("Redis has named a server that is none: {node:.100?}"));
        let (named, number) = node.rsplit_once(':').ok_or_else(strange)?;
        let mut info = self.client.get_connection_info().clone();
        let mut address = info.addr().clone();
        if let ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } = &mut address {
            // Without a name it is the same host.
            if !named.is_empty() {
                *host = named.to_owned();
            }
            *port = number.parse().map_err(|_| strange())?;
        }
        info = info.set_addr(address);
        Client::open(info).map_err(Failure::other)
    }

    fn invocation(&self, operation: &Operation, quota: Quota) -> Result<ScriptInvocation<'static>, Failure> {
        let mut call = SCRIPT.key(&self.hash);
        // In a cluster both are to be on one server.
        call.key(format!("{{{}}}:size", self.hash));
        let mut begin = |name: &str| {
            call.arg(name).arg(quota.keys).arg(quota.size);
        };
        match operation {
            Operation::Open => {
                begin("get");
                call.arg(ANSWER_MAX);
            }
            Operation::Get(key) | Operation::Exists(key) => {
                begin("get");
                call.arg(ANSWER_MAX).arg(key);
            }
            Operation::GetMany(keys) => {
                begin("get");
                call.arg(ANSWER_MAX).arg(keys);
            }
            Operation::List(cursor) => {
                let cursor = cursor.as_deref().unwrap_or("0");
                let cursor: u64 =
                    cursor.parse().map_err(|_| Failure::other("the cursor is none of this store"))?;
                begin("list");
                call.arg(cursor).arg(PAGE);
            }
            Operation::Set(key, value) => {
                begin("set");
                call.arg(key).arg(value);
            }
            Operation::SetMany(entries) => {
                begin("set");
                for (key, value) in entries {
                    call.arg(key).arg(value);
                }
            }
            Operation::Delete(key) => {
                begin("delete");
                call.arg(key);
            }
            Operation::DeleteMany(keys) => {
                begin("delete");
                call.arg(keys);
            }
            Operation::Increment(key, delta) => {
                begin("increment");
                call.arg(key).arg(*delta);
            }
            Operation::Swap { key, expected, value } => {
                begin("swap");
                call.arg(key).arg(value).arg(expected);
            }
        }
        Ok(call)
    }
}

/// The server of the cluster that has the hash, if another was asked.
fn moved_to(error: &RedisError) -> Option<&str> {
    let has_moved = error.kind() == ErrorKind::Server(ServerErrorKind::Moved);
    error.redirect_node().filter(|_| has_moved).map(|(node, _)| node)
}

fn strange(value: &impl fmt::Debug) -> Failure {
    Failure::Other(format!("Redis has answered something else: {value:.100?}"))
}

/// What the script's answer says.
fn answer(operation: &Operation, value: Value, quota: Quota) -> Outcome {
    let Value::Array(values) = value else { return Err(strange(&value)) };
    let mut values = values.into_iter().map(bytes);
    let kind = text(values.next())?;
    match &*kind {
        "done" => Ok(Answer::Done),
        "values" => {
            let mut values: Vec<Option<Vec<u8>>> = values.collect::<Result<_, _>>()?;
            Ok(match operation {
                Operation::GetMany(keys) => {
                    // What ends with nothing ends earlier.
                    values.resize(keys.len(), None);
                    Answer::Values(values)
                }
                Operation::Exists(_) => Answer::Exists(values.pop().flatten().is_some()),
                Operation::Open => Answer::Done,
                _ => Answer::Value(values.pop().flatten()),
            })
        }
        "keys-after" => {
            let cursor = Some(text(values.next())?).filter(|cursor| *cursor != "0");
            let keys = values.map(|key| text(Some(key))).collect::<Result<_, _>>()?;
            Ok(Answer::Keys(keys, cursor))
        }
        "number" => Ok(Answer::Number(number(text(values.next())?.as_bytes())?)),
        "changed" => Ok(Answer::Changed(values.next().transpose()?.flatten())),
        "keys" => Err(quota.keys_reached(text(values.next())?)),
        "size" => Err(quota.size_reached(text(values.next())?)),
        "large" => Err(too_large()),
        "no-number" => Err(no_number()),
        "overflow" => Err(overflow()),
        _ => Err(strange(&kind)),
    }
}

fn bytes(value: Value) -> Result<Option<Vec<u8>>, Failure> {
    match value {
        Value::Nil => Ok(None),
        Value::BulkString(bytes) => Ok(Some(bytes)),
        Value::SimpleString(text) => Ok(Some(text.into_bytes())),
        other => Err(strange(&other)),
    }
}

fn text(value: Option<Result<Option<Vec<u8>>, Failure>>) -> Result<String, Failure> {
    let bytes = value.transpose()?.flatten().unwrap_or_default();
    // Other programs may have keys that are no text.
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
