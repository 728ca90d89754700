//! `plugsock new`, `build`, `dev`, `wit` and `componentize`: what they say when something is wrong, and what
//! they do where no compiler is needed. `languages.rs` has the rest.

use std::env;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::harness::{
    Ended, Host, guest, is_installed, plugin, plugsock, run, succeeded, with_toolchains, written,
};

const LANGUAGES: [&str; 8] = ["rust", "c", "zig", "assemblyscript", "go", "python", "js", "ts"];

/// Those that have a template of kind `http`.
const HTTP_LANGUAGES: [&str; 5] = ["rust", "go", "python", "js", "ts"];

fn kinds(language: &str) -> impl Iterator<Item = &'static str> {
    let http = HTTP_LANGUAGES.contains(&language).then_some("http");
    ["stream", "datagram", "command"].into_iter().chain(http)
}

/// Whether a project has Plugsock's own layer below its code.
fn has_sdk(language: &str, kind: &str) -> bool {
    kind == "stream" || kind == "datagram" || (language, kind) == ("go", "http")
}

fn plugsock_in(folder: &Path, args: &[&str]) -> Ended {
    run(plugsock().current_dir(folder).args(args))
}

/// Refused with one line that contains all of `words`.
fn is_refused(folder: &Path, args: &[&str], code: i32, words: &[&str]) {
    let ended = plugsock_in(folder, args);
    assert_eq!(ended.code, Some(code), "{args:?}: {ended:?}");
    for word in words {
        assert!(ended.stderr.contains(word), "{args:?}: no '{word}' in {}", ended.stderr);
    }
}

#[test]
fn a_project_is_refused_that_cannot_be() {
    let directory = TempDir::new().unwrap();
    let here = directory.path();
    is_refused(here, &["new", "Über"], 1, &["Über", "lower-case"]);
    is_refused(here, &["new", "../a"], 1, &["lower-case"]);
    is_refused(here, &["new", "a", "--lang", "cobol"], 2, &["cobol", "assemblyscript"]);
    is_refused(here, &["new", "a", "--kind", "x"], 2, &["datagram"]);
    let has_none = ["no template of kind http in zig", "rust, go, python, js, ts"];
    is_refused(here, &["new", "a", "--lang", "zig", "--kind", "http"], 1, &has_none);
    assert_eq!(fs::read_dir(here).unwrap().count(), 0);
    assert_eq!(plugsock_in(here, &["new", "a", "--lang", "c"]).code, Some(0));
    is_refused(here, &["new", "a", "--lang", "c"], 1, &["a exists already"]);
}

#[test]
fn every_template_says_how_to_go_on() {
    let directory = TempDir::new().unwrap();
    for (number, language) in LANGUAGES.iter().enumerate() {
        for kind in kinds(language) {
            let scheme = if kind == "datagram" { "udp" } else { "tcp" };
            let name = format!("{kind}-{number}");
            let ended = plugsock_in(directory.path(), &["new", &name, "--lang", language, "--kind", kind]);
            assert_eq!(ended.code, Some(0), "{ended:?}");
            let serve = format!("plugsock serve {scheme}://127.0.0.1:10001 build/handler.wasm");
            assert!(ended.stdout.contains(&serve), "{}", ended.stdout);
            let folder = directory.path().join(name);
            assert!(folder.join("test.sh").exists() && folder.join(".gitignore").exists());
            for entry in fs::read_dir(folder).unwrap() {
                let text = fs::read_to_string(entry.unwrap().path()).unwrap_or_default();
                assert!(!text.contains("\"NAME\"") && !text.contains("echo-"), "{text}");
            }
        }
    }
}

#[test]
fn a_build_says_what_is_missing() {
    let directory = TempDir::new().unwrap();
    is_refused(directory.path(), &["build"], 1, &["is no handler project", "plugsock new"]);
    let languages = [("rust", "cargo", "rustup"), ("c", "make", "package"), ("js", "npm", "Node.js")];
    for (language, program, remedy) in languages {
        plugsock_in(directory.path(), &["new", language, "--lang", language]);
        let ended =
            run(plugsock().current_dir(directory.path()).args(["build", language]).env("PATH", "/nowhere"));
        assert_eq!(ended.code, Some(1), "{ended:?}");
        for word in [program, "is not installed, or not on the PATH", remedy] {
            assert!(ended.stderr.contains(word), "{}", ended.stderr);
        }
    }
}

#[test]
fn the_contract_can_be_had() {
    let directory = TempDir::new().unwrap();
    let contract = plugsock_in(directory.path(), &["wit"]).stdout;
    assert!(contract.contains("package plugsock:handler@"), "{contract}");
    assert_eq!(plugsock_in(directory.path(), &["wit", "--out", "wit"]).code, Some(0));
    let folder = directory.path().join("wit");
    assert_eq!(fs::read_to_string(folder.join("handler.wit")).unwrap(), contract);
    assert!(folder.join("deps/io.wit").exists() && folder.join("deps/sockets.wit").exists());
}

