//! The host's log: what is in it, how it looks and where it goes.

mod journal;
mod sink;
mod target;

use std::ffi::OsString;
use std::io::{self, IsTerminal};
use std::panic;
use std::sync::Arc;
use std::thread;

use anyhow::Context;
use clap::{Args, ValueEnum};
use plugsock::helper_log;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::{EnvFilter, reload};

use journal::JournalFormat;
use sink::Sink;
use target::LogTarget;

#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Log")]
pub struct LogOptions {
    /// Where the log goes: stderr, journald (or journald:SOCKET), or a file, which is appended to and opened anew at SIGHUP
    #[arg(long, value_name = "stderr|journald|FILE", default_value = "stderr")]
    log_target: LogTarget,

    /// How log lines look; the journal has fields instead
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    log_format: LogFormat,

    /// What is logged: a level (off, error, warn, info, debug, trace) or a filter such as `warn,guest=info`
    #[arg(long, value_name = "FILTER", default_value = "info", env = "PLUGSOCK_LOG", value_parser = parse_filter)]
    log_level: String,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum LogFormat {
    Text,
    Json,
    /// For helpers of a host that logs to the journal, which is their standard error.
    #[value(hide = true)]
    Journal,
}

impl LogOptions {
    /// The options by which a helper logs to the same target, which it finds as its standard error.
    pub fn arguments(&self) -> Vec<OsString> {
        let format = self.format().to_possible_value().expect("each has a name");
        ["--log-format", format.get_name(), "--log-level", &self.log_level].map(OsString::from).into()
    }

    fn format(&self) -> LogFormat {
        match self.log_target {
            LogTarget::Journal(_) => LogFormat::Journal,
            _ => self.log_format,
        }
    }

    /// Starts logging.
    pub fn init(&self) -> anyhow::Result<()> {
        let sink = match &self.log_target {
            LogTarget::Stderr => Sink::stderr_as_it_is(),
            other => other.open()?,
        };
        self.start(sink).map(drop)
    }

    /// Starts logging for a process that serves, which no target of the log ever keeps from it; what this returns changes
    /// how it logs.
    pub fn init_to_serve(&self) -> anyhow::Result<Log> {
        let log = self.start(self.log_target.open()?)?;
        panic::set_hook(Box::new(|panic| {
            let thread = thread::current();
            let thread = thread.name().unwrap_or("without a name").to_owned();
            let panic = panic.to_string();
            tracing::error!("thread {thread} {}", panic.lines().collect::<Vec<_>>().join(" "));
        }));
        Ok(log)
    }

    fn start(&self, sink: Sink) -> anyhow::Result<Log> {
        let sink = Arc::new(sink);
        helper_log::set_output(sink.to_share().context("cannot share the log with helper processes")?);
        let filter = env_filter(&self.log_level);
        let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(sink.clone());
        let filter = match self.format() {
            LogFormat::Text => {
                let is_terminal = matches!(self.log_target, LogTarget::Stderr) && io::stderr().is_terminal();
                let log = log.with_ansi(is_terminal).with_filter_reloading();
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
            LogFormat::Journal => {
                let log = log.event_format(JournalFormat).with_filter_reloading();
                let filter = LogFilter::new(log.reload_handle());
                log.init();
                filter
            }
        };
        Ok(Log { filter, sink, target: self.log_target.clone() })
    }
}

/// The log of a process that runs.
pub struct Log {
    filter: LogFilter,
    sink: Arc<Sink>,
    target: LogTarget,
}

impl Log {
    /// Changes what is logged, here and in helpers that run.
    pub fn set_filter(&self, filter: &str) -> Result<(), String> {
        parse_filter(filter)?;
        helper_log::set_filter(filter)
            .map_err(|error| format!("it cannot be told to helper processes: {error}"))?;
        self.filter.set(filter)
    }

    /// Opens the file anew, if it is one: what was renamed is written to no more.
    pub fn reopen(&self) {
        let LogTarget::File(path) = &self.target else { return };
        let reopened = target::open_file(path).and_then(|file| {
            helper_log::set_output(Some(file.try_clone()?));
            self.sink.replace(file);
            Ok(())
        });
        if let Err(error) = reopened {
            let path = plugsock::shown(path);
            tracing::error!("the log goes on in the file that it had: cannot open {path}: {error}");
        }
    }

    /// Has a helper log as its host does by then.
    pub fn follow_host(self) {
        helper_log::follow_filter(move |filter| drop(self.filter.set(filter)));
    }
}

/// What is logged, to be changed while the process runs.
struct LogFilter(Box<dyn Fn(EnvFilter) -> Result<(), reload::Error> + Send + Sync>);

impl LogFilter {
    fn new<S: 'static>(handle: reload::Handle<EnvFilter, S>) -> Self {
        Self(Box::new(move |filter| handle.reload(filter)))
    }

    fn set(&self, filter: &str) -> Result<(), String> {
        let filter = env_filter(&parse_filter(filter)?);
        (self.0)(filter).map_err(|error| error.to_string())
    }
}

/// wasmtime's WASI makes a span of each call at the level of `info`, which nobody sees and each call would pay for.
fn env_filter(filter: &str) -> EnvFilter {
    // These would say of each frame what it is.
    EnvFilter::new(format!("wasmtime_wasi=warn,h2=info,hyper=info,async_nats=warn,{filter}"))
}

/// What a filter is made of, for whoever wrote another.
const FILTER_FORM: &str = "write off, error, warn, info, debug or trace, or that with TARGET=LEVEL after commas, as in warn,guest=info";

/// A filter that says what somebody can have meant: a word that is no level would be a target that nothing is logged for, and a slip of a
/// finger would so silence the log.
pub fn parse_filter(filter: &str) -> Result<String, String> {
    EnvFilter::try_new(filter).map_err(|error| format!("{error}; {FILTER_FORM}"))?;
    let is_target = |target: &str| {
        !target.is_empty() && target.chars().all(|sign| sign.is_ascii_alphanumeric() || "_:-".contains(sign))
    };
    for part in filter.split(',').map(str::trim) {
        let is_understood = match part.split_once('=') {
            Some((target, _)) => is_target(target),
            None => !part.is_empty() && part.parse::<LevelFilter>().is_ok(),
        };
        if !is_understood {
            return Err(format!("'{part}' is no level; {FILTER_FORM}"));
        }
    }
    Ok(filter.to_owned())
}
