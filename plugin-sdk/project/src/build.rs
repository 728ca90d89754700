//! Building a project with its language's ordinary tools.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{self, BufRead};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::sdk::SDK;
use crate::{Error, Language, write_sdk};

/// Where every project's build leaves its component.
const COMPONENT: &str = "build/handler.wasm";

/// A program that a build calls, and how to get it.
type Tool = (&'static str, &'static str);

const MAKE: Tool = ("make", "install your system's package `make`");
const NPM: Tool = ("npm", "install Node.js");
const ZIG: Tool = ("zig", "install Zig 0.17, for example with `pip install ziglang`");
const GO: Tool = ("go", "install Go 1.24 or newer");
const COMPONENTIZE_PY: Tool = ("componentize-py", "run `pip install componentize-py`");
const CARGO: Tool = ("cargo", "install Rust with rustup, then run `rustup target add wasm32-wasip2`");
const NODE_MODULES: &str = "run `npm install` in the project's folder";

/// Builds the project in a folder; its component.
///
/// What the tools say goes to standard error. Builds call this program back, by its path in the variable `PLUGSOCK`.
pub fn build(folder: &Path) -> Result<PathBuf, Error> {
    let language = language(folder)?;
    let path = path(folder)?;
    for (program, remedy) in tools(language) {
        if env::split_paths(&path).all(|directory| !directory.join(program).exists()) {
            return Err(Error::NoTool { program, remedy });
        }
    }
    let component = folder.join(COMPONENT);
    let mut command = Command::new(tools(language)[0].0);
    command.current_dir(folder).env("PATH", path).env("PLUGSOCK", this_program()?).stdout(io::stderr());
    match language {
        Language::Rust => {
            if fs::read_to_string(folder.join("Cargo.toml")).is_ok_and(|manifest| manifest.contains(SDK)) {
                write_sdk(language, &folder.join(SDK))?;
            }
            build_crate(&mut command, &component)?;
        }
        Language::C | Language::Zig | Language::Go | Language::Python => run(&mut command)?,
        Language::AssemblyScript | Language::JavaScript | Language::TypeScript => {
            run(command.args(["run", "--silent", "build"]))?;
        }
    }
    if component.is_file() { Ok(component) } else { Err(Error::NoComponent { path: component }) }
}

/// What a folder has tells what it is a project of.
fn language(folder: &Path) -> Result<Language, Error> {
    let has = |name: &str| folder.join(name).exists();
    let uses = |package: &str| {
        fs::read_to_string(folder.join("package.json")).is_ok_and(|manifest| manifest.contains(package))
    };
    let has_sources = |extension: &str| {
        let entries = folder.read_dir().into_iter().flatten().flatten();
        has("Makefile")
            && entries.map(|entry| entry.path()).any(|path| path.extension() == Some(extension.as_ref()))
    };
    let found = [
        (Language::Rust, has("Cargo.toml")),
        (Language::AssemblyScript, uses("\"assemblyscript\"")),
        (Language::TypeScript, uses("\"typescript\"")),
        (Language::JavaScript, has("package.json")),
        (Language::Go, has("Makefile") && has("go.mod")),
        (Language::C, has_sources("c")),
        (Language::Zig, has_sources("zig")),
        (Language::Python, has_sources("py")),
    ];
    let found = found.into_iter().find_map(|(language, is)| is.then_some(language));
    found.ok_or_else(|| Error::NoProject { folder: folder.to_owned() })
}

/// What a build calls, first of all the program that runs it.
fn tools(language: Language) -> &'static [Tool] {
    match language {
        Language::Rust => &[CARGO],
        // Another compiler may be named.
        Language::C if env::var_os("CC").is_some() => &[MAKE],
        Language::C | Language::Zig => &[MAKE, ZIG],
        Language::Go => &[MAKE, GO],
        Language::Python => &[MAKE, COMPONENTIZE_PY],
        Language::AssemblyScript => &[NPM, ("asc", NODE_MODULES)],
        Language::JavaScript => &[NPM, ("componentize-js", NODE_MODULES)],
        Language::TypeScript => &[NPM, ("tsc", NODE_MODULES), ("componentize-js", NODE_MODULES)],
    }
}

/// Where tools are looked for: first among the project's own.
fn path(folder: &Path) -> Result<OsString, Error> {
    let folder = folder.canonicalize().map_err(Error::reading(folder))?;
    let path = env::var_os("PATH").unwrap_or_default();
    let directories = [folder.join("node_modules/.bin")].into_iter().chain(env::split_paths(&path));
    env::join_paths(directories).map_err(|_| Error::Path { folder })
}

/// Where this program lies, or what has taken its place since it was started: `plugsock dev` runs for long.
fn this_program() -> Result<PathBuf, Error> {
    let path = env::current_exe().map_err(Error::reading(Path::new("/proc/self/exe")))?;
    match path.as_os_str().as_bytes().strip_suffix(b" (deleted)") {
        Some(replaced) if !path.exists() => Ok(PathBuf::from(OsStr::from_bytes(replaced))),
        _ => Ok(path),
    }
}

fn run(command: &mut Command) -> Result<(), Error> {
    let program = command.get_program().to_string_lossy().into_owned();
    let status = command.status().map_err(|source| Error::Start { program: program.clone(), source })?;
    if status.success() { Ok(()) } else { Err(Error::Failed { program, status }) }
}

/// Cargo puts components where its configuration says, and names them after the crate.
fn build_crate(command: &mut Command, component: &Path) -> Result<(), Error> {
    let program = "cargo".to_owned();
    let mut cargo = command
        .args(["build", "--release", "--target", "wasm32-wasip2"])
        .arg("--message-format=json-render-diagnostics")
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|source| Error::Start { program: program.clone(), source })?;
    let messages = io::BufReader::new(cargo.stdout.take().expect("it is a pipe"));
    let built: Vec<PathBuf> =
        messages.lines().map_while(Result::ok).filter_map(|line| artifact(&line)).collect();
    let status = cargo.wait().map_err(|source| Error::Start { program: program.clone(), source })?;
    if !status.success() {
        return Err(Error::Failed { program, status });
    }
    // Dependencies come first.
    let Some(built) = built.last() else {
        return Err(Error::NoComponent { path: component.to_owned() });
    };
    let parent = component.parent().expect("it has a folder");
    fs::create_dir_all(parent).map_err(Error::writing(parent))?;
    fs::copy(built, component).map(drop).map_err(Error::writing(component))
}

/// The component that a message of cargo's names.
fn artifact(message: &str) -> Option<PathBuf> {
    let message: serde_json::Value = serde_json::from_str(message).ok()?;
    let files = message.get("filenames")?.as_array()?.iter();
    files.filter_map(|file| file.as_str()).find(|file| file.ends_with(".wasm")).map(PathBuf::from)
}
