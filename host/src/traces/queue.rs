//! Spans on their way to the collector. Nobody waits for it: what finds no room is counted and let go.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use opentelemetry_otlp::{SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{self, BatchConfigBuilder, BatchSpanProcessor, SpanData, SpanProcessor};

use super::Sampling;
use crate::log_limit::LogLimit;
use crate::otlp::{Client, LAST_TIME, OtlpError, Signal, resource};

const SIZE: (&str, usize) = ("OTEL_BSP_MAX_QUEUE_SIZE", 2048);
const BATCH_SIZE: (&str, usize) = ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", 512);
const DELAY: (&str, Duration) = ("OTEL_BSP_SCHEDULE_DELAY", Duration::from_secs(5));
const EXPORT_TIMEOUT: (&str, Duration) = ("OTEL_BSP_EXPORT_TIMEOUT", Duration::from_secs(30));

/// The memory for all that may be queued is taken at once.
const SIZE_MAX: usize = 1_000_000;

/// Where spans go. Cloning is cheap.
#[derive(Clone, Debug)]
pub struct Traces(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    sampling: Sampling,
    processor: BatchSpanProcessor,
    size: usize,
    counts: Arc<Counts>,
    said_full: Mutex<LogLimit>,
}

#[derive(Debug, Default)]
struct Counts {
    queued: AtomicUsize,
    sent: AtomicU64,
    full: AtomicU64,
    failed: AtomicU64,
}

impl Traces {
    /// To the collector at `endpoint`, the whole URL; or where `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT` or
    /// `OTEL_EXPORTER_OTLP_ENDPOINT` says. `None` if `OTEL_SDK_DISABLED` or `OTEL_TRACES_EXPORTER` switches that off.
    pub fn to_collector(endpoint: Option<String>) -> Result<Option<Self>, OtlpError> {
        if Signal::Traces.is_off()? {
            return Ok(None);
        }
        Signal::Traces.check(endpoint.as_deref())?;
        let sampling = Sampling::from_environment()?;
        let count = |(name, default): (&str, usize)| {
            let what = format!("a number from 1 to {SIZE_MAX}");
            let is_fine = |count: &usize| (1..=SIZE_MAX).contains(count);
            Signal::Traces.parsed(name, &what, is_fine).map(|count| count.unwrap_or(default))
        };
        let time = |(name, default)| Signal::Traces.milliseconds(name, default);
        let (size, batch_size, delay) = (count(SIZE)?, count(BATCH_SIZE)?, time(DELAY)?);
        let client = Signal::Traces.client(time(EXPORT_TIMEOUT)?)?;
        let exporter = SpanExporter::builder().with_http().with_http_client(client.clone());
        let exporter = match endpoint {
            Some(endpoint) => exporter.with_endpoint(endpoint),
            None => exporter,
        };
        let exporter = exporter.build().map_err(|error| Signal::Traces.error(error))?;
        let counts = Arc::<Counts>::default();
        let mut exporter =
            Counting { exporter, client, counts: counts.clone(), said_failed: Mutex::default() };
        trace::SpanExporter::set_resource(&mut exporter, &resource());
        let config = BatchConfigBuilder::default()
            .with_max_queue_size(size)
            .with_max_export_batch_size(batch_size)
            .with_scheduled_delay(delay);
        let processor = BatchSpanProcessor::new(exporter, config.build());
        Ok(Some(Self(Arc::new(Inner { sampling, processor, size, counts, said_full: Mutex::default() }))))
    }

    /// Of which requests spans are made.
    pub fn sampling(&self) -> Sampling {
        self.0.sampling
    }

    /// Sends what is queued, and takes no more; waits for that at most three seconds.
    pub fn end(&self) {
        if self.0.processor.shutdown_with_timeout(LAST_TIME).is_err() {
            tracing::warn!("the last spans are lost: the collector has not taken them within {LAST_TIME:?}");
        }
    }

    /// Never waits.
    pub(crate) fn send(&self, span: SpanData) {
        let Inner { processor, size, counts, said_full, .. } = &*self.0;
        // The processor has a bound of its own, of the same size, and does not tell what it lets go of.
        if counts.queued.fetch_add(1, Relaxed) < *size {
            return processor.on_end(span);
        }
        counts.queued.fetch_sub(1, Relaxed);
        let dropped = counts.full.fetch_add(1, Relaxed) + 1;
        said_full.lock().unwrap_or_else(PoisonError::into_inner).run(|_| {
            tracing::warn!(
                "{size} spans wait for the collector, the most allowed: {dropped} were dropped so far (sample fewer \
                 with OTEL_TRACES_SAMPLER, or raise {})",
                SIZE.0
            );
        });
    }

    pub(crate) fn sent(&self) -> u64 {
        self.0.counts.sent.load(Relaxed)
    }

    /// How many were not sent, by the reason.
    pub(crate) fn dropped(&self) -> [(&'static str, u64); 2] {
        let Counts { full, failed, .. } = &*self.0.counts;
        [("full", full.load(Relaxed)), ("failed", failed.load(Relaxed))]
    }
}

/// The exporter, and what comes of it.
#[derive(Debug)]
struct Counting {
    exporter: SpanExporter,
    client: Client,
    counts: Arc<Counts>,
    said_failed: Mutex<LogLimit>,
}

impl trace::SpanExporter for Counting {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let count = batch.len();
        self.counts.queued.fetch_sub(count, Relaxed);
        let sent = self.exporter.export(batch).await;
        match &sent {
            Ok(()) => self.counts.sent.fetch_add(count as u64, Relaxed),
            Err(reason) => {
                let mut said_failed = self.said_failed.lock().unwrap_or_else(PoisonError::into_inner);
                said_failed.run(|_| {
                    let reason = self.client.reason(reason);
                    tracing::warn!("cannot send {count} spans to the collector: {reason}");
                });
                self.counts.failed.fetch_add(count as u64, Relaxed)
            }
        };
        sent
    }

    fn shutdown(&self) -> OTelSdkResult {
        self.exporter.shutdown()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}
