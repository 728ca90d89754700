//! `plugsock ctl events`: what happens is told to those who follow it, and nobody waits for them.

use std::io::{BufRead, BufReader, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};

use plugsock::control::{Event, EventKind};
use rustix::process::{Signal, kill_process};

use crate::harness::{
    Deployed, Host, PATIENCE, RUNTIME_DIR, children, guest, plugin, plugsock, run, versioned, wait_until,
};

const TCP: &str = "tcp://127.0.0.1:0";

/// As many may follow.
const FOLLOWERS_MAX: usize = 8;

/// One who follows a host's events.
struct Follower(BufReader<UnixStream>);

impl Follower {
    fn of(host: &Host) -> Self {
        let mut follower = Self::asking(&host.control_socket());
        let first = follower.next().unwrap();
        let pid = host.pid().as_raw_pid() as u32;
        assert!(matches!(first, EventKind::Following { pid: of, .. } if of == pid), "{first:?}");
        follower
    }

    fn asking(socket: &Path) -> Self {
        let mut stream = UnixStream::connect(socket).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(b"{\"command\":\"events\"}\n").unwrap();
        Self(BufReader::new(stream))
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        line
    }

    /// `None` at the end. A version that was replaced drains when it has.
    fn next(&mut self) -> Option<EventKind> {
        loop {
            match self.next_or_drained() {
                Some(EventKind::Drained { .. }) => {}
                other => return other,
            }
        }
    }

    /// A server may begin to accept before or after somebody follows.
    fn next_or_drained(&mut self) -> Option<EventKind> {
        loop {
            match self.next_of_all() {
                Some(EventKind::Serving { .. }) => {}
                other => return other,
            }
        }
    }

    fn next_of_all(&mut self) -> Option<EventKind> {
        let line = self.line();
        let event: Option<Event> = (!line.is_empty())
            .then(|| serde_json::from_str(&line).unwrap_or_else(|error| panic!("{line}: {error}")));
        event.map(|event| {
            assert!(
                event.time.len() == "2026-01-01T00:00:00.000Z".len() && event.time.ends_with('Z'),
                "{line}"
            );
            event.kind
        })
    }

    /// The first that is wanted.
    fn wait_for<T>(&mut self, wanted: impl Fn(&EventKind) -> Option<T>) -> T {
        let mut others = Vec::new();
        while let Some(event) = self.next() {
            if let Some(found) = wanted(&event) {
                return found;
            }
            others.push(event);
        }
        panic!("it ended after {others:?}");
    }
}

fn swap(host: &Host, args: &[&str]) {
    let ended = host.ctl(&[&["swap"], args].concat());
    assert_eq!(ended.code, Some(0), "{ended:?}");
}

#[test]
fn swaps_are_told_with_what_they_came_to() {
    let host = Host::serve(&[TCP]);
    let mut follower = Follower::of(&host);
    let (v2, upper) = (guest("v2"), plugin("upper"));
    swap(&host, &[&v2]);
    let Some(EventKind::Swapped { slot, generation: 2, digest }) = follower.next() else { panic!() };
    assert_eq!((slot, &digest), ("echo".to_owned(), &host.status().slots[0].digest));
    swap(&host, &[&upper, "--canary", "10%"]);
    let canary = follower.next();
    assert!(
        matches!(&canary, Some(EventKind::Canary { generation: 3, share, .. }) if share == "10%"),
        "{canary:?}"
    );
    assert_eq!(host.ctl(&["abort"]).code, Some(0));
    let aborted = follower.next();
    assert!(matches!(aborted, Some(EventKind::Aborted { generation: 3, serving: 2, .. })), "{aborted:?}");
    swap(&host, &[&upper, "--canary", "10%"]);
    assert!(matches!(follower.next(), Some(EventKind::Canary { generation: 4, .. })));
    assert_eq!(host.ctl(&["promote"]).code, Some(0));
    assert!(matches!(follower.next(), Some(EventKind::Promoted { generation: 4, .. })));
    assert_eq!(host.ctl(&["rollback"]).code, Some(0));
    let back = follower.next();
    assert!(
        matches!(&back, Some(EventKind::RolledBack { generation: 4, serving: 5, reason, .. }) if reason == "asked for"),
        "{back:?}"
    );
    assert_eq!(host.ctl(&["swap", "/no/such.wasm"]).code, Some(1));
    let failed = follower.next();
    assert!(
        matches!(&failed, Some(EventKind::NotSwapped { reason, .. }) if reason.contains("/no/such.wasm")),
        "{failed:?}"
    );
}

