//! What C programs expect of POSIX, by WASI preview 1: the tests that Node.js has, and our own. Each runs here, over a
//! connection, and by plain Wasmtime.

use std::fs;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use super::{compile, installed};
use crate::harness::{Host, plugsock};

/// What the client of each of our own tests says.
const INPUT: &[u8] = b"one\ntwo\nthree";

/// Those of our own that print a line while the client is silent, and then want it to speak.
const OF_SILENT_CLIENTS: [&str; 5] =
    ["poll_times_out", "poll_sees_room", "select_times_out", "does_not_block", "fgetc_does_not_block"];

/// Those of Node.js that expect what it alone has.
const OF_NODE_ALONE: [&str; 7] =
    ["cant_dotdot", "clock_getres", "create_symlink", "getrusage", "poll", "readdir", "symlink_escape"];

const STRATEGIES: [&str; 3] = ["threading", "async", "forking"];

/// How a program ended. The status is `None` after a trap.
#[derive(Debug)]
struct Ended {
    output: Vec<u8>,
    status: Option<i32>,
}

/// One run of a test.
#[derive(Default)]
struct Run {
    file: PathBuf,
    directories: Vec<String>,
    variables: Vec<String>,
    arguments: Vec<String>,
    input: &'static [u8],
    is_for_a_silent_client: bool,
    expected: Expected,
    /// What it reads and writes.
    _folder: Option<TempDir>,
}

#[derive(Default)]
enum Expected {
    /// Status 0, and in the end `ok`.
    #[default]
    Ok,
    Exactly(i32, &'static str),
}

/// Who runs it.
#[derive(Clone, Copy)]
enum By {
    /// This host, with a strategy.
    Us(&'static str),
    Wasmtime,
}

/// How many tests a suite has, and the names of those that fail.
pub(super) struct Passed {
    pub tests: usize,
    pub failed_here: Vec<String>,
    pub failed_in_wasmtime: Vec<String>,
}

#[test]
fn c_programs_find_posix() {
    for name in names_of_ours() {
        for strategy in STRATEGIES {
            let (passes, ended) = passes(&ours(&name), By::Us(strategy));
            assert!(passes, "{name} with {strategy}: {:?}", String::from_utf8_lossy(&ended.output));
        }
    }
}

#[test]
fn the_tests_of_node_pass() {
    for name in names_of_node() {
        for strategy in STRATEGIES {
            let (passes, ended) = passes(&of_node(&name), By::Us(strategy));
            let expected = !OF_NODE_ALONE.contains(&&*name);
            assert_eq!(passes, expected, "{name} with {strategy}: {ended:?}");
        }
    }
}

/// Both suites, here and by plain Wasmtime; `None` if they are not installed.
pub(super) fn compare() -> Option<[Passed; 2]> {
    installed("wheels/wasmtime")?;
    Some([compared(names_of_node(), of_node), compared(names_of_ours(), ours)])
}

fn compared(names: Vec<String>, run: fn(&str) -> Run) -> Passed {
    let failed = |by| names.iter().filter(|name| !passes(&run(name), by).0).cloned().collect();
    Passed {
        tests: names.len(),
        failed_here: failed(By::Us("threading")),
        failed_in_wasmtime: failed(By::Wasmtime),
    }
}

fn passes(run: &Run, by: By) -> (bool, Ended) {
    let ended = match by {
        By::Us(strategy) => run.serve(strategy),
        By::Wasmtime => run.by_wasmtime(),
    };
    let passes = match run.expected {
        Expected::Ok => ended.status == Some(0) && ended.output.ends_with(b"ok\n"),
        Expected::Exactly(status, output) => {
            ended.status == Some(status) && ended.output == output.as_bytes()
        }
    };
    (passes, ended)
}

fn names_of_ours() -> Vec<String> {
    let Some(file) = installed("posix/posix.wasm") else { return Vec::new() };
    compile(&file);
    let listed = Run { file, ..Run::default() }.serve("threading");
    String::from_utf8(listed.output).unwrap().lines().map(str::to_owned).collect()
}

fn ours(name: &str) -> Run {
    let folder = TempDir::new().unwrap();
    let path = |name: &str| folder.path().join(name);
    for directory in ["data", "ro", "ro/below", "another"] {
        fs::create_dir(path(directory)).unwrap();
    }
    for (file, text) in
        [("ro/file", "read only\n"), ("ro/below/inner", "inner\n"), ("another/new", "another\n")]
    {
        fs::write(path(file), text).unwrap();
    }
    let grant = |name: &str, guest: &str| format!("{}::{guest}", path(name).display());
    let directories = match name {
        "reads_relative" => vec![grant("ro", ".")],
        "reads_from_root" => vec![grant("ro", "/")],
        "reads_the_innermost" => vec![grant("ro", "/outer"), grant("another", "/outer/below")],
        _ => vec![grant("data", "/data:rw"), grant("ro", "/ro")],
    };
    let mut run = Run {
        file: installed("posix/posix.wasm").unwrap(),
        directories,
        arguments: vec![name.to_owned()],
        input: INPUT,
        is_for_a_silent_client: OF_SILENT_CLIENTS.contains(&name),
        _folder: Some(folder),
        ..Run::default()
    };
    match name {
        "many_arguments" => run.arguments.extend(
            (1..=1000).map(|index| format!("word {index} ä of a thousand that are given to one program")),
        ),
        "many_variables" => run
            .variables
            .extend((1..=1000).map(|index| format!("WORD{index}=word {index} ä = of a thousand"))),
        "exits" => run.expected = Expected::Exactly(3, "buffered but one\nlast\n"),
        "exits_at_once" => run.expected = Expected::Exactly(255, ""),
        _ => {}
    }
    run
}

fn names_of_node() -> Vec<String> {
    let Some(folder) = installed("node") else { return Vec::new() };
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut names: Vec<String> =
        files.map(|file| file.file_stem().unwrap().to_str().unwrap().to_owned()).collect();
    names.sort();
    names
}

/// As Node.js runs it, but that links below a directory are relative to it.
fn of_node(name: &str) -> Run {
    let folder = TempDir::new().unwrap();
    let path = |name: &str| folder.path().join(name);
    for directory in ["sandbox", "sandbox/subdir", "tmp"] {
        fs::create_dir(path(directory)).unwrap();
    }
    for (file, text) in [
        ("outside.txt", "this should be inaccessible"),
        ("sandbox/input.txt", "hello from input.txt"),
        ("sandbox/input2.txt", "hello from input2.txt"),
        ("sandbox/notadir", ""),
    ] {
        fs::write(path(file), text).unwrap();
    }
    if name.contains("link") {
        fs::write(path("sandbox/subdir/input.txt"), "hello from input.txt").unwrap();
        for (target, link) in [
            ("input.txt", "input_link.txt"),
            ("../../outside.txt", "outside.txt"),
            ("loop2", "loop1"),
            ("loop1", "loop2"),
        ] {
            symlink(target, path("sandbox/subdir").join(link)).unwrap();
        }
    }
    // One of them looks at the program's name.
    fs::copy(installed("node").unwrap().join(name).with_extension("wasm"), path("foo")).unwrap();
    let expected = match name {
        "exitcode" => Expected::Exactly(120, ""),
        "freopen" => Expected::Exactly(0, "hello from input2.txt"),
        "read_file" | "create_symlink" | "follow_symlink" => Expected::Exactly(0, "hello from input.txt"),
        "read_file_twice" => Expected::Exactly(0, "hello from input.txthello from input.txt"),
        "stdin" => Expected::Exactly(0, "hello world"),
        _ => Expected::Exactly(0, ""),
    };
    Run {
        file: path("foo"),
        directories: ["sandbox", "tmp"].map(|name| format!("{}::/{name}:rw", path(name).display())).into(),
        variables: vec!["NODE_PLATFORM=linux".to_owned()],
        arguments: ["-bar", "--baz=value"].map(str::to_owned).into(),
        input: if name == "stdin" { b"hello world" } else { b"" },
        expected,
        _folder: Some(folder),
        ..Run::default()
    }
}

impl Run {
    fn serve(&self, strategy: &str) -> Ended {
        // The program is told its name as it is given.
        let (folder, file) = (self.file.parent().unwrap(), self.file.file_name().unwrap().to_str().unwrap());
        let mut command = plugsock();
        command.current_dir(folder);
        let served = ["tcp://127.0.0.1:0", file, "--concurrency", strategy];
        let arguments = [&served[..], &self.grants(), &["--"], &self.arguments()].concat();
        let mut host = Host::serve_by(command, &arguments);
        let client = host.connect();
        let close = || client.socket.shutdown(Shutdown::Write);
        let output = self.converse(&client.socket, &client.socket, || drop(close()));
        assert!(host.terminate().success());
        let log = host.log.text();
        let status = match log.split_once("it exited with status ") {
            Some((_, rest)) => rest.split_whitespace().next().and_then(|status| status.parse().ok()),
            None => (!log.contains("handler ")).then_some(0),
        };
        Ended { output, status }
    }

