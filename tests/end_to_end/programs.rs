//! Programs that nobody here wrote, each with a client that has a session with it; and the page that tells of them.

mod list;
mod page;
mod wasi;

use std::fmt;
use std::path::{Path, PathBuf};
use std::thread;

use crate::harness::{Client, Host, cache_dir, plugsock, program};

/// A program, and how it is served.
struct Program {
    name: &'static str,
    /// Where it comes from, and who compiled it.
    from: &'static str,
    file: File,
    /// Options of `plugsock serve`.
    options: &'static [&'static str],
    arguments: &'static [&'static str],
    /// What a client says, and what it hears before it says more.
    session: &'static [(&'static str, &'static str)],
    /// What it says last, and hears once it has half-closed.
    end: (&'static str, Heard),
    taught: &'static str,
}

/// The bytes that a client hears.
enum Heard {
    All(&'static str),
    /// It begins with these, and goes on.
    Begins(&'static [u8]),
    /// It has these in this order, with more between them, as heads of HTTP have the date.
    Parts(&'static [&'static str]),
}

/// Where a program's file is.
enum File {
    /// Below the directory that `tests/programs/install` writes.
    Installed(&'static str),
    /// A crate's, which the build of the tests compiles.
    Crate(&'static str),
}

#[test]
fn cpython() {
    is_served("CPython");
}

#[test]
fn ruby() {
    is_served("Ruby");
}

#[test]
fn quickjs() {
    is_served("QuickJS");
}

#[test]
fn lua() {
    is_served("Lua");
}

#[test]
fn dc() {
    is_served("dc");
}

#[test]
fn resvg() {
    is_served("resvg");
}

#[test]
fn ripgrep() {
    is_served("ripgrep");
}

#[test]
fn grass() {
    is_served("grass");
}

#[test]
fn wstd_server() {
    is_served("wstd");
}

#[test]
fn wasip2_proxy() {
    is_served("wasip2");
}

#[test]
fn componentize_py_http() {
    is_served("componentize-py");
}

#[test]
fn hono() {
    is_served("Hono");
}

#[test]
fn wash_runtime() {
    is_served("wash-runtime");
}

fn is_served(name: &str) {
    let program = list::PROGRAMS.iter().find(|program| program.name.contains(name)).unwrap();
    let Some(file) = program.file.path() else { return };
    compile(&file);
    for strategy in ["threading", "async", "forking"] {
        let mut host = program.serve(&file, &["--concurrency", strategy]);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| program.converse(&host.connect()));
            }
        });
        assert!(host.terminate().success());
        let mut complaints = host.log.lines_with("request=");
        // Where the client gets it, it is not in the log; an HTTP handler may say there what it serves.
        complaints.retain(|line| !line.contains("stream=\"stdout\""));
        assert!(complaints.is_empty(), "{program} with {strategy}: {complaints:?}");
    }
}

/// Into the tests' cache, since nobody waits here for how long it takes.
fn compile(file: &Path) {
    let checked = plugsock().arg("check").arg(file).arg("--cache-dir").arg(cache_dir()).output().unwrap();
    assert!(checked.status.success(), "{checked:?}");
}

impl Program {
    fn serve(&self, file: &Path, more: &[&str]) -> Host {
        let file = file.to_str().unwrap();
        let separated: &[&str] = if self.arguments.is_empty() { &[] } else { &["--"] };
        Host::serve(&[&["tcp://127.0.0.1:0", file], more, self.options, separated, self.arguments].concat())
    }

    fn converse(&self, client: &Client) {
        for (said, heard) in self.session {
            client.send(said.as_bytes());
            let answer = client.recv_exact(heard.len());
            assert_eq!(String::from_utf8_lossy(&answer), *heard, "{self} to {said:?}");
        }
        self.take_leave(client);
    }

    /// Says the first words, and hears the answer.
    fn ask_once(&self, client: &Client) {
        match self.session.first() {
            Some((said, heard)) => {
                client.send(said.as_bytes());
                client.recv_exact(heard.len());
            }
            None => self.take_leave(client),
        }
    }

    fn take_leave(&self, client: &Client) {
        let (said, heard) = &self.end;
        let answer = client.exchange(said.as_bytes());
        match heard {
            Heard::All(heard) => assert_eq!(String::from_utf8_lossy(&answer), *heard, "{self} to {said:?}"),
            Heard::Begins(heard) => assert!(answer.starts_with(heard), "{self} to {said:?}: {answer:?}"),
            Heard::Parts(parts) => {
                let answer = String::from_utf8_lossy(&answer);
                parts.iter().fold(&*answer, |rest, part| match rest.split_once(part) {
                    Some((_, rest)) => rest,
                    None => panic!("{self} to {said:?}: no {part:?} in its place in {answer:?}"),
                });
            }
        }
    }
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl File {
    /// `None` if it could not be fetched; where all languages are tested it has to be there.
    fn path(&self) -> Option<PathBuf> {
        match self {
            File::Installed(path) => installed(path),
            File::Crate(name) => Some(PathBuf::from(program(name))),
        }
    }

    fn name(&self) -> &'static str {
        match self {
            File::Installed(path) => path.rsplit('/').next().unwrap(),
            File::Crate(name) => name,
        }
    }
}

/// What `tests/programs/install` has installed under this name.
fn installed(name: &str) -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let path = root.join("target/programs").join(name);
    if path.exists() {
        return Some(path);
    }
    let missing = format!("{} is not there: run tests/programs/install", path.display());
    assert!(std::env::var_os("PLUGSOCK_TEST_LANGUAGES").is_none(), "{missing}");
    eprintln!("skipped: {missing}");
    None
}