#[test]
fn the_last_request_of_a_replaced_version_is_told() {
    let host = Host::serve(&[TCP]);
    let mut follower = Follower::of(&host);
    let open = host.greeted();
    let digest = host.status().slots[0].digest.clone();
    swap(&host, &[&guest("v2")]);
    assert!(matches!(follower.next_or_drained(), Some(EventKind::Swapped { generation: 2, .. })));
    swap(&host, &[&plugin("upper")]);
    assert!(matches!(follower.next_or_drained(), Some(EventKind::Swapped { generation: 3, .. })));
    // Nothing was open of the second.
    assert!(matches!(follower.next_or_drained(), Some(EventKind::Drained { generation: 2, .. })));
    drop(open);
    let drained = follower.next_or_drained();
    assert!(
        matches!(&drained, Some(EventKind::Drained { slot, generation: 1, digest: of }) if slot == "echo" && *of == digest),
        "{drained:?}"
    );
}

#[test]
fn a_rollback_by_itself_is_told_with_its_reason() {
    let deployed = Deployed::new(&versioned("one"));
    let host = Host::serve(&[TCP, &deployed.path(), "--rollback-on", "errors>20%/1h/3"]);
    let mut follower = Follower::of(&host);
    deployed.replace(&std::fs::read(guest("trap_in_handle")).unwrap());
    host.signal(Signal::HUP);
    assert_eq!(follower.next(), Some(EventKind::Reloading {}));
    assert!(matches!(follower.next(), Some(EventKind::Swapped { generation: 2, .. })));
    for _ in 0..3 {
        assert!(host.ask(b"1\n").starts_with(b"setup\n"));
    }
    let failed = follower.next();
    assert!(
        matches!(
            &failed,
            Some(EventKind::Failed { generation: 2, address, phase, reason, count: 1, .. })
                if *address == host.address().to_string() && phase == "handle" && reason.contains("trap")
        ),
        "{failed:?}"
    );
    let back = follower.wait_for(|event| match event {
        EventKind::RolledBack { generation, serving, reason, .. } => {
            Some((*generation, *serving, reason.clone()))
        }
        _ => None,
    });
    assert_eq!(
        back,
        (2, 3, "3 of its first 3 requests failed, and errors>20%/1h/3 is the most allowed".to_owned())
    );
}