#[test]
fn what_is_no_core_module_is_not_made_a_component() {
    let directory = TempDir::new().unwrap();
    fs::write(directory.path().join("text"), "hello").unwrap();
    let echo = plugin("echo");
    let cases = [("nothing", "No such file"), ("text", "not WebAssembly"), (&echo, "a component already")];
    for (file, words) in cases {
        is_refused(directory.path(), &["componentize", file, "--out", "out"], 1, &[file, words]);
    }
}

/// A project whose compiler copies the component that its source names.
#[test]
fn an_edit_is_served_and_an_error_leaves_the_version_before() {
    if !is_installed("make") {
        return;
    }
    let directory = TempDir::new().unwrap();
    let file = |name: &str| directory.path().join(name);
    let edit = |component: &str| edit(directory.path(), component);
    fs::write(file("Makefile"), "build/handler.wasm: handler.c\n\tmkdir -p build && cp $$(cat $<) $@\n")
        .unwrap();
    edit(&plugin("echo"));
    let mut command = plugsock();
    command.arg("dev").current_dir(directory.path()).env("CC", "cp");
    let host = Host::start(command, &["tcp://127.0.0.1:0"]);
    assert_eq!(host.ask(b"hello"), b"hello");

    edit(&guest("phases"));
    host.log.wait_for_count("swapped", 1);
    assert_eq!(host.ask(b"hello"), b"setup\nhandle\nfinish\n");

    edit("/nowhere.wasm");
    host.log.wait_for_count("the version before serves on", 1);
    assert!(!host.log.lines_with("/nowhere.wasm").is_empty());
    assert_eq!(host.ask(b"hello"), b"setup\nhandle\nfinish\n");

    edit(&plugin("echo"));
    host.log.wait_for_count("swapped", 2);
    assert_eq!(host.ask(b"hello"), b"hello");
}

/// As editors do: beside it, and renamed.
fn edit(folder: &Path, component: &str) {
    fs::write(folder.join(".handler.c"), component).unwrap();
    fs::rename(folder.join(".handler.c"), folder.join("handler.c")).unwrap();
}

/// This program where nothing else of its source tree is, as on another machine.
struct Copied {
    directory: TempDir,
}

impl Copied {
    fn new() -> Self {
        let copied = Self { directory: TempDir::new().unwrap() };
        copied.copy();
        fs::create_dir(copied.tools()).unwrap();
        script(
            &copied.tools().join("plugsock"),
            &format!("echo called >>'{}'\nexit 1", copied.called().display()),
        );
        copied
    }

    /// In the place of the one that is there, if so.
    fn copy(&self) {
        let new = self.directory.path().join("new");
        copy_executable(plugsock().get_program(), &new);
        fs::rename(new, self.program()).unwrap();
    }

    fn program(&self) -> PathBuf {
        self.directory.path().join("this program")
    }

    /// What is found first on the `PATH`: another program that is called `plugsock`.
    fn tools(&self) -> PathBuf {
        self.directory.path().join("tools")
    }

    fn called(&self) -> PathBuf {
        self.directory.path().join("called")
    }

    fn command(&self, program: impl AsRef<Path>, folder: &Path) -> Command {
        let mut command = Command::new(program.as_ref());
        with_toolchains(&mut command);
        let path = command.get_envs().find_map(|(name, path)| (name == "PATH").then_some(path?)).unwrap();
        let path = env::join_paths([self.tools()].into_iter().chain(env::split_paths(path))).unwrap();
        command.current_dir(folder).env("PATH", path);
        command
    }

    /// A new project for each language and kind.
    fn projects(&self) -> impl Iterator<Item = (&'static str, &'static str, PathBuf)> {
        let kinds = |language| kinds(language).map(move |kind| (language, kind));
        LANGUAGES.into_iter().flat_map(kinds).map(|(language, kind)| {
            let name = format!("{language}-{kind}");
            let mut new = self.command(self.program(), self.directory.path());
            succeeded(&new.args(["new", &name, "--lang", language, "--kind", kind]).output().unwrap());
            (language, kind, self.directory.path().join(name))
        })
    }
}

/// By a process of its own: one that another test starts meanwhile would hold what this one writes open for a moment, and
/// what is open for writing cannot be executed.
fn copy_executable(from: impl AsRef<Path>, to: &Path) {
    succeeded(&Command::new("cp").arg("-p").arg(from.as_ref()).arg(to).output().unwrap());
}

fn script(path: &Path, text: &str) {
    let draft = path.with_extension("draft");
    fs::write(&draft, format!("#!/bin/sh\n{text}\n")).unwrap();
    fs::set_permissions(&draft, fs::Permissions::from_mode(0o755)).unwrap();
    copy_executable(draft, path);
}

fn source_tree() -> &'static str {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_str().unwrap()
}

