//! The metrics as a collector of OpenTelemetry's wants them: sent to it once in a while, by OTLP over HTTP.
//!
//! The SDK's instruments do not take times that were counted elsewhere. So what is sent is written here, and its way to the
//! collector is the SDK's own exporter's, with all that its variables say of that.

mod encode;

use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response};
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_otlp::{MetricExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::metrics::data::ResourceMetrics;
use opentelemetry_sdk::metrics::exporter::PushMetricExporter;
use prost::Message;

use super::Observed;
use crate::block_on::block_on;
use crate::control::Controlled;
use crate::log_limit::LogLimit;
use crate::otlp::{Client, LAST_TIME, OtlpError, Signal, resource};

/// How often they are sent, unless `OTEL_METRIC_EXPORT_INTERVAL` says otherwise.
const INTERVAL: Duration = Duration::from_secs(60);

/// A collector that metrics can be sent to.
#[derive(Debug)]
pub struct OtlpCollector {
    exporter: MetricExporter,
    client: Client,
    body: Body,
    interval: Duration,
}

/// Sends metrics from a thread of its own. Dropping it sends them once more, and waits for that at most three seconds.
#[derive(Debug)]
pub struct OtlpExporter {
    /// Dropped to end it.
    stop: Option<Sender<()>>,
    ended: Receiver<()>,
}

impl OtlpCollector {
    /// The one at `endpoint`, the whole URL; or where `OTEL_EXPORTER_OTLP_METRICS_ENDPOINT` or `OTEL_EXPORTER_OTLP_ENDPOINT`
    /// says. `None` if `OTEL_SDK_DISABLED` or `OTEL_METRICS_EXPORTER` switches that off.
    pub fn at(endpoint: Option<String>) -> Result<Option<Self>, OtlpError> {
        if Signal::Metrics.is_off()? {
            return Ok(None);
        }
        Signal::Metrics.check(endpoint.as_deref())?;
        let interval = Signal::Metrics.milliseconds("OTEL_METRIC_EXPORT_INTERVAL", INTERVAL)?;
        let body = Body::default();
        let client = Signal::Metrics.client(Duration::MAX)?;
        let written = Written { client: client.clone(), body: body.clone() };
        let exporter = MetricExporter::builder().with_http().with_http_client(written);
        let exporter = match endpoint {
            Some(endpoint) => exporter.with_endpoint(endpoint),
            None => exporter,
        };
        let exporter = exporter.build().map_err(|error| Signal::Metrics.error(error))?;
        Ok(Some(Self { exporter, client, body, interval }))
    }

    /// Starts to send what is counted of a program.
    pub fn start(self, host: Arc<dyn Controlled>) -> io::Result<OtlpExporter> {
        let (stop, stopped) = channel();
        let (ending, ended) = channel();
        let sending = Sending { observed: Observed::new(host), resource: resource(), collector: self };
        thread::Builder::new().name("otlp".to_owned()).spawn(move || {
            sending.run(&stopped);
            drop(ending);
        })?;
        Ok(OtlpExporter { stop: Some(stop), ended })
    }
}

impl Drop for OtlpExporter {
    fn drop(&mut self) {
        self.stop = None;
        if let Err(RecvTimeoutError::Timeout) = self.ended.recv_timeout(LAST_TIME) {
            tracing::warn!(
                "the last metrics are lost: the collector has not taken them within {LAST_TIME:?}"
            );
        }
    }
}

struct Sending {
    observed: Observed,
    resource: Resource,
    collector: OtlpCollector,
}

impl Sending {
    fn run(self, stopped: &Receiver<()>) {
        let interval = self.collector.interval;
        let mut said_failed = LogLimit::default();
        let mut next = Instant::now() + interval;
        loop {
            let is_last = match stopped.recv_timeout(next.saturating_duration_since(Instant::now())) {
                Err(RecvTimeoutError::Timeout) => false,
                Ok(()) | Err(RecvTimeoutError::Disconnected) => true,
            };
            if let Err(reason) = self.send() {
                said_failed.run(|_| tracing::warn!("cannot send metrics to the collector: {reason}"));
            }
            if is_last {
                return;
            }
            // What took longer than a round is no reason for two at once.
            next = (next + interval).max(Instant::now());
        }
    }

    fn send(&self) -> Result<(), String> {
        let request = encode::request(self.observed.families(), &self.resource, self.observed.started);
        self.collector.body.set(request.encode_to_vec().into());
        // In its place the client sends the body.
        let sent = block_on(self.collector.exporter.export(&ResourceMetrics::default()));
        sent.map_err(|error| self.collector.client.reason(&error))
    }
}

/// What is to be sent next.
#[derive(Clone, Debug, Default)]
struct Body(Arc<Mutex<Bytes>>);

impl Body {
    fn set(&self, bytes: Bytes) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = bytes;
    }

    fn get(&self) -> Bytes {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Sends the body in the place of the exporter's own.
#[derive(Debug)]
struct Written {
    client: Client,
    body: Body,
}

#[async_trait]
impl HttpClient for Written {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        self.client.send_bytes(request.map(|_| self.body.get())).await
    }
}
