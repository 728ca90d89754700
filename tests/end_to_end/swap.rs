//! One version of a handler takes another's place, or does not if it is not fit.

use std::fs;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use plugsock::{
    DirGrant, Grants, Limits, Probe, Sandbox, SandboxOptions, ServerType, Slot, SlotOptions, SwapError,
    Swapped, VersionState,
};
use rustix::process::{Signal, kill_process};
use rustix::thread::gettid;

use crate::harness::{
    Case, Client, Clients, Deployed, Fault, Faults, Host, Load, Running, cache_dir, children, for_each_case,
    for_each_strategy, guest, padded, pattern, plugsock, run, sandbox_options, state, version, versioned,
    wait_until, who, written,
};

const THREADING: Case = Case { server_type: ServerType::Tcp, strategy: "threading" };

fn slot(name: &str, options: SlotOptions) -> Slot {
    Slot::new(version(name), options).unwrap()
}

#[test]
fn new_requests_get_the_new_version_and_open_ones_keep_theirs() {
    for_each_case(|case| {
        let server = Running::start(case, version("one"));
        let open = (!case.server_type.is_datagram() && case.strategy != "sync").then(|| {
            let client = server.connect();
            client.send(b"1\n");
            assert_eq!(client.recv_exact(6), b"one 1\n");
            client
        });
        assert_eq!(who(&server), "one");
        let swapped = server.handler().swap(version("two")).unwrap();
        assert_eq!(swapped, Swapped::Published { generation: 2, digest: version("two").digest().to_owned() });
        assert_eq!(who(&server), "two");
        if let Some(client) = open {
            client.send(b"2\n");
            assert_eq!(client.recv_exact(6), b"one 2\n");
            assert_eq!(client.exchange(b"3\n"), b"one 3\n");
        }
    });
}

fn probing(input: &[u8], expected: Option<&[u8]>) -> SlotOptions {
    let probe = Probe { input: input.to_vec(), expected: expected.map(<[u8]>::to_vec), ..Probe::default() };
    SlotOptions { probe: Some(probe), ..SlotOptions::default() }
}

/// O2, O3: what cannot serve is refused with the reason, and what served serves on, while clients ask all the
/// time.
#[test]
fn what_is_not_fit_is_kept_out() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, bytes: &[u8]| {
        let path = directory.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    };
    let whole = versioned("two");
    let noise = pattern(whole.len());
    let unknown = [b"\0asm", &noise[4..]].concat();
    let unfit = [
        (directory.path().join("missing.wasm"), "cannot read handler"),
        (directory.path().to_owned(), "cannot read handler"),
        (file("empty.wasm", b""), "the file is empty"),
        (file("noise.wasm", &noise), "it is not WebAssembly"),
        (file("unknown.wasm", &unknown), "it is truncated"),
        (file("half.wasm", &whole[..whole.len() / 2]), "it is not a valid component"),
        (file("nearly.wasm", &whole[..whole.len() - 1]), "it is not a valid component"),
        (PathBuf::from(written("unknown_import")), "it asks for what this host does not have"),
        (PathBuf::from(written("no_export")), "it exports greet"),
        (PathBuf::from(guest("trap_in_setup")), "the probe of"),
        (PathBuf::from(guest("trap_in_handle")), "the probe of"),
        (PathBuf::from(guest("error_in_handle")), "error in handle"),
    ];
    for_each_strategy(|strategy| {
        let slot = slot("one", probing(b"1\n", None));
        let server = Running::start(Case { strategy, ..THREADING }, slot.clone());
        server.start().unwrap();
        let load =
            Load::start(std::slice::from_ref(&server.address), &Clients { short: 1, long: 1, staying: 0 });
        for (path, expected) in &unfit {
            let refused = slot.swap(path.as_path()).expect_err(&path.display().to_string());
            assert!(refused.to_string().contains(expected), "{}: {refused}", path.display());
            assert_eq!(who(&server), "one");
        }
        let counted = load.finish();
        assert_eq!((counted.failed, counted.mixed), (0, 0), "{}", counted.failures);
        assert!(counted.versions.keys().eq(["one"]), "{counted:?}");
        assert_eq!(slot.versions().len(), 1);
    });
}