#[test]
fn refusals_and_failures_are_told_once_in_a_while_with_a_count() {
    const COUNT: u64 = 500;
    let args = ["udp://127.0.0.1:0", TCP, &guest("trap_in_handle"), "--max-packet-size", "10"];
    let host = Host::serve(&args);
    let mut follower = Follower::of(&host);
    let client = host.connect();
    // What the socket has no room for is lost before the host sees it, so each waits for the one before.
    for number in 0..COUNT {
        client.send(b"more than ten");
        if number % 50 == 49 {
            wait_until(|| host.status().servers[0].refused.too_large == number + 1);
        }
    }
    let tcp = &host.addresses[1];
    (0..COUNT).for_each(|_| drop(crate::harness::Client::ask(tcp, b"")));
    let (mut refused, mut failed, mut lines) = (0, 0, 0);
    while refused < COUNT || failed < COUNT {
        lines += 1;
        match follower.next() {
            Some(EventKind::Refused { address, reason, count }) => {
                assert_eq!((address, &*reason), (host.address().to_string(), "too_large"));
                refused += count;
            }
            Some(EventKind::Failed { address, count, .. }) => {
                assert_eq!(address, tcp.to_string());
                failed += count;
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((refused, failed), (COUNT, COUNT));
    assert!(lines < COUNT / 4, "{lines} lines");
}

/// What would be told in a second is told before the end.
#[test]
fn what_happened_last_is_told_at_the_end() {
    const COUNT: u64 = 3;
    let mut host = Host::tcp("trap_in_handle", &[]);
    let mut follower = Follower::of(&host);
    (0..COUNT).for_each(|_| drop(host.ask(b"")));
    assert!(host.terminate().success());
    let mut failed = 0;
    while let Some(event) = follower.next() {
        if let EventKind::Failed { count, .. } = event {
            failed += count;
        }
    }
    assert_eq!(failed, COUNT);
}

#[test]
fn limits_are_told_by_their_names() {
    let host = Host::tcp("loop_forever", &["--cpu-time", "50ms"]);
    let mut follower = Follower::of(&host);
    assert_eq!(host.ask(b""), b"");
    let event = follower.next();
    assert!(
        matches!(&event, Some(EventKind::Limit { limit, generation: 1, count: 1, .. }) if limit == "cpu-time"),
        "{event:?}"
    );
}

#[test]
fn drains_resumes_and_the_end_are_told() {
    let mut host = Host::serve(&[TCP]);
    let address = host.address().to_string();
    let mut follower = Follower::of(&host);
    assert_eq!(host.ctl(&["drain"]).code, Some(0));
    assert_eq!(follower.next(), Some(EventKind::Draining { address: address.clone() }));
    assert_eq!(host.ctl(&["resume"]).code, Some(0));
    assert_eq!(follower.next(), Some(EventKind::Resumed { address: address.clone() }));
    assert!(host.terminate().success());
    assert_eq!(follower.next(), Some(EventKind::ShuttingDown {}));
    assert_eq!(follower.next(), Some(EventKind::Closed { address }));
    assert_eq!(follower.next(), None);
}

#[test]
fn an_upgrade_is_told_with_who_has_taken_over() {
    let host = Host::serve(&[TCP]);
    let mut follower = Follower::of(&host);
    let successor = crate::upgrade::upgrade(&host);
    assert_eq!(follower.next(), Some(EventKind::Upgrading {}));
    assert_eq!(follower.next(), Some(EventKind::Upgraded { pid: successor.as_raw_pid() as u32 }));
    assert_eq!(follower.next(), Some(EventKind::ShuttingDown {}));
    crate::upgrade::end(host, successor);
}

#[test]
fn the_end_of_a_fork_server_is_told() {
    let host = Host::serve(&[TCP, "--concurrency", "forking"]);
    let mut follower = Follower::of(&host);
    let fork_server = children(host.pid())[0];
    kill_process(fork_server, Signal::KILL).unwrap();
    let ended = follower.next();
    let pid = fork_server.as_raw_pid() as u32;
    assert!(
        matches!(&ended, Some(EventKind::ForkServerEnded { pid: of, reason, generation: 1, .. })
            if *of == pid && reason.contains("signal: 9")),
        "{ended:?}"
    );
    let started = follower.next();
    assert!(
        matches!(&started, Some(EventKind::ForkServerStarted { pid: of, .. }) if *of != pid),
        "{started:?}"
    );
}

/// It reads nothing while the host tells more than it keeps for anybody and than sockets hold.
#[test]
fn one_who_does_not_read_loses_events_and_is_told_how_many() {
    const ROUNDS: u64 = 20_000;
    let host = Host::serve(&[TCP]);
    let mut slow = Follower::of(&host);
    let mut commands = BufReader::new(UnixStream::connect(host.control_socket()).unwrap());
    commands.get_ref().set_read_timeout(Some(PATIENCE)).unwrap();
    let mut command = |text: &str| {
        commands.get_mut().write_all(text.as_bytes()).unwrap();
        let mut answer = String::new();
        commands.read_line(&mut answer).unwrap();
        assert!(!answer.contains("error"), "{answer}");
    };
    for _ in 0..ROUNDS {
        command("{\"command\":\"drain\"}\n");
        command("{\"command\":\"resume\"}\n");
    }
    // Nobody has waited for it, and it is still told what happens.
    assert_eq!(host.ctl(&["reload"]).code, Some(0));
    let (mut told, mut lost) = (0, 0);
    loop {
        match slow.next() {
            Some(EventKind::Draining { .. } | EventKind::Resumed { .. }) => told += 1,
            Some(EventKind::Lost { count }) => lost += count,
            Some(EventKind::Reloading {}) => break,
            other => panic!("{other:?}"),
        }
        if told + lost == 2 * ROUNDS + 1 {
            // The reload was the last that was lost.
            break;
        }
    }
    assert!(lost > 0 && told > 1000, "{told} told, {lost} lost");
    assert!((2 * ROUNDS..=2 * ROUNDS + 1).contains(&(told + lost)), "{told} told, {lost} lost");
    swap(&host, &[&guest("v2")]);
    assert!(matches!(slow.next(), Some(EventKind::Swapped { .. })));
}

#[test]
fn as_many_follow_as_may_and_the_socket_stays_usable() {
    let host = Host::serve(&[TCP]);
    // It accepts by now.
    host.ask(b"hello");
    let before = host.resources();
    let followers: Vec<_> = (0..FOLLOWERS_MAX).map(|_| Follower::of(&host)).collect();
    let refused = Follower::asking(&host.control_socket()).line();
    assert!(
        refused.contains("\"kind\":\"busy\"") && refused.contains("8 clients follow events"),
        "{refused}"
    );
    let ended = host.ctl(&["events"]);
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(1), ""), "{ended:?}");
    assert!(ended.stderr.contains("8 clients follow events"), "{ended:?}");
    assert_eq!(host.status().servers.len(), 1);
    drop(followers);
    // Who goes is noticed though nothing happens.
    host.wait_for_resources(&before);
    Follower::of(&host);
}

/// As `echo … | socat` does.
#[test]
fn one_who_has_said_all_is_told_on() {
    let host = Host::serve(&[TCP]);
    let mut follower = Follower::of(&host);
    follower.0.get_mut().write_all(b"nonsense\n").unwrap();
    follower.0.get_mut().shutdown(Shutdown::Write).unwrap();
    swap(&host, &[&guest("v2")]);
    assert!(matches!(follower.next(), Some(EventKind::Swapped { .. })));
}

#[test]
fn the_command_prints_lines_of_json_until_the_host_ends() {
    let mut host = Host::serve(&[TCP]);
    let mut command = plugsock();
    command.args(["ctl", "events", "--control"]).arg(host.control_socket());
    let mut events = command.stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(events.stdout.take().unwrap()).lines().map(Result::unwrap);
    // These come when they do.
    let is_early = |line: &String| ["serving", "drained"].iter().any(|event| line.contains(event));
    let mut lines = lines.filter(|line| !is_early(line));
    assert!(lines.next().unwrap().contains("\"event\":\"following\""));
    swap(&host, &[&guest("v2")]);
    let swapped = lines.next().unwrap();
    assert!(swapped.starts_with("{\"time\":\"") && swapped.contains("\"event\":\"swapped\""), "{swapped}");
    assert!(host.terminate().success());
    let rest: Vec<_> = lines.collect();
    assert_eq!(rest.len(), 2, "{rest:?}");
    assert!(rest[1].contains("\"event\":\"closed\""), "{rest:?}");
    assert_eq!(events.wait().unwrap().code(), Some(0));
}

/// `plugsock ctl events | head -1`
#[test]
fn the_command_ends_when_nobody_reads_on() {
    let host = Host::serve(&[TCP]);
    let program = plugsock().get_program().to_str().unwrap().to_owned();
    let socket = host.control_socket();
    let script = format!(
        "({program} ctl events --control {socket}; echo $? >&2) | \
         (head -1; exec <&-; {program} ctl swap {v2} --control {socket})",
        socket = socket.display(),
        v2 = guest("v2"),
    );
    let ended = run(Command::new("sh").args(["-c", &script]).env(RUNTIME_DIR, "/"));
    assert_eq!(ended.stderr, "0\n", "{ended:?}");
    assert!(ended.stdout.contains("following") && ended.stdout.contains("generation 2"), "{ended:?}");
}
