//! The page for people, with scripts and without.

use std::process::{Command, Stdio};

use super::{Measured, TCP};
use crate::harness::{Client, Deployed, guest, is_installed, versioned};

const BROWSER: &str = "chromium-headless-shell";

/// With a failure whose words look like HTML, and a canary.
fn busy() -> Measured {
    let mut component = std::fs::read(guest("error_in_handle")).unwrap();
    let (words, others) = (b"error in handle", b"<b onload=x>&'\"");
    let at = component.windows(words.len()).position(|bytes| bytes == words).unwrap();
    component[at..][..words.len()].copy_from_slice(others);
    let failing = Deployed::new(&component);
    let (one, two) = (Deployed::new(&versioned("one")), Deployed::new(&versioned("two")));
    let measured = Measured::serve_at(TCP, 2, &[TCP, &one.path(), TCP, &failing.path()]);
    let host = &measured.host;
    assert_eq!(host.ctl(&["swap", "handler", &two.path(), "--canary", "25%"]).code, Some(0));
    (0..8).for_each(|_| drop(host.ask(b"who?\n")));
    drop(Client::ask(&host.addresses[1], b""));
    measured.wait_for("plugsock_request_failures_total", &[("cause", "error")], 1.0);
    measured
}

#[test]
fn tables_need_no_scripts() {
    let measured = busy();
    let answer = measured.get("/");
    assert_eq!((answer.status, answer.header("content-type")), (200, "text/html; charset=utf-8"));
    let policy = answer.header("content-security-policy");
    assert!(
        policy.starts_with("default-src 'none'; script-src 'nonce-") && !policy.contains("unsafe"),
        "{policy}"
    );
    // Another each time.
    assert_ne!(policy, measured.get("/").header("content-security-policy"));
    let page = &answer.body;
    for text in [
        &measured.host.addresses[0].to_string(),
        "canary</span>",
        "75% <meter",
        "25% <meter",
        "handler error: &lt;b onload=x&gt;&amp;&#39;&quot;",
        "gen 1</small>",
    ] {
        assert!(page.contains(text), "no {text} in {page}");
    }
    assert!(!page.contains("<b onload") && !page.contains("{{"), "{page}");
    // Nothing of it is elsewhere.
    assert!(!["src=", "https:", "@import", "url("].iter().any(|word| page.contains(word)), "{page}");
}

/// What the script does is what its policy lets it do.
#[test]
fn a_browser_draws_charts() {
    if !is_installed(BROWSER) {
        return;
    }
    let measured = busy();
    let dom = dump(&measured, &["--virtual-time-budget=9000"]);
    assert!(dom.contains("<body class=\"is-live\">"), "{dom}");
    for text in ["<path class=\"first\" d=\"M", "last 6 s", "0/s</span>", "canary</span>"] {
        assert!(dom.contains(text), "no {text} in {dom}");
    }
    assert!(dom.contains("id=\"stale\" hidden"), "{dom}");
}

fn dump(measured: &Measured, args: &[&str]) -> String {
    let home = tempfile::TempDir::new().unwrap();
    let browser = Command::new(BROWSER)
        .env("HOME", home.path())
        .env("TMPDIR", home.path())
        .arg(format!("--user-data-dir={}", home.path().display()))
        .args(["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--dump-dom"])
        .args(args)
        .arg(measured.url("/"))
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .unwrap();
    String::from_utf8(browser.stdout).unwrap()
}