    fn by_wasmtime(&self) -> Ended {
        let runner = Path::new(env!("CARGO_MANIFEST_DIR")).join("programs/plain.py");
        let mut child = Command::new("python3")
            .arg(runner)
            .args(self.grants())
            .arg(&self.file)
            .arg("--")
            .args(&self.arguments)
            .env("PYTHONPATH", installed("wheels").unwrap())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let output = self.converse(child.stdout.take().unwrap(), child.stdin.take().unwrap(), || ());
        let status = child.wait().unwrap().code();
        Ended { output, status }
    }

    fn grants(&self) -> Vec<&str> {
        let options = self.directories.iter().flat_map(|directory| ["--dir", directory.as_str()]);
        let variables = self.variables.iter().flat_map(|variable| ["--env", variable.as_str()]);
        options.chain(variables).collect()
    }

    fn arguments(&self) -> Vec<&str> {
        self.arguments.iter().map(String::as_str).collect()
    }

    /// As the client: says all, and hears all that is said.
    fn converse(&self, mut from: impl Read, mut to: impl Write, close: impl FnOnce()) -> Vec<u8> {
        let mut output = Vec::new();
        let mut byte = [0];
        while self.is_for_a_silent_client
            && !output.ends_with(b"quiet\n")
            && from.read(&mut byte).unwrap() == 1
        {
            output.push(byte[0]);
        }
        // It may have ended already.
        let _ = to.write_all(self.input);
        drop(to);
        close();
        from.read_to_end(&mut output).unwrap();
        output
    }
}