/// O3: one that never ends costs a probe its time and no client anything.
#[test]
fn a_probe_that_loops_for_ever_is_ended() {
    let limits = Limits { cpu_time: Some(Duration::from_secs(1)), ..Limits::default() };
    let sandbox = Sandbox::new(SandboxOptions { limits, ..sandbox_options() }).unwrap();
    let first = sandbox.load_bytes("one", &versioned("one")).unwrap();
    let slot = Slot::new(first, probing(b"1\n", None)).unwrap();
    let server = Running::start(THREADING, slot.clone());
    server.start().unwrap();
    for name in ["loop_forever", "loop_in_setup"] {
        let refused = slot.swap(Path::new(&guest(name))).unwrap_err();
        assert!(matches!(refused, SwapError::Probe { .. }), "{refused}");
        assert!(refused.to_string().contains("time limit of"), "{refused}");
        assert_eq!(who(&server), "one");
    }
}

/// Of all server types: each is probed as it would be asked.
#[test]
fn a_probe_may_expect_an_answer() {
    for_each_case(|case| {
        let slot = slot("one", probing(b"1\n", Some(b"two 1\n")));
        let server = Running::start(case, slot.clone());
        server.start().unwrap();
        let refused = slot.swap(version("six")).unwrap_err().to_string();
        let named = format!("the probe of {}", server.address);
        assert!(refused.contains(&named), "{refused}");
        assert!(
            refused.contains(r#"was answered with "six 1\n", not with "two 1\n" as expected"#),
            "{refused}"
        );
        assert_eq!(who(&server), "one");
        slot.swap(version("two")).unwrap();
        assert_eq!(who(&server), "two");
    });
}

/// What the probe of a datagram server is sent and answers with is between the two: it has no name that another user of
/// the machine could take before, send to, or read from.
#[test]
fn nobody_has_a_part_in_a_probe() {
    let directory = tempfile::tempdir().unwrap();
    let dir = format!("{}::/dir:rw", directory.path().display());
    for_each_strategy(|strategy| {
        let first = versioned("one");
        let deployed = Deployed::new(&first);
        let args = ["udp://127.0.0.1:0", &deployed.path(), "--concurrency", strategy, "--dir", &dir];
        let host = Host::serve(&[&args[..], &["--probe", "1\\n"]].concat());
        let name = |call: u32| format!("plugsock-call-{}-{call}", host.pid().as_raw_pid());
        let taken: Vec<UnixDatagram> = (1..20)
            .map(|call| {
                UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(name(call)).unwrap()).unwrap()
            })
            .collect();
        thread::scope(|scope| {
            let swap = scope.spawn(|| host.ctl(&["swap", &guest("waits_for_file")]));
            wait_until(|| directory.path().join("begun").exists() || swap.is_finished());
            // Nobody else would have a name like this.
            let names = fs::read_to_string("/proc/net/unix").unwrap();
            let of_calls = names.lines().filter(|line| line.contains(&name(0)[..name(0).len() - 1])).count();
            assert_eq!(of_calls, taken.len());
            fs::write(directory.path().join("go"), "").unwrap();
            let swapped = swap.join().unwrap();
            assert_eq!(swapped.code, Some(0), "{swapped:?}");
        });
        for socket in taken {
            socket.set_nonblocking(true).unwrap();
            assert_eq!(socket.recv(&mut [0]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        }
        fs::remove_file(directory.path().join("begun")).unwrap();
        fs::remove_file(directory.path().join("go")).unwrap();
    });
}

#[test]
fn the_same_component_again_changes_nothing() {
    let slot = slot("one", SlotOptions::default());
    let server = Running::start(THREADING, slot.clone());
    let digest = version("one").digest().to_owned();
    assert_eq!(slot.swap(version("one")).unwrap(), Swapped::Unchanged { generation: 1, digest });
    assert_eq!(slot.versions().len(), 1);
    assert_eq!(who(&server), "one");
}

/// One of 100 MB is not much more trouble than another.
#[test]
fn a_component_of_100_megabytes_is_taken() {
    let slot = slot("one", SlotOptions::default());
    let server = Running::start(THREADING, slot.clone());
    server.start().unwrap();
    let load = Load::start(std::slice::from_ref(&server.address), &Clients { short: 1, long: 1, staying: 1 });
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("large.wasm");
    fs::write(&path, padded(versioned("two"), 100 << 20)).unwrap();
    slot.swap(path).unwrap();
    assert_eq!(who(&server), "two");
    let counted = load.finish();
    assert_eq!((counted.failed, counted.mixed), (0, 0), "{}", counted.failures);
}

/// O4: of several that wait for a slow one the last is done.
#[test]
fn of_swaps_that_wait_the_last_wins() {
    const WAITING: usize = 6;
    let directory = tempfile::tempdir().unwrap();
    let dir = DirGrant { host: directory.path().to_owned(), guest: "/dir".to_owned(), read_only: false };
    let grants = Grants { dirs: vec![dir], ..Grants::default() };
    let sandbox = Sandbox::new(SandboxOptions { grants, ..sandbox_options() }).unwrap();
    let load = |name: &str| sandbox.load_bytes(name, &versioned(name)).unwrap();
    let slot = Slot::new(load("one"), probing(b"", None)).unwrap();
    let server = Running::start(THREADING, slot.clone());
    server.start().unwrap();
    let names: Vec<String> = (0..WAITING).map(|number| format!("no{number}")).collect();
    thread::scope(|scope| {
        let slow = scope.spawn(|| slot.swap(Path::new(&guest("waits_for_file"))));
        wait_until(|| directory.path().join("begun").exists());
        let mut waiting = Vec::new();
        for name in &names {
            let handler = load(name);
            let (begun, begin) = std::sync::mpsc::channel();
            let slot = &slot;
            waiting.push(scope.spawn(move || {
                begun.send(gettid()).unwrap();
                slot.swap(handler)
            }));
            let thread = begin.recv().unwrap();
            wait_until(|| is_asleep(thread));
        }
        assert_eq!(who(&server), "one");
        fs::write(directory.path().join("go"), "").unwrap();
        let slow = slow.join().unwrap();
        assert!(matches!(slow, Ok(Swapped::Published { generation: 2, .. })), "{slow:?}");
        let mut waited: Vec<_> = waiting.into_iter().map(|thread| thread.join().unwrap()).collect();
        let last = waited.pop().unwrap();
        assert!(matches!(last, Ok(Swapped::Published { generation: 3, .. })), "{last:?}");
        assert!(waited.iter().all(|other| matches!(other, Err(SwapError::Superseded))), "{waited:?}");
    });
    assert_eq!(who(&server), *names.last().unwrap());
    let generations: Vec<u64> = slot.versions().iter().map(|version| version.generation).collect();
    assert_eq!(generations, [3, 2, 1]);
}

/// Whether a thread of this process waits for something.
fn is_asleep(thread: rustix::process::Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/self/task/{thread}/stat")).unwrap_or_default();
    // `ID (NAME) STATE`, and a name may have spaces.
    stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('S'))
}

#[test]
fn a_rollback_puts_the_version_before_in_place_and_another_undoes_it() {
    for_each_strategy(|strategy| {
        let slot = slot("one", SlotOptions::default());
        let server = Running::start(Case { strategy, ..THREADING }, slot.clone());
        server.start().unwrap();
        assert!(matches!(slot.rollback(), Err(SwapError::NothingBefore)));
        slot.swap(version("two")).unwrap();
        assert_eq!(who(&server), "two");
        for (generation, name) in [(3, "one"), (4, "two"), (5, "one")] {
            let digest = version(name).digest().to_owned();
            assert_eq!(slot.rollback().unwrap(), Swapped::Published { generation, digest });
            assert_eq!(who(&server), name);
        }
        let states: Vec<VersionState> = slot.versions().into_iter().map(|version| version.state).collect();
        let rolled_back = || VersionState::RolledBack("asked for".to_owned());
        let expected =
            [VersionState::Serving, rolled_back(), rolled_back(), rolled_back(), VersionState::Replaced];
        assert_eq!(states, expected);
    });
}

/// A server that is bound later gets what serves then, and what is swapped later.
#[test]
fn servers_of_one_slot_are_swapped_together() {
    for_each_strategy(|strategy| {
        let slot = slot("one", SlotOptions::default());
        let start = || Running::start(Case { strategy, ..THREADING }, slot.clone());
        let first = start();
        assert_eq!(who(&first), "one");
        slot.swap(version("two")).unwrap();
        let second = start();
        assert_eq!((who(&first), who(&second)), ("two".to_owned(), "two".to_owned()));
        slot.swap(version("six")).unwrap();
        assert_eq!((who(&first), who(&second)), ("six".to_owned(), "six".to_owned()));
        drop(first);
        slot.swap(version("one")).unwrap();
        assert_eq!(who(&second), "one");
    });
}

/// O6: clients survive a SIGHUP, and a file that is not fit is kept out and said.
#[test]
fn sighup_loads_the_file_again() {
    for_each_strategy(|strategy| {
        let deployed = Deployed::new(&versioned("one"));
        let host = Host::serve(&["tcp://127.0.0.1:0", &deployed.path(), "--concurrency", strategy]);
        let client = (strategy != "sync").then(|| host.connect());
        let goes_on = |client: &Option<Client>| {
            if let Some(client) = client {
                client.send(b"1\n");
                assert_eq!(client.recv_exact(6), b"one 1\n");
            }
        };
        goes_on(&client);
        deployed.replace(b"not a component");
        host.signal(Signal::HUP);
        host.log.wait_for("not swapped: cannot serve handler handler.wasm: it is not WebAssembly");
        goes_on(&client);
        assert_eq!(host.ask(b"2\n"), b"one 2\n");
        deployed.replace(&versioned("two"));
        host.signal(Signal::HUP);
        host.log.wait_for(": swapped: ");
        assert_eq!(host.ask(b"2\n"), b"two 2\n");
        goes_on(&client);
        host.signal(Signal::HUP);
        host.log.wait_for("serves already");
        fs::remove_file(&deployed.file).unwrap();
        host.signal(Signal::HUP);
        host.log.wait_for("not swapped: cannot read handler");
        assert_eq!(host.ask(b"3\n"), b"two 3\n");
        goes_on(&client);
    });
}

/// A new version may take long to be made ready: until then one can see how the host is, and who serves.
#[test]
fn whoever_looks_at_a_host_does_not_wait_for_a_swap() {
    let deployed = Deployed::new(&versioned("one"));
    let args = ["tcp://127.0.0.1:0", &deployed.path(), "--concurrency", "forking"];
    let Some((faults, host)) = Faults::serve(&args) else { return };
    // Compiled, and so in the cache, before no compiler gets to its work.
    fs::write(&deployed.file, versioned("two")).unwrap();
    assert_eq!(
        run(plugsock().arg("check").arg(&deployed.file).arg("--cache-dir").arg(cache_dir())).code,
        Some(0)
    );
    let before = children(host.pid());
    faults.set(Fault::StopHelpers, 1);
    let (swapped, status) = thread::scope(|scope| {
        let swap = scope.spawn(|| host.ctl(&["swap", &deployed.path()]));
        let begun = || children(host.pid()).into_iter().find(|child| !before.contains(child));
        wait_until(|| begun().is_some());
        let stopped = Stopped(begun().unwrap());
        wait_until(|| state(stopped.0) == "T");
        let status = host.status();
        assert_eq!(host.ask(b"1\n"), b"one 1\n");
        assert_eq!((state(stopped.0).as_str(), swap.is_finished()), ("T", false));
        faults.set(Fault::StopHelpers, 0);
        drop(stopped);
        (swap.join().unwrap(), status)
    });
    assert_eq!(status.slots[0].versions.len(), 1, "{status:?}");
    assert_eq!(swapped.code, Some(0), "{swapped:?}");
    assert_eq!(host.ask(b"2\n"), b"two 2\n");
}

/// A process that is to go on whatever becomes of the test.
struct Stopped(rustix::process::Pid);

impl Drop for Stopped {
    fn drop(&mut self) {
        let _ = kill_process(self.0, Signal::CONT);
    }
}

/// What the old version keeps to use again would be missing in the pools.
#[test]
fn a_version_whose_instances_are_used_again_leaves_room_for_the_next() {
    const REQUESTS: usize = 40;
    let host = Host::serve(&["tcp://127.0.0.1:0", "--reuse", "1000", "--max-requests", "40"]);
    let serve_at_once = || {
        let clients: Vec<Client> = (0..REQUESTS).map(|_| host.connect()).collect();
        for client in &clients {
            client.send(b"a");
            assert_eq!(client.recv_exact(1), b"a");
        }
        clients.iter().for_each(|client| assert_eq!(client.exchange(b"b"), b"b"));
    };
    serve_at_once();
    let swapped = host.ctl(&["swap", &guest("streams_echo")]);
    assert_eq!(swapped.code, Some(0), "{swapped:?}");
    serve_at_once();
}
