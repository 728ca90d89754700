//! What a host shows of itself: to Prometheus, to people, and to a collector of OpenTelemetry's.

mod counted;
mod hostile;
mod otlp;
mod page;
mod programs;
mod scrape;

use plugsock::ServeAddress;

use crate::harness::{Host, plugsock};
use scrape::{Answer, Scrape};

const TCP: &str = "tcp://127.0.0.1:0";

/// A host that serves metrics.
struct Measured {
    host: Host,
    metrics: ServeAddress,
}

impl Measured {
    /// With one address to serve, metrics apart.
    fn serve(args: &[&str]) -> Self {
        Self::serve_at(TCP, 1, args)
    }

    /// With so many addresses to serve, and this one for metrics.
    fn serve_at(metrics: &str, count: usize, args: &[&str]) -> Self {
        let host = Host::serve_sockets(plugsock(), count, &[args, &["--metrics", metrics]].concat());
        let line = host.line();
        let metrics = line.strip_prefix("metrics ").unwrap_or_else(|| panic!("not where they are: {line}"));
        let metrics = metrics.trim_end().parse().unwrap();
        Self { host, metrics }
    }

    fn get(&self, path: &str) -> Answer {
        Answer::get(&self.metrics, path)
    }

    fn scrape(&self) -> Scrape {
        Scrape::of(&self.get("/metrics"))
    }

    /// What is served at the address, for programs that take a URL.
    fn url(&self, path: &str) -> String {
        let (_, authority) =
            self.metrics.to_string().split_once("://").map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
        format!("http://{authority}{path}")
    }

    /// Waits until a metric has a value: clients see the end of a request before it is counted.
    fn wait_for(&self, name: &str, labels: &[(&str, &str)], value: f64) -> Scrape {
        let deadline = std::time::Instant::now() + crate::harness::PATIENCE;
        loop {
            let scrape = self.scrape();
            let now = scrape.value(name, labels);
            if now == Some(value) {
                return scrape;
            }
            assert!(
                std::time::Instant::now() < deadline,
                "{name} {labels:?} is {now:?}, not {value}:\n{}",
                scrape.text
            );
            std::thread::yield_now();
        }
    }
}
