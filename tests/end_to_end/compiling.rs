//! Compiling happens in a process of its own: a component that is made to compile for ever, or to fill the
//! memory, costs its own loading and nothing else.

use std::fs;
use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use plugsock::{CompileOptions, Sandbox, SandboxOptions, ServerType};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::harness::wasm::{section, sized};
use crate::harness::{
    Case, Host, PATIENCE, Running, children, handler, is_running, plugin, plugsock, run, sandbox_options,
    status,
};

/// A component of one module, whose functions are as long as may be: to compile each takes a second or more.
fn laborious() -> (TempDir, String) {
    const FUNCTIONS: usize = 8;
    /// `local.get 0`, `local.get 1`, `i32.add`, `local.set 0`.
    const STEP: [u8; 7] = [0x20, 0, 0x20, 1, 0x6a, 0x21, 0];
    // No locals; the steps; the end.
    let body = [&[0][..], &STEP.repeat(1_000_000), &[0x0b]].concat();
    let code: Vec<u8> = (0..FUNCTIONS).flat_map(|_| sized(&body)).collect();
    let module = [
        b"\0asm\x01\0\0\0".to_vec(),
        // One type, of two numbers; all functions have it.
        section(1, &[1, 0x60, 2, 0x7f, 0x7f, 0]),
        section(3, &[&[FUNCTIONS as u8][..], &[0; FUNCTIONS]].concat()),
        section(10, &[&[FUNCTIONS as u8][..], &code].concat()),
    ];
    let component = [b"\0asm\x0d\0\x01\0".to_vec(), section(1, &module.concat())].concat();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("laborious.wasm");
    fs::write(&path, component).unwrap();
    (directory, path.display().to_string())
}

/// S5: the others are served all the while.
#[test]
fn what_takes_too_long_to_compile_is_refused() {
    let (_directory, laborious) = laborious();
    let compile = CompileOptions { time: Some(Duration::from_millis(500)), ..CompileOptions::default() };
    let sandbox = Sandbox::new(SandboxOptions { compile, ..sandbox_options() }).unwrap();
    let case = Case { server_type: ServerType::Tcp, strategy: "threading" };
    let server = Running::start(case, handler("streams_echo"));
    thread::scope(|scope| {
        let loading = scope.spawn(|| sandbox.load(laborious));
        while !loading.is_finished() {
            assert_eq!(server.ask(b"canary"), b"canary");
        }
        let error = loading.join().unwrap().unwrap_err().to_string();
        assert!(error.contains("takes longer than 500ms"), "{error}");
    });
    assert!(sandbox.load(plugin("echo")).is_ok());
}

/// S5
#[test]
fn what_takes_too_much_memory_to_compile_is_refused() {
    let (_directory, laborious) = laborious();
    let ended = run(plugsock().args(["check", &laborious, "--no-cache", "--compile-memory", "200MiB"]));
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert_eq!(ended.stderr.lines().count(), 1, "{ended:?}");
    for word in ["209715200 bytes of memory", "was killed by signal", "memory allocation"] {
        assert!(ended.stderr.contains(word), "no '{word}' in {}", ended.stderr);
    }
}

/// A command that compiles, and its compiler; gone when this is dropped.
struct Compiling {
    host: Child,
    compiler: Pid,
}

impl Compiling {
    fn start(laborious: &str) -> Self {
        let mut command = plugsock();
        command.args(["check", laborious, "--no-cache"]).stdout(Stdio::null()).stderr(Stdio::piped());
        let host = command.spawn().unwrap();
        let mut compiling = Self { compiler: Pid::from_child(&host), host };
        compiling.compiler = compiler_of(Pid::from_child(&compiling.host), &[]);
        compiling
    }
}

/// Waits until a host compiles; its compiler, which is none of its other children.
fn compiler_of(host: Pid, others: &[Pid]) -> Pid {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let compiler = children(host).into_iter().find(|child| !others.contains(child));
        // It is confined before it compiles.
        if let Some(compiler) = compiler.filter(|compiler| status(*compiler, "Seccomp:") == "2") {
            return compiler;
        }
        assert!(Instant::now() < deadline, "no compiler is started");
        thread::yield_now();
    }
}

impl Drop for Compiling {
    fn drop(&mut self) {
        let _ = self.host.kill();
        let _ = self.host.wait();
    }
}

/// S5
#[test]
fn a_compiler_that_is_killed_is_reported() {
    let (_directory, laborious) = laborious();
    let mut compiling = Compiling::start(&laborious);
    kill_process(compiling.compiler, Signal::KILL).unwrap();
    let mut said = String::new();
    compiling.host.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!(compiling.host.wait().unwrap().code(), Some(1));
    assert!(said.contains("killed by signal 9") && said.lines().count() == 1, "{said}");
}

/// S5: it costs the swap that it compiled for.
#[test]
fn a_compiler_that_is_killed_costs_its_swap_alone() {
    let (_directory, laborious) = laborious();
    for strategy in ["threading", "forking"] {
        let host = Host::serve(&["tcp://127.0.0.1:0", "--no-cache", "--concurrency", strategy]);
        let client = host.greeted();
        let others = children(host.pid());
        thread::scope(|scope| {
            let swapping = scope.spawn(|| host.ctl(&["swap", &laborious]));
            let compiler = compiler_of(host.pid(), &others);
            assert_eq!(host.ask(b"meanwhile"), b"meanwhile");
            kill_process(compiler, Signal::KILL).unwrap();
            let ended = swapping.join().unwrap();
            assert_eq!(ended.code, Some(1), "{ended:?}");
            assert!(ended.stderr.contains("killed by signal 9"), "{ended:?}");
        });
        assert_eq!(host.status().slots[0].versions.len(), 1);
        assert_eq!(children(host.pid()), others);
        assert_eq!(client.exchange(b"b"), b"b");
        assert_eq!(host.ctl(&["swap", &plugin("upper")]).code, Some(0));
        assert_eq!(host.ask(b"a"), b"A");
    }
}

/// S5
#[test]
fn a_compiler_can_do_little_and_gives_way() {
    let (_directory, laborious) = laborious();
    let compiling = Compiling::start(&laborious);
    let compiler = compiling.compiler;
    assert_eq!(status(compiler, "NoNewPrivs:"), "1");
    let stat = fs::read_to_string(format!("/proc/{}/stat", compiler.as_raw_pid())).unwrap();
    let nice: i32 = stat.rsplit_once(") ").unwrap().1.split(' ').nth(16).unwrap().parse().unwrap();
    assert!(nice >= 5, "nice {nice}");
    // It does not outlive its host.
    drop(compiling);
    let deadline = Instant::now() + PATIENCE;
    while is_running(compiler) {
        assert!(Instant::now() < deadline, "the compiler goes on without its host");
        thread::yield_now();
    }
}

/// What was compiled before needs no compiler: no time is too short for it.
#[test]
fn what_is_in_the_cache_is_not_compiled() {
    let cache = tempfile::tempdir().unwrap();
    let check = |time: &str| {
        let mut command: Command = plugsock();
        command.args(["check", &plugin("echo"), "--compile-time", time]).arg("--cache-dir").arg(cache.path());
        run(&mut command)
    };
    assert!(check("0s").stderr.contains("takes longer than"));
    assert_eq!(check("10m").code, Some(0));
    assert_eq!(check("0s").code, Some(0));
}
