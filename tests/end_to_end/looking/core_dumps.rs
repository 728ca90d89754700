//! `--coredump`: what a trap leaves, how much of it, and who can read it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use wasmparser::{CoreDumpStackFrame, DataKind, KnownCustom, Operator, Parser, Payload};

use crate::harness::{Host, cache_dir, for_each_strategy, guest, plugsock, run, written};

/// What a reader of core dumps finds in one.
#[derive(Default)]
struct CoreDump {
    program: String,
    modules: Vec<String>,
    /// Of each instance its module and its memories.
    instances: Vec<(u32, Vec<u32>)>,
    frames: Vec<CoreDumpStackFrame>,
    /// Memory, address and content of each segment.
    data: Vec<(u32, u64, Vec<u8>)>,
    globals: Vec<i32>,
}

impl CoreDump {
    fn read(file: &Path) -> Self {
        let bytes = fs::read(file).unwrap();
        let mut dump = Self::default();
        for payload in Parser::new(0).parse_all(&bytes) {
            match payload.unwrap() {
                Payload::DataSection(segments) => dump.data.extend(segments.into_iter().map(|segment| {
                    let segment = segment.unwrap();
                    let DataKind::Active { memory_index, offset_expr } = segment.kind else { unreachable!() };
                    let address = match offset_expr.get_operators_reader().read().unwrap() {
                        Operator::I32Const { value } => value as u32 as u64,
                        other => unreachable!("{other:?}"),
                    };
                    (memory_index, address, segment.data.to_vec())
                })),
                Payload::GlobalSection(globals) => {
                    dump.globals.extend(globals.into_iter().filter_map(|global| {
                        match global.unwrap().init_expr.get_operators_reader().read().unwrap() {
                            Operator::I32Const { value } => Some(value),
                            _ => None,
                        }
                    }))
                }
                Payload::CustomSection(section) => match section.as_known() {
                    KnownCustom::CoreDump(core) => dump.program = core.name.to_owned(),
                    KnownCustom::CoreDumpModules(modules) => {
                        dump.modules.extend(modules.modules.iter().map(|name| (*name).to_owned()));
                    }
                    KnownCustom::CoreDumpInstances(instances) => dump.instances.extend(
                        instances
                            .instances
                            .into_iter()
                            .map(|instance| (instance.module_index, instance.memories)),
                    ),
                    KnownCustom::CoreDumpStack(stack) => dump.frames.extend(stack.frames),
                    _ => unreachable!("{}", section.name()),
                },
                _ => {}
            }
        }
        dump
    }

    /// What was in the memory of the instance that trapped.
    fn memory(&self, address: u64, length: usize) -> Vec<u8> {
        let (_, memories) = &self.instances[self.frames[0].instanceidx as usize];
        let mut found = vec![0; length];
        for (memory, start, data) in &self.data {
            for (at, byte) in (*start..).zip(data).filter(|_| *memory == memories[0]) {
                if let Some(place) = at.checked_sub(address).and_then(|at| found.get_mut(at as usize)) {
                    *place = *byte;
                }
            }
        }
        found
    }
}

/// All that is in a directory.
fn files(directory: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort_by_key(|file| fs::metadata(file).unwrap().modified().unwrap());
    files
}

fn serve(handler: &str, directory: &Path, strategy: &str, args: &[&str]) -> Host {
    let directory = directory.to_str().unwrap();
    let serve = ["tcp://127.0.0.1:0", handler, "--coredump", directory, "--concurrency", strategy];
    Host::serve(&[&serve, args].concat())
}

#[test]
fn a_trap_leaves_a_core_dump_that_the_log_names() {
    for_each_strategy(|strategy| {
        let parent = TempDir::new().unwrap();
        let directory = parent.path().join("made/dumps");
        let mut host = serve(&written("traps"), &directory, strategy, &[]);
        // Three requests trap in `unreachable`, and the next ones by an address; each in another phase.
        let function = [3, 3, 3, 4];
        for _ in function {
            host.ask(b"");
        }
        assert!(host.terminate().success());
        let lines = host.log.lines_with("handler trapped");
        let files = files(&directory);
        assert_eq!((lines.len(), files.len()), (4, 4), "{}", host.log.text());
        for ((request, line), phase) in lines.iter().enumerate().zip(["setup", "handle", "finish", "setup"]) {
            let named = line.split_once("core_dump=").unwrap().1.split(' ').next().unwrap();
            let file = files.iter().find(|file| file.to_str() == Some(named)).unwrap();
            let name = file.file_name().unwrap().to_str().unwrap();
            assert!(name.starts_with("traps.wasm-"), "{name}");
            assert!(name.ends_with(&format!("-{}-{phase}.coredump", request + 1)), "{name}");
            assert_eq!(fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600);
            let dump = CoreDump::read(file);
            assert_eq!((&*dump.program, &*dump.modules), ("traps.wasm", &["module".to_owned()][..]));
            let trapped = &dump.frames[0];
            assert_eq!((trapped.funcidx, dump.frames.len()), (function[request], 3), "{:?}", dump.frames);
            assert_eq!(dump.memory(0, 12), b"\x01\0\0\0\x30\0\0\0\x02\0\0\0");
            assert_eq!(dump.memory(30, 4), b"\0\0\x07\0");
        }
    });
}

