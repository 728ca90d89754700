//! A store in Redis: a hash, which other programs may look into, too.
//!
//! There is one connection, made with the first operation and again when it breaks. What has to be atomic is a script, which the
//! server runs as one.

use std::fmt;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, Script, ScriptInvocation, Value};

use super::backoff::Backoff;
use super::limits::Quota;
use super::operation::{
    ANSWER_MAX, Answer, Failure, Operation, PAGE, no_number, number, overflow, too_large,
};
use super::{Backend, Outcome, Running, on_runtime};

static SCRIPT: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("redis.lua")));

/// How long it may take to connect.
const CONNECT: Duration = Duration::from_secs(3);

pub(super) struct Redis(Arc<Inner>);

struct Inner {
    client: Client,
    hash: String,
    connection: tokio::sync::Mutex<Option<MultiplexedConnection>>,
    backoff: Backoff,
}

impl Redis {
    pub(super) fn open(url: &str, hash: &str) -> Result<Self, String> {
        crate::tls::install_provider();
        let client = Client::open(url).map_err(|error| error.to_string())?;
        let (connection, backoff) = Default::default();
        Ok(Self(Arc::new(Inner { client, hash: hash.to_owned(), connection, backoff })))
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
        let mut connection = self.connection().await?;
        let answered = self.invocation(&operation, quota)?.invoke_async::<Value>(&mut connection).await;
        match answered {
            Ok(value) => answer(&operation, value, quota),
            Err(error) => {
                if error.is_io_error() || error.is_connection_dropped() || error.is_timeout() {
                    *self.connection.lock().await = None;
                }
                Err(Failure::Unreachable(format!("Redis: {error}")))
            }
        }
    }

    /// The connection; whoever comes first makes it, and the rest wait for that.
    async fn connection(&self) -> Result<MultiplexedConnection, Failure> {
        let mut connection = self.connection.lock().await;
        if let Some(connection) = &*connection {
            return Ok(connection.clone());
        }
        self.backoff.check()?;
        // The limit of an operation is its caller's.
        let config =
            AsyncConnectionConfig::new().set_connection_timeout(Some(CONNECT)).set_response_timeout(None);
        match self.client.get_multiplexed_async_connection_with_config(&config).await {
            Ok(made) => {
                self.backoff.succeeded();
                Ok(connection.insert(made).clone())
            }
            Err(error) => Err(self.backoff.failed(format!("Redis cannot be reached: {error}"))),
        }
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
