//! A browser that loads a page of a guest's, whose script fetches more.

use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process_group};
use tempfile::TempDir;

use super::{authority, serve, serve_tls};
use crate::harness::{Host, is_installed};

const PROGRAM: &str = "chromium-headless-shell";

#[test]
fn by_http1() {
    fetches(|strategy| serve(strategy, &[]), "http", "http/1.1");
}

#[test]
fn by_http2() {
    fetches(serve_tls, "https", "h2");
}

fn fetches(serve: impl Fn(&str) -> Host, scheme: &str, protocol: &str) {
    if !is_installed(PROGRAM) {
        return;
    }
    for strategy in ["threading", "forking", "async"] {
        let host = serve(strategy);
        let _browser = Browser::load(&format!("{scheme}://{}/page", authority(&host)));
        // What the page shows in the end.
        let line = host.log.wait_for("guest: said: ");
        let shown = format!(
            r#"said: {{"version":"1","echoed":true,"bytes":1000000,"three":"0 1 2","status":418,"by":"{protocol}"}} "#
        );
        assert!(line.contains(&shown), "{strategy}: {line}");
    }
}

/// A browser that is gone when this is dropped.
struct Browser {
    process: Child,
    _home: TempDir,
}

impl Browser {
    fn load(url: &str) -> Self {
        let home = TempDir::new().unwrap();
        let mut browser = Command::new(PROGRAM);
        browser
            .env("HOME", home.path())
            .env("TMPDIR", home.path())
            .arg(format!("--user-data-dir={}", home.path().display()))
            // Root has no sandbox. Without a port for debuggers it would not stay.
            .args(["--no-sandbox", "--disable-gpu", "--ignore-certificate-errors"])
            // What it shares among its processes may be more than a container's /dev/shm has room for.
            .args(["--disable-dev-shm-usage", "--remote-debugging-port=0", url])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0);
        Self { process: browser.spawn().unwrap(), _home: home }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // With all processes that it started.
        let _ = kill_process_group(Pid::from_child(&self.process), Signal::KILL);
        let _ = self.process.wait();
    }
}
