//! `plugsock doctor`: what of this machine limits a host, and what to do about it.

mod trial;

use std::process::ExitCode;

use clap::Args;
use plugsock::{Concurrency, surroundings};
use serde::Serialize;

use super::helper_process::HelperProcess;
use super::log::LogOptions;
use super::machine::{self, Finding, Size, Verdict};
use super::options::parse_count;
use super::output;

/// Say what of this machine limits a server, and what to do about it
///
/// It looks at limits, memory, the kernel and the cgroup, and serves a request by the given strategy to itself. To be run
/// as `serve` will be: by the same user, in the same container or unit.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Doctor {
    /// How many open requests are to be served
    #[arg(long, value_name = "COUNT", default_value_t = plugsock::Limits::default().max_requests, value_parser = parse_count)]
    max_requests: usize,

    /// Where: sync, threading, forking, pool or async
    #[arg(long, value_name = "STRATEGY", default_value = "threading")]
    concurrency: Concurrency,

    /// Print one line of JSON
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    log: LogOptions,
}

const EXAMPLES: &str = "Examples:
  plugsock doctor
  plugsock doctor --max-requests 50000 --concurrency async
  systemd-run --pipe --property=MemoryMax=256M plugsock doctor

Exit status: 0 if so many requests can be served, perhaps without something that is said, 1 if not.";

#[derive(Serialize)]
struct Report {
    version: &'static str,
    max_requests: usize,
    concurrency: String,
    serves: bool,
    findings: Vec<Finding>,
}

impl Doctor {
    pub fn run(self) -> anyhow::Result<ExitCode> {
        surroundings::settle();
        self.log.init()?;
        plugsock::become_helper_process_if_asked();
        let findings = self.findings();
        let serves = findings.iter().all(|finding| finding.verdict < Verdict::TooLow);
        let concurrency = self.concurrency.to_string();
        let version = env!("CARGO_PKG_VERSION");
        let report = Report { version, max_requests: self.max_requests, concurrency, serves, findings };
        let text = if self.json { serde_json::to_string(&report)? + "\n" } else { report.text() };
        output::print(&text)?;
        Ok(if serves { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    fn findings(&self) -> Vec<Finding> {
        let concurrency = &self.concurrency;
        // A strategy may hold fewer.
        let requests = self.max_requests.min(concurrency.capacity());
        let size = Size::new(requests, [concurrency.clone()]);
        let mut findings = vec![
            machine::proc(),
            machine::descriptors(&size),
            machine::memory_areas(&size),
            machine::address_space(size.requests),
            machine::data(),
            machine::overcommit(),
            machine::memory(size.requests, concurrency),
            machine::processes(size.requests, concurrency),
            machine::processors(),
            machine::stack(),
            machine::cpu_time(),
            machine::file_size(),
            machine::memory_files(),
            machine::process_handles(),
            machine::inotify(),
            machine::listen_queue(u64::from(plugsock::SocketOptions::default().request_queue_size)),
            machine::cache(),
        ];
        findings.extend(machine::walls());
        let arguments = HelperProcess::arguments(&self.log);
        findings.push(trial::trial(requests, concurrency.clone(), arguments));
        findings
    }
}

impl Report {
    fn text(&self) -> String {
        let width = self.findings.iter().map(|finding| finding.what.len()).max().unwrap_or(0);
        let mut text = String::new();
        for Finding { what, found, requests, verdict, advice } in &self.findings {
            let mark = match verdict {
                Verdict::Good => "ok",
                Verdict::Lacking => "note",
                Verdict::TooLow => "LOW",
                Verdict::Fatal => "FAILS",
            };
            let requests = requests.map(|count| format!(": {count} open requests")).unwrap_or_default();
            text += &format!("{mark:5}  {what:width$}  {found}{requests}\n");
            if let Some(advice) = advice {
                text += &format!("{:5}  {:width$}  ▸ {advice}\n", "", "");
            }
        }
        let Self { max_requests, concurrency, .. } = self;
        let can = if self.serves { "can" } else { "cannot" };
        text + &format!(
            "\n{max_requests} open requests {can} be served here by --concurrency {concurrency}.\n"
        )
    }
}
