//! Options that say how handlers are swapped.

use std::time::Duration;

use clap::Args;
use plugsock::{Probe, RollbackPolicy, SlotOptions};

use super::options::{Time, parse_duration, parse_time};

#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Swapping")]
pub struct SwapArgs {
    /// Load the handler again whenever its file, or the signature that is required of it, changes, or its tag in a registry
    /// is another's
    #[arg(long)]
    pub watch: bool,

    /// How often to ask a registry what a tag stands for; more seldom while it does not answer
    #[arg(long, value_name = "TIME", default_value = "30s", requires = "watch", value_parser = parse_poll)]
    pub registry_poll: Duration,

    #[command(flatten)]
    probe: ProbeArgs,

    /// Roll a new version back by itself if too large a share of its requests fails soon after the swap; a
    /// third part says how many requests are judged at least (10)
    #[arg(long, value_name = "errors>SHARE/TIME")]
    rollback_on: Option<RollbackPolicy>,

    /// How long requests may go on after their version was replaced; the rest are cut off
    #[arg(long, value_name = "TIME", default_value = "none", value_parser = parse_time)]
    max_drain: Time,

    /// Let handlers know when their version was replaced
    #[arg(long)]
    drain_signal: bool,
}

/// A request that a version must serve before clients get it.
#[derive(Args, Clone, Debug)]
pub struct ProbeArgs {
    /// What every version must serve before clients get it: text with \n, \r, \t, \\ and \xNN, or @FILE
    #[arg(long, value_name = "TEXT|@FILE", value_parser = parse_bytes)]
    probe: Option<Bytes>,

    /// What the probe must be answered with; without it, it must not fail
    #[arg(long, value_name = "TEXT|@FILE", value_parser = parse_bytes, requires = "probe")]
    probe_expect: Option<Bytes>,

    /// The status that an HTTP handler must answer the probe with; a probe is then sent as it stands, as in
    /// 'GET / HTTP/1.1\r\nHost: x\r\n\r\n'
    #[arg(long, value_name = "STATUS", value_parser = clap::value_parser!(u16).range(100..600), requires = "probe")]
    probe_expect_status: Option<u16>,
}

impl ProbeArgs {
    pub fn probe(&self) -> Option<Probe> {
        let bytes = |bytes: &Bytes| bytes.0.clone();
        let expected = self.probe_expect.as_ref().map(bytes);
        let expected_status = self.probe_expect_status;
        self.probe.as_ref().map(|input| Probe { input: bytes(input), expected, expected_status })
    }
}

fn parse_poll(text: &str) -> Result<Duration, String> {
    match parse_duration(text)? {
        time if time >= Duration::from_millis(100) => Ok(time),
        _ => Err("it must be at least 100ms".to_owned()),
    }
}

impl SwapArgs {
    pub fn slot_options(&self) -> SlotOptions {
        SlotOptions {
            name: None,
            probe: self.probe.probe(),
            rollback_on: self.rollback_on,
            max_drain: self.max_drain.0,
            drain_signal: self.drain_signal,
        }
    }
}

/// Bytes of an option's value. (A `Vec` would mean an option that may be repeated.)
#[derive(Clone, Debug)]
struct Bytes(Vec<u8>);

fn parse_bytes(text: &str) -> Result<Bytes, String> {
    match text.strip_prefix('@') {
        Some(path) => std::fs::read(path).map(Bytes).map_err(|error| format!("cannot read {path}: {error}")),
        None => unescape(text).map(Bytes),
    }
}

fn unescape(text: &str) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.chars();
    while let Some(character) = rest.next() {
        if character != '\\' {
            bytes.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
            continue;
        }
        bytes.push(match rest.next() {
            Some('n') => b'\n',
            Some('r') => b'\r',
            Some('t') => b'\t',
            Some('\\') => b'\\',
            Some('x') => {
                let digits: String = rest.by_ref().take(2).collect();
                u8::from_str_radix(&digits, 16).map_err(|_| {
                    format!("'\\x{digits}' is no byte: write two hexadecimal digits, as in \\x0a")
                })?
            }
            Some(other) => {
                return Err(format!("'\\{other}' means nothing: use \\n, \\r, \\t, \\\\ or \\xNN"));
            }
            None => return Err("it ends in a lone \\: write \\\\ for one".to_owned()),
        });
    }
    Ok(bytes)
}