#[test]
fn a_new_project_names_no_source_tree() {
    let copied = Copied::new();
    for (language, kind, folder) in copied.projects() {
        let sdk = folder.join("build/sdk/wit/handler.wit");
        assert_eq!(sdk.exists(), has_sdk(language, kind), "{language} {kind}");
        for file in files(&folder) {
            let text = fs::read(&file).unwrap();
            let names_it = text.windows(source_tree().len()).any(|part| part == source_tree().as_bytes());
            assert!(!names_it, "{}", file.display());
        }
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let paths = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    paths.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

#[test]
fn a_copied_program_makes_builds_and_serves_a_project_in_rust() {
    let copied = Copied::new();
    let new = ["new", "made-alone"];
    succeeded(&copied.command(copied.program(), copied.directory.path()).args(new).output().unwrap());
    let folder = copied.directory.path().join("made-alone");

    // Cargo first, before any build of Plugsock's.
    let mut cargo = copied.command("cargo", &folder);
    succeeded(&cargo.arg("test").env("PLUGSOCK", copied.program()).output().unwrap());
    let sources = sources(&cargo, "wasm32-wasip2/release/made_alone.d");
    assert!(sources.contains(&folder.join("build/sdk/src/lib.rs")), "{sources:?}");
    assert!(!sources.iter().any(|source| source.starts_with(source_tree())), "{sources:?}");

    // As in a fresh clone.
    fs::remove_dir_all(folder.join("build")).unwrap();
    succeeded(&copied.command(copied.program(), &folder).arg("build").output().unwrap());
    let mut serve = copied.command(copied.program(), &folder);
    serve.arg("serve");
    let host = Host::start(serve, &["tcp://127.0.0.1:0", "build/handler.wasm"]);
    assert_eq!(host.ask(b"hello"), b"hello");
    assert!(!copied.called().exists());
}

/// What an artifact was made of, as cargo notes it.
fn sources(cargo: &Command, dep_info: &str) -> Vec<PathBuf> {
    let target = cargo.get_envs().find_map(|(name, path)| (name == "CARGO_TARGET_DIR").then_some(path?));
    let list = fs::read_to_string(Path::new(target.unwrap()).join(dep_info)).unwrap();
    let (_, sources) = list.split_once(": ").unwrap();
    sources.split_whitespace().map(PathBuf::from).collect()
}

/// With compilers that write some program to where they are told.
#[test]
fn builds_call_this_program_and_no_other_of_its_name() {
    if !is_installed("make") || !is_installed("npm") {
        return;
    }
    let copied = Copied::new();
    let compiler = r#"
        while [ $# != 0 ]; do
            case $1 in
                -o | --out | --outFile) out=$2 ;;
                -femit-bin=*) out=${1#*=} ;;
            esac
            shift
        done
        mkdir -p build && cp PROGRAM "${out:-build/handler.js}""#;
    let compiler = compiler.replace("PROGRAM", &format!("'{}'", written("preview1_nothing")));
    for name in ["zig", "go", "asc", "tsc", "componentize-js", "componentize-py"] {
        script(&copied.tools().join(name), &compiler);
    }
    // Those in Rust call it in their test alone.
    for (language, kind, folder) in copied.projects().filter(|(language, ..)| *language != "rust") {
        let _ = fs::remove_dir_all(folder.join("build"));
        // npm finds the project's own programs first.
        let own = folder.join("node_modules/.bin");
        fs::create_dir_all(&own).unwrap();
        copy_executable(copied.tools().join("plugsock"), &own.join("plugsock"));
        succeeded(&copied.command(copied.program(), &folder).arg("build").output().unwrap());
        assert_eq!(folder.join("build/sdk").exists(), has_sdk(language, kind), "{language} {kind}");
        assert!(!copied.called().exists(), "{language} {kind}");
        // Without a word about which it is, it is the one of that name.
        let tested = copied.command("sh", &folder).arg("test.sh").output().unwrap();
        assert!(!tested.status.success(), "{language} {kind}");
        fs::remove_file(copied.called()).expect("it was called");
    }
}

#[test]
fn a_build_calls_what_took_the_place_of_this_program() {
    if !is_installed("make") {
        return;
    }
    let copied = Copied::new();
    let folder = copied.directory.path().join("project");
    let file = |name: &str| folder.join(name);
    fs::create_dir(&folder).unwrap();
    let compile = "mkdir -p build && \"$(PLUGSOCK)\" --version && cp $$(cat $<) $@";
    fs::write(file("Makefile"), format!("build/handler.wasm: handler.c\n\t{compile}\n")).unwrap();
    edit(&folder, &plugin("echo"));
    let mut dev = copied.command(copied.program(), &folder);
    dev.arg("dev").env("CC", "cp");
    let host = Host::start(dev, &["tcp://127.0.0.1:0"]);
    copied.copy();
    edit(&folder, &guest("phases"));
    host.log.wait_for_count("swapped", 1);
    assert_eq!(host.ask(b"hello"), b"setup\nhandle\nfinish\n");
}
