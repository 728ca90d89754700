//! Where `plugsock serve` shows what it counts, at an address of its own, and that and what requests do to a collector of
//! OpenTelemetry's.

use std::io::Write;
use std::sync::Arc;
use std::thread;

use anyhow::Context;
use clap::Args;
use plugsock::ServeAddress;
use plugsock::metrics::{MetricsServer, MetricsSocket, OtlpCollector, OtlpExporter};
use plugsock::traces::Traces;
use plugsock::upgrade::Predecessor;

use super::running::Running;

#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Metrics and traces")]
pub struct TelemetryArgs {
    /// Serve metrics for Prometheus at tcp://HOST:PORT or unix:///PATH, by plain HTTP under /metrics, with a page for people
    /// under / and what `ctl status --json` says under /status. Whoever reaches the address sees all of it
    #[arg(long, value_name = "ADDRESS")]
    metrics: Option<ServeAddress>,

    /// Send metrics and traces to an OpenTelemetry collector, by OTLP over HTTP: to this base URL, or else to where
    /// OTEL_EXPORTER_OTLP_ENDPOINT says, or http://localhost:4318. OTEL_METRIC_EXPORT_INTERVAL, OTEL_TRACES_SAMPLER,
    /// OTEL_TRACES_SAMPLER_ARG, OTEL_METRICS_EXPORTER=none, OTEL_TRACES_EXPORTER=none, OTEL_EXPORTER_OTLP_HEADERS,
    /// OTEL_BSP_MAX_QUEUE_SIZE, OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES and the like mean what they mean everywhere
    #[arg(long, value_name = "URL", num_args = 0..=1, require_equals = true)]
    otlp: Option<Option<String>>,
}

impl TelemetryArgs {
    /// Whether anybody is to see what requests take.
    pub fn is_wanted(&self) -> bool {
        self.metrics.is_some() || self.otlp.is_some()
    }

    /// Refuses what could not be shown anywhere, without binding or sending anything.
    pub fn check(&self) -> anyhow::Result<()> {
        self.metrics.as_ref().map_or(Ok(()), MetricsSocket::check).context("--metrics")?;
        self.prepare(None).map(drop)
    }

    /// Binds the address for metrics, or takes it over from the process before this one.
    pub fn bind(&self, predecessor: Option<&mut Predecessor>) -> anyhow::Result<Option<Arc<MetricsSocket>>> {
        let Some(address) = &self.metrics else { return Ok(None) };
        let handed = predecessor.and_then(|predecessor| predecessor.metrics(address));
        let bound = match handed {
            Some(handed) => MetricsSocket::take_over(address, handed),
            None => MetricsSocket::bind(address),
        };
        Ok(Some(Arc::new(bound.context("--metrics")?)))
    }

    /// Whatever may be wrong with it shows here, before anybody is served.
    pub fn prepare(&self, metrics: Option<Arc<MetricsSocket>>) -> anyhow::Result<Telemetry> {
        let otlp = self.otlp();
        let collector = otlp.as_ref().map(|otlp| OtlpCollector::at(otlp.endpoint("metrics"))).transpose()?;
        let traces = otlp.map(|otlp| Traces::to_collector(otlp.endpoint("traces"))).transpose()?;
        Ok(Telemetry { metrics, collector: collector.flatten(), traces: traces.flatten() })
    }

    /// The collector to send to, if there is one.
    pub fn otlp(&self) -> Option<Otlp> {
        self.otlp.clone().map(|endpoint| Otlp { endpoint })
    }
}

/// An OpenTelemetry collector.
#[derive(Clone, Debug)]
pub struct Otlp {
    /// As it was given; `None` leaves it to the environment.
    endpoint: Option<String>,
}

impl Otlp {
    /// Where one signal goes (`metrics`, `traces`), to be given to its exporter; `None` leaves it to the environment, which may
    /// name a place for each.
    pub fn endpoint(&self, signal: &str) -> Option<String> {
        let endpoint = self.endpoint.as_deref()?.trim_end_matches('/');
        Some(format!("{endpoint}/v1/{signal}"))
    }
}

/// Says on standard output where metrics are: the port may be one that the system chose.
pub fn say(metrics: &MetricsSocket) -> anyhow::Result<()> {
    let line = format!("metrics {}\n", metrics.address()?);
    if let Err(error) = std::io::stdout().write_all(line.as_bytes()) {
        tracing::warn!("cannot write where metrics are: {error}");
    }
    Ok(())
}

/// All that is ready to be shown.
pub struct Telemetry {
    metrics: Option<Arc<MetricsSocket>>,
    collector: Option<OtlpCollector>,
    /// Where servers send what their requests do.
    pub traces: Option<Traces>,
}

/// It is shown until this is dropped.
pub struct Shown {
    _metrics: Option<MetricsServer>,
    otlp: Option<OtlpExporter>,
    traces: Option<Traces>,
}

/// Both wait for their collector, which may be away.
impl Drop for Shown {
    fn drop(&mut self) {
        let Self { otlp, traces, .. } = self;
        let Some(traces) = traces else { return };
        thread::scope(|scope| {
            let end = || traces.end();
            if thread::Builder::new().spawn_scoped(scope, end).is_err() {
                end();
            }
            *otlp = None;
        });
    }
}

impl Telemetry {
    pub fn start(self, running: &Arc<Running>) -> anyhow::Result<Shown> {
        let metrics = self.metrics.map(|metrics| metrics.serve(running.clone())).transpose();
        let otlp = self.collector.map(|collector| collector.start(running.clone())).transpose();
        Ok(Shown {
            _metrics: metrics.context("cannot serve metrics")?,
            otlp: otlp.context("cannot send metrics")?,
            traces: self.traces,
        })
    }
}
