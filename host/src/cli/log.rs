//! The host's log, on standard error.

use std::ffi::OsString;
use std::io::{self, IsTerminal};
use std::panic;
use std::sync::Arc;
use std::thread;

use clap::{Args, ValueEnum};
use tracing_subscriber::{EnvFilter, reload};

use super::stderr::Stderr;

#[derive(Args, Debug)]
#[command(next_help_heading = "Log")]
pub struct LogOptions {
    /// How log lines look
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    log_format: LogFormat,

    /// What is logged: a level (error, warn, info, debug, trace) or a filter such as `warn,guest=info`
    #[arg(long, value_name = "FILTER", default_value = "info", env = "PLUGSOCK_LOG", value_parser = parse_filter)]
    log_level: String,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

impl LogOptions {
    /// The options that say the same.
    pub fn arguments(&self) -> Vec<OsString> {
        let format = self.log_format.to_possible_value().expect("no format is hidden");
        ["--log-format", format.get_name(), "--log-level", &self.log_level].map(OsString::from).into()
    }

    /// Starts logging.
    pub fn init(&self) {
        self.start(Stderr::as_it_is());
    }

    /// Starts logging for a process that serves, which standard error never keeps from it; what this returns changes
    /// the filter.
    pub fn init_to_serve(&self) -> LogFilter {
        let filter = self.start(Stderr::that_never_waits());
        panic::set_hook(Box::new(|panic| {
            let thread = thread::current();
            let thread = thread.name().unwrap_or("without a name").to_owned();
            let panic = panic.to_string();
            tracing::error!("thread {thread} {}", panic.lines().collect::<Vec<_>>().join(" "));
        }));
        filter
    }

    fn start(&self, stderr: Stderr) -> LogFilter {
        let filter = env_filter(&self.log_level);
        let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(Arc::new(stderr));
        match self.log_format {
            LogFormat::Text => {
                let log = log.with_ansi(io::stderr().is_terminal()).with_filter_reloading();
                let filter = LogFilter::new(log.reload_handle());
                log.init();
                filter
            }
            LogFormat::Json => {
                let log = log.json().flatten_event(true).with_filter_reloading();
                let filter = LogFilter::new(log.reload_handle());
                log.init();
                filter
            }
        }
    }
}

/// What is logged, to be changed while the process runs.
pub struct LogFilter(Box<dyn Fn(EnvFilter) -> Result<(), reload::Error> + Send + Sync>);

impl LogFilter {
    fn new<S: 'static>(handle: reload::Handle<EnvFilter, S>) -> Self {
        Self(Box::new(move |filter| handle.reload(filter)))
    }

    pub fn set(&self, filter: &str) -> Result<(), String> {
        let filter = env_filter(&parse_filter(filter)?);
        (self.0)(filter).map_err(|error| error.to_string())
    }
}

/// wasmtime's WASI makes a span of each call at the level of `info`, which nobody sees and each call would pay for.
fn env_filter(filter: &str) -> EnvFilter {
    // These would say of each frame what it is.
    EnvFilter::new(format!("wasmtime_wasi=warn,h2=info,hyper=info,{filter}"))
}

pub fn parse_filter(filter: &str) -> Result<String, String> {
    match EnvFilter::try_new(filter) {
        Ok(_) => Ok(filter.to_owned()),
        Err(error) => Err(format!("{error}; use a level, or TARGET=LEVEL pairs separated by commas")),
    }
}
