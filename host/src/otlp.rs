//! What all that is sent to a collector of OpenTelemetry's has in common: who sends it, by which client, and how the variables
//! that say so are read.

use std::env;
use std::str::FromStr;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response};
use opentelemetry::{Key, KeyValue};
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_sdk::Resource;
use rustls::crypto::ring;

use crate::error::causes;
use crate::passwords::without_passwords;

/// How long sending may take, unless `OTEL_EXPORTER_OTLP_TIMEOUT` says otherwise.
const TIMEOUT: Duration = Duration::from_secs(10);

/// How long the end of the program waits for what is sent last.
pub(crate) const LAST_TIME: Duration = Duration::from_secs(3);

/// Why something cannot be sent.
#[derive(Debug, thiserror::Error)]
#[error("cannot send {signal} by OTLP: {reason}")]
pub struct OtlpError {
    signal: &'static str,
    reason: String,
}

/// A kind of what is sent.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Signal {
    Metrics,
    Traces,
}

impl Signal {
    fn name(self) -> &'static str {
        match self {
            Self::Metrics => "metrics",
            Self::Traces => "traces",
        }
    }

    pub(crate) fn error(self, reason: impl ToString) -> OtlpError {
        OtlpError { signal: self.name(), reason: without_passwords(&reason.to_string()) }
    }

    /// Whether variables switch it off.
    pub(crate) fn is_off(self) -> Result<bool, OtlpError> {
        let is_disabled = variable("OTEL_SDK_DISABLED").is_some_and(|it| it.eq_ignore_ascii_case("true"));
        let name = format!("OTEL_{}_EXPORTER", self.name().to_uppercase());
        match variable(&name).map(|exporter| exporter.to_lowercase()).as_deref() {
            _ if is_disabled => Ok(true),
            Some("none") => Ok(true),
            None | Some("" | "otlp") => Ok(false),
            Some(other) => Err(self.error(format!("{name} is '{other}', and must be otlp or none"))),
        }
    }

    /// The variables that say something of it, the one that goes before first.
    fn variables(self, what: &str) -> [String; 2] {
        let signal = self.name().to_uppercase();
        [format!("OTEL_EXPORTER_OTLP_{signal}_{what}"), format!("OTEL_EXPORTER_OTLP_{what}")]
    }

    /// Refuses a collector that nothing could be sent to: the one that was given, or else that of the environment.
    pub(crate) fn check(self, endpoint: Option<&str>) -> Result<(), OtlpError> {
        let said = |what| {
            let mut said = self.variables(what).into_iter().filter_map(|name| Some((variable(&name)?, name)));
            said.find(|(value, _)| !value.is_empty())
        };
        if let Some((protocol, name)) = said("PROTOCOL").filter(|(protocol, _)| protocol != "http/protobuf") {
            return Err(self
                .error(format!("{name} is '{protocol}', and must be http/protobuf, which alone is spoken")));
        }
        let given = endpoint.map(|endpoint| (endpoint.to_owned(), "the endpoint".to_owned()));
        let is_http = |endpoint: &str| endpoint.starts_with("http://") || endpoint.starts_with("https://");
        match given.or_else(|| said("ENDPOINT")) {
            Some((endpoint, name)) if !is_http(&endpoint) => Err(self
                .error(format!("{name} is '{endpoint}', and must be http://HOST:PORT or https://HOST:PORT"))),
            _ => Ok(()),
        }
    }

    /// Made on another thread, since one that waits in tasks must not make it. No request of it takes longer than `at_most`.
    pub(crate) fn client(self, at_most: Duration) -> Result<Client, OtlpError> {
        let [of_signal, of_all] = self.variables("TIMEOUT");
        let name = if variable(&of_signal).is_some() { of_signal } else { of_all };
        let timeout = self.milliseconds(&name, TIMEOUT)?.min(at_most);
        // The client has no cryptography of its own. Whoever was first has installed the same.
        let _ = ring::default_provider().install_default();
        let build = move || reqwest::blocking::Client::builder().timeout(timeout).build();
        let built = thread::spawn(build).join();
        let built = built.map_err(|_| self.error("no HTTP client could be made"))?;
        let client = built.map_err(|error| self.error(error))?;
        Ok(Client { client, failure: Arc::default() })
    }

    pub(crate) fn milliseconds(self, name: &str, default: Duration) -> Result<Duration, OtlpError> {
        let parsed = self.parsed(name, "a number of milliseconds", |milliseconds: &u64| *milliseconds > 0)?;
        Ok(parsed.map_or(default, Duration::from_millis))
    }

    /// What a variable says, if it is set; it must be `what`.
    pub(crate) fn parsed<T: FromStr>(
        self,
        name: &str,
        what: &str,
        is_fine: impl FnOnce(&T) -> bool,
    ) -> Result<Option<T>, OtlpError> {
        let Some(value) = variable(name) else { return Ok(None) };
        match value.parse().ok().filter(is_fine) {
            Some(parsed) => Ok(Some(parsed)),
            None => Err(self.error(format!("{name} is '{value}', and must be {what}"))),
        }
    }
}

/// Sends for an exporter, and remembers why it could not, which the exporter does not tell. Cloning is cheap.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    client: reqwest::blocking::Client,
    failure: Arc<Mutex<Option<String>>>,
}

#[async_trait]
impl HttpClient for Client {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let collector = request.uri().to_string();
        let sent = self.client.send_bytes(request).await;
        let failure = match &sent {
            Ok(response) if response.status().is_success() => None,
            Ok(response) => Some(format!("{collector} answers {}", response.status())),
            Err(error) => Some(causes(&**error)),
        };
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = failure;
        sent
    }
}

impl Client {
    /// Why something was not sent, which failed with this.
    pub(crate) fn reason(&self, error: &impl ToString) -> String {
        let failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner).take();
        without_passwords(&failure.unwrap_or_else(|| error.to_string()))
    }
}

/// A variable of the environment, if it is set.
pub(crate) fn variable(name: &str) -> Option<String> {
    env::var(name).ok().map(|value| value.trim().to_owned())
}

/// Who sends, as `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES` say. Two processes of which one takes over from the other
/// are two instances.
pub(crate) fn resource() -> Resource {
    let from_environment = Resource::builder().build();
    let has = |name: &'static str| from_environment.get(&Key::from_static_str(name));
    let is_named = has("service.name").is_some_and(|name| !name.as_str().starts_with("unknown_service"));
    let own = [
        (!is_named).then(|| KeyValue::new("service.name", "plugsock")),
        has("service.version").is_none().then(|| KeyValue::new("service.version", env!("CARGO_PKG_VERSION"))),
        has("service.instance.id").is_none().then(|| KeyValue::new("service.instance.id", instance_id())),
    ];
    Resource::builder().with_attributes(own.into_iter().flatten()).build()
}

/// Unlike that of any other process.
fn instance_id() -> &'static str {
    static ID: OnceLock<String> = OnceLock::new();
    ID.get_or_init(|| {
        let mut random = [0; 16];
        // Where there is no chance, the time has to do.
        let _ = rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty());
        format!("{:032x}", u128::from_ne_bytes(random))
    })
}
