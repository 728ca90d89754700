//! What is wrong is said with its place and what was probably meant; nothing is served.

use serde_json::{Value, json};

use super::{Configured, TCP};
use crate::harness::{cache_dir, guest, plugsock, run};

/// `plugsock serve` and `config check` say the same, with this place and all of these words.
fn is_refused(text: &str, problems: &[(&str, &[&str])]) {
    let configured = Configured::new(text);
    let cache = cache_dir().display().to_string();
    let served = run(plugsock().args(["serve", "--config", &configured.path(), "--cache-dir", &cache]));
    let checked = configured.check();
    for ended in [served, checked] {
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(1), ""), "{text}\n{ended:?}");
        let lines: Vec<&str> = ended.stderr.lines().collect();
        assert_eq!(lines.len(), problems.len(), "{text}\n{ended:?}");
        for (line, (place, words)) in lines.iter().zip(problems) {
            let start = format!("plugsock: error: {}:{place}: ", configured.path());
            assert!(line.starts_with(&start), "{line}, not {start}");
            words.iter().for_each(|word| assert!(line.contains(word), "no '{word}' in {line}"));
        }
    }
}

#[test]
fn unknown_keys_and_tables() {
    is_refused(
        "[limits]\n  memroy = \"1MiB\"\n",
        &[("2:3", &["unknown key 'memroy' in [limits]", "'memory'"])],
    );
    is_refused(
        "[limitz]\nmemory = \"1MiB\"\n",
        &[("1:2", &["unknown table 'limitz'", "did you mean 'limits'?"])],
    );
    is_refused("memory = \"1MiB\"\n", &[("1:1", &["outside of all tables", "[limits]", "[handler.NAME]"])]);
    is_refused("colour = 1\n", &[("1:1", &["unknown table 'colour'", "there are serving", "handler"])]);
    is_refused("[server]\naddress = \"\"\n", &[("1:2", &["write [[server]]"])]);
    is_refused("handler = \"a.wasm\"\n", &[("1:1", &["write [handler.NAME]"])]);
    is_refused(
        &format!("[[server]]\naddress = \"{TCP}\"\nmemory = \"1MiB\"\nconcurency = \"pool\"\n"),
        &[
            ("3:1", &["'memory' in [[server]]", "it stands in [limits]"]),
            ("4:1", &["did you mean 'concurrency'?"]),
        ],
    );
    is_refused("[handler.a]\nfiel = \"a\"\n", &[("2:1", &["in [handler.a]", "did you mean 'file'?"])]);
    is_refused("[handler.a]\nlog-level = \"a\"\n", &[("2:1", &["it stands in [log]"])]);
    is_refused("[handler.a]\nmax-requests = 1\n", &[("2:1", &["it stands in [limits]"])]);
    is_refused("[handler.\"a b\"]\n", &[("1:10", &["'a b' is no name for a handler"])]);
    is_refused("[limits]\n[limits]\n", &[("2:2", &["not TOML", "duplicate"])]);
    is_refused("ä = ü\n", &[("1:1", &["not TOML"])]);
}

#[test]
fn wrong_values() {
    is_refused("[limits]\nmemory = \"much\"\n", &[("2:10", &["invalid value 'much' for 'memory'"])]);
    is_refused("[limits]\nmemory = \"5GiB\"\n", &[("2:10", &["it must be at most 4GiB"])]);
    is_refused("[limits]\nmemory = 1048576\n", &[("2:10", &["'memory' takes text", "\"1048576\""])]);
    is_refused("[limits]\nresources = \"1\"\n", &[("2:13", &["'resources' takes a number without quotes"])]);
    is_refused("[limits]\nmax-requests = 0\n", &[("2:16", &["it must be at least 1"])]);
    is_refused("[limits]\nmax-requests = [1, 2]\n", &[("2:16", &["takes one value and no array"])]);
    is_refused("[swapping]\nwatch = 1\n", &[("2:9", &["takes true or false"])]);
    is_refused("[sockets]\nmax-packet-size = 70000\n", &[("2:19", &["70000"])]);
    is_refused("[log]\nlog-format = \"xml\"\n", &[("2:14", &["invalid value 'xml'", "text, json"])]);
    is_refused("[serving]\nconcurrency = \"magic\"\n", &[("2:15", &["magic"])]);
    is_refused(
        "[grants]\nenv = [\"A=1\", \"B\"]\n",
        &[("2:7", &["invalid value 'B' for 'env'", "NAME=VALUE"])],
    );
    is_refused("[[server]]\naddress = \"http://a:1\"\n", &[("2:11", &["unknown scheme 'http'"])]);
    is_refused("[trust]\npublic-key = \"none.pub\"\n", &[("2:14", &["neither a public key nor a file"])]);
}

#[test]
fn what_does_not_go_together() {
    is_refused("[control]\nno-control = true\ncontrol = \"a\"\n", &[("3:1", &["cannot be used with"])]);
    is_refused("[handler.a]\nprobe-expect = \"a\"\n", &[("1:10", &["not provided", "--probe"])]);
    let server = format!("[[server]]\naddress = \"{TCP}\"\n");
    let handlers = "[handler.one]\n[handler.two]\n";
    is_refused(&format!("{server}{handlers}"), &[("1:1", &["has no handler", "one, two"])]);
    is_refused(&format!("{server}handler = \"tow\"\n{handlers}"), &[("3:1", &["did you mean 'two'?"])]);
    is_refused(&format!("{server}[[server]]\n"), &[("3:1", &["has no address"])]);
}