#[test]
fn it_holds_what_the_guest_knew_when_it_trapped() {
    let directory = TempDir::new().unwrap();
    let program = written("preview1_leaves_a_trace");
    let path = directory.path().to_str().unwrap();
    let ended = run(plugsock().args(["call", &program, "--coredump", path, "--cache-dir"]).arg(cache_dir()));
    let [file] = &*files(directory.path()) else { panic!("{ended:?}") };
    assert!(ended.stderr.contains(&format!("core dump: {}\n", file.display())), "{ended:?}");
    let dump = CoreDump::read(file);
    assert_eq!(dump.modules, ["traced"]);
    let functions: Vec<u32> = dump.frames.iter().map(|frame| frame.funcidx).collect();
    assert_eq!(functions, [1, 0, 2]);
    assert!(dump.frames.iter().all(|frame| frame.codeoffset > 0), "{:?}", dump.frames);
    assert_eq!(dump.memory(70000, 12), b"known before");
    assert_eq!(dump.memory(140000, 8), b"daylight");
    assert_eq!(dump.globals, [42]);
}

/// Limits, the handler's own errors and clients that go are no traps.
#[test]
fn nothing_else_leaves_any() {
    for_each_strategy(|strategy| {
        let directory = TempDir::new().unwrap();
        for name in ["loop_forever", "error_in_handle", "memory_bomb"] {
            let mut host =
                serve(&guest(name), directory.path(), strategy, &["--memory", "8MiB", "--cpu-time", "50ms"]);
            host.ask(b"");
            assert!(host.terminate().success());
            assert!(files(directory.path()).is_empty(), "{name}: {}", host.log.text());
        }
    });
}

#[test]
fn there_are_no_more_than_the_operator_wants_and_none_is_replaced() {
    for_each_strategy(|strategy| {
        let directory = TempDir::new().unwrap();
        let kept = directory.path().join("of-another.coredump");
        fs::write(&kept, "as it is").unwrap();
        let mut host = serve(&written("traps"), directory.path(), strategy, &["--coredump-count", "3"]);
        for _ in 0..6 {
            host.ask(b"");
        }
        assert!(host.terminate().success());
        assert_eq!(host.log.lines_with("handler trapped").len(), 6);
        // Said once in a while.
        let left_out = host.log.lines_with("has 3 of at most 3");
        assert_eq!(left_out.len(), 1, "{}", host.log.text());
        assert_eq!(files(directory.path()).len(), 3);
        assert_eq!(fs::read_to_string(kept).unwrap(), "as it is");
    });
}

#[test]
fn what_would_be_too_large_or_cannot_be_written_is_one_warning() {
    for_each_strategy(|strategy| {
        let directory = TempDir::new().unwrap();
        let no_dump = |host: &Host, why: &str| {
            host.ask(b"");
            let line = host.log.wait_for("no core dump is kept");
            assert!(line.contains(why), "{line}");
            host.log.wait_for("handler trapped");
        };
        let host = serve(&guest("trap_in_handle"), directory.path(), strategy, &["--coredump-size", "1KiB"]);
        no_dump(&host, "more than 1024 bytes; raise --coredump-size");
        let host = serve(&written("preview1_keeps_an_exception"), directory.path(), strategy, &[]);
        no_dump(&host, "a global variable of a type");
        assert!(files(directory.path()).is_empty());
        let mut host = serve(&written("traps"), directory.path(), strategy, &[]);
        fs::remove_dir(directory.path()).unwrap();
        no_dump(&host, "No such file or directory");
        // It serves on.
        host.ask(b"");
        assert!(host.terminate().success());
        assert_eq!(host.log.lines_with("handler trapped").len(), 2);
        assert!(!host.log.text().contains("core_dump="), "{}", host.log.text());
    });
}

#[test]
fn a_directory_that_cannot_be_used_is_refused_at_the_start() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("file");
    fs::write(&file, "").unwrap();
    let echo = ["serve", "tcp://127.0.0.1:0", "--coredump", file.to_str().unwrap()];
    let ended = run(plugsock().args(echo).arg("--cache-dir").arg(cache_dir()));
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stderr.contains("cannot keep core dumps in"), "{ended:?}");
}

/// Compiled code is the same with core dumps and without.
#[test]
fn the_cache_is_shared_with_who_makes_none() {
    let (directory, cache) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let cached = |args: &[&str]| {
        let mut call = plugsock();
        call.args(["call", &written("preview1_trap"), "--cache-dir"]).arg(cache.path()).args(args);
        run(&mut call);
        files(cache.path())
    };
    let before = cached(&[]);
    assert_eq!(before.len(), 1);
    assert_eq!(cached(&["--coredump", directory.path().to_str().unwrap()]), before);
    assert_eq!(files(directory.path()).len(), 1);
}
