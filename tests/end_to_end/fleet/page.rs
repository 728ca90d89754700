//! What a host shows of its fleet: to people on its page, to programs in its status, and by `plugsock ctl`.

use std::io::{Read, Write};
use std::net::TcpStream;

use serde_json::Value;

use super::{Fleet, done};
use crate::harness::{Host, wait_until};

/// A page, as whoever asks for it gets it.
fn get(metrics: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(metrics.strip_prefix("tcp://").unwrap()).unwrap();
    stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: x\r\n\r\n").as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.split_once("\r\n\r\n").unwrap().1.to_owned()
}

fn ctl(host: &Host) -> String {
    done(host.ctl(&["status"]))
}

#[test]
fn a_host_shows_the_fleet_that_it_is_in() {
    let Some(mut fleet) = Fleet::start() else { return };
    let host = fleet.host("a", &["--metrics", "tcp://127.0.0.1:0"]);
    let line = host.line();
    let metrics = line.strip_prefix("metrics ").unwrap().trim_end();
    let page = |text: &str| get(metrics, "/").contains(text);
    let status = || serde_json::from_str::<Value>(&get(metrics, "/status")).unwrap()["fleet"].clone();
    wait_until(|| page("<p>Host a of group web <span class=\"badge good\">connected</span></p>"));
    assert!(page("Nothing is rolled out."));
    done(fleet.roll_out("two", &["--stages", "1,all", "--wait", "--timeout", "60s"]));
    wait_until(|| status()["rollouts"][0]["state"] == "complete");
    for cell in [">complete</span>", ">2 of 2 <small>all</small>", ">1 of 1<", ">two.wasm <small><code>"] {
        assert!(page(cell), "no {cell} in {}", get(metrics, "/"));
    }
    let said = status();
    let rollout = &said["rollouts"][0];
    assert_eq!(
        (&said["group"], &said["host"], &said["connected"]),
        (&"web".into(), &"a".into(), &true.into())
    );
    assert_eq!(
        (&rollout["slot"], &rollout["generation"], &rollout["stage"]),
        (&"app".into(), &1.into(), &2.into())
    );
    assert!(
        ctl(&host).contains("fleet: app: roll-out 1 is complete, stage 2 of 2, 1 of 1 hosts\n"),
        "{}",
        ctl(&host)
    );
    // What is wrong, as text.
    fleet.nats.put("desired.web.app", "<b>");
    wait_until(|| page("<p class=\"bad\">record desired.web.app: it is malformed"));
    assert!(!page("<b>"));
    fleet.nats.kill();
    wait_until(|| page("<span class=\"badge bad\">not connected</span>"));
    wait_until(|| ctl(&host).contains("fleet: host a of group web, not connected\n"));
    assert!(page("<p class=\"bad\">NATS: "));
    // Where there is none, there is nothing of it.
    let alone = Host::serve_sockets(
        crate::harness::plugsock(),
        1,
        &["tcp://127.0.0.1:0", "--metrics", "tcp://127.0.0.1:0"],
    );
    let line = alone.line();
    let metrics = line.strip_prefix("metrics ").unwrap().trim_end();
    assert!(!get(metrics, "/").contains("<h2>Fleet") && !get(metrics, "/status").contains("fleet"));
}