#[test]
fn what_is_said_twice() {
    let configured = Configured::new(&format!("[[server]]\naddress = \"{TCP}\"\n"));
    let ended = run(plugsock().args(["serve", "--config", &configured.path(), TCP]));
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stderr.contains("leave addresses and handlers off the command line"), "{ended:?}");
}

#[test]
fn a_file_that_cannot_be_read() {
    let ended = run(plugsock().args(["serve", "--config", "/nonexistent/plugsock.toml"]));
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(
        ended
            .stderr
            .starts_with("plugsock: error: /nonexistent/plugsock.toml: the configuration cannot be read")
    );
}

/// What would keep a host from serving is found without one.
#[test]
fn what_cannot_be_served() {
    let refused = |text: &str, place: &str, words: &[&str]| {
        let configured = Configured::new(text);
        let cache = cache_dir().display().to_string();
        let served = run(plugsock().args(["serve", "--config", &configured.path(), "--cache-dir", &cache]));
        for ended in [served, configured.check()] {
            assert_eq!(ended.code, Some(1), "{text}\n{ended:?}");
            let start = match place {
                "" => "plugsock: error: ".to_owned(),
                place => format!("plugsock: error: {}:{place}: ", configured.path()),
            };
            let line = ended.stderr.lines().find(|line| line.starts_with(&start));
            let line = line.unwrap_or_else(|| panic!("no {start} in {ended:?}"));
            words.iter().for_each(|word| assert!(line.contains(word), "no '{word}' in {line}"));
        }
    };
    let server = format!("[[server]]\naddress = \"{TCP}\"\n");
    refused(&server.replace("tcp", "tls"), "1:1", &["TLS needs a certificate"]);
    let twice = "[[server]]\naddress = \"unix://@twice\"\n";
    refused(&twice.repeat(2), "1:1", &["cannot serve unix://@twice", "named twice"]);
    let metrics = format!("{server}[metrics]\nmetrics = \"udp://:0\"\n");
    refused(&metrics, "", &["--metrics: ", "by plain HTTP"]);
    let otlp = format!("{server}[metrics]\notlp = \"gopher://x\"\n");
    refused(&otlp, "", &["by OTLP", "gopher://x", "http://HOST:PORT"]);
    let fleet = format!("{server}[fleet]\nfleet = \"nats://127.0.0.1:1\"\n");
    refused(&fleet, "", &["--fleet has whoever may write to NATS", "--public-key"]);
    let http = format!("{}[handler.a]\nfile = \"{}\"\n", server.replace("tcp", "udp"), guest("http"));
    refused(&http, "1:1", &["it is an HTTP handler"]);
    let handler = |key: &str| format!("{server}[handler.a]\n{key}\n");
    refused(&handler("file = \"none.wasm\""), "3:10", &["handler a: cannot read"]);
    refused(&handler("dir = \"/none::/x\""), "3:10", &["handler a: cannot grant"]);
}

/// All that is wrong, and nothing is compiled in vain a second time.
#[test]
fn handlers_are_checked() {
    let fit = guest("server_info");
    let configured = Configured::new(&format!(
        "[[server]]\naddress = \"{TCP}\"\nhandler = \"fit\"\n[handler.fit]\nfile = \"{fit}\"\n\
         [handler.none]\nfile = \"none.wasm\"\n[handler.unfit]\nfile = \"plugsock.toml\"\n"
    ));
    let ended = configured.check();
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let errors: Vec<&str> =
        ended.stderr.lines().filter(|line| line.starts_with("plugsock: error: ")).collect();
    assert_eq!(errors.len(), 2, "{ended:?}");
    assert!(errors[0].contains("none.wasm") && errors[1].contains("it is not WebAssembly"), "{errors:?}");
    assert!(ended.stdout.contains("handler  fit server_info.wasm sha256:"), "{ended:?}");
    let for_programs = |configured: &Configured| -> Value {
        serde_json::from_str(&configured.config(&["check", &configured.path(), "--json"]).stdout).unwrap()
    };
    let found = for_programs(&configured);
    assert_eq!(found["servers"], json!([{"addresses": [TCP], "handler": "fit"}]));
    assert_eq!(found["handlers"][0]["file"], "server_info.wasm");
    let problems: Vec<String> =
        errors.iter().map(|line| line.trim_start_matches("plugsock: error: ").to_owned()).collect();
    assert_eq!(found["problems"], json!(problems));
    configured.write("[handler.fit]\nmemroy = \"1MiB\"\n");
    assert!(
        for_programs(&configured)["problems"][0].as_str().unwrap().contains(":2:1: unknown key 'memroy'")
    );
    configured.write(&format!("[[server]]\naddress = \"{TCP}\"\n[handler.fit]\nfile = \"{fit}\"\n"));
    let ended = configured.check();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.stdout.ends_with(" can be served\n"), "{ended:?}");
}
