//! New projects: the plugins that ship, under another name.

use std::path::{Path, PathBuf};

use crate::sdk::SDK;
use crate::{Error, Kind, Language, write_files, write_sdk};

/// The plugin that a language's templates are made of is called `echo-` and this.
macro_rules! plugin {
    ($folder:literal, $file:literal) => {
        ($file, include_str!(concat!("../../../plugins/", $folder, "/", $file)))
    };
}

macro_rules! template {
    ($file:literal from $template:literal) => {
        ($file, include_str!(concat!("../../templates/", $template)))
    };
}

type File = (&'static str, &'static str);

/// What the plugins in Rust are linked by, and programs too.
const RUST_BUILD: File = ("build.rs", include_str!("../../../plugins/build.rs"));

/// The name that the plugins' manifests and those of the templates have in the place of the project's.
const NAMES: [&str; 5] = ["NAME", "echo-assemblyscript", "echo-js", "echo-ts", "module echo"];

/// Writes a new project into a folder of its name below `parent`; the folder.
pub fn new(name: &str, language: Language, kind: Kind, parent: &Path) -> Result<PathBuf, Error> {
    let is_fit = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
    if !name.starts_with(|c: char| c.is_ascii_lowercase()) || !name.chars().all(is_fit) {
        return Err(Error::Name { name: name.to_owned() });
    }
    let folder = parent.join(name);
    if folder.exists() {
        return Err(Error::Exists { path: folder });
    }
    let own = files(language, kind);
    if own.is_empty() {
        return Err(Error::NoTemplate { language, kind, others: languages(kind) });
    }
    let shared = [template!(".gitignore" from "gitignore"), test(kind)];
    let files = own.iter().chain(&shared);
    write_files(&folder, files.map(|(path, text)| (path, named(text, name))))?;
    if has_sdk(language, kind) {
        // A build renews it; editors and the language's own tools need it from the beginning.
        write_sdk(language, &folder.join(SDK))?;
    }
    Ok(folder)
}

/// The others are built with what their language has.
fn has_sdk(language: Language, kind: Kind) -> bool {
    match kind {
        Kind::Stream | Kind::Datagram => true,
        Kind::Command => false,
        Kind::Http => language == Language::Go,
    }
}

/// The names of the languages that have this kind.
fn languages(kind: Kind) -> String {
    let have = Language::ALL.into_iter().filter(|language| !files(*language, kind).is_empty());
    have.map(Language::name).collect::<Vec<_>>().join(", ")
}

fn named(text: &str, name: &str) -> String {
    let mut text = text.to_owned();
    for other in NAMES {
        let name = if other.starts_with("module ") { format!("module {name}") } else { name.to_owned() };
        text = text.replace(other, &name);
    }
    text
}

fn test(kind: Kind) -> File {
    match kind {
        Kind::Stream | Kind::Command => template!("test.sh" from "test.sh"),
        Kind::Datagram => template!("test.sh" from "test-datagram.sh"),
        Kind::Http => template!("test.sh" from "test-http.sh"),
    }
}

/// A project's own files; none where a language does not have the kind.
fn files(language: Language, kind: Kind) -> &'static [File] {
    use Kind::{Command, Datagram, Http, Stream};
    match (language, kind) {
        (Language::Rust, Stream) => &[
            template!("Cargo.toml" from "rust/Cargo.toml"),
            RUST_BUILD,
            template!("src/lib.rs" from "rust/stream.rs"),
            template!("tests/answers.rs" from "rust/test.rs"),
        ],
        (Language::Rust, Datagram) => &[
            template!("Cargo.toml" from "rust/Cargo.toml"),
            RUST_BUILD,
            template!("src/lib.rs" from "rust/datagram.rs"),
            template!("tests/answers.rs" from "rust/test.rs"),
        ],
        (Language::Rust, Command) => &[
            template!("Cargo.toml" from "rust/command.toml"),
            RUST_BUILD,
            template!("src/main.rs" from "rust/command.rs"),
            template!("tests/answers.rs" from "rust/test.rs"),
        ],
        (Language::Rust, Http) => &[
            template!("Cargo.toml" from "rust/http.toml"),
            RUST_BUILD,
            template!("src/lib.rs" from "rust/http.rs"),
            template!("tests/answers.rs" from "rust/test.rs"),
        ],
        (Language::C, Stream) => &[plugin!("echo-c", "Makefile"), plugin!("echo-c", "handler.c")],
        (Language::C, Datagram) => {
            &[plugin!("echo-c", "Makefile"), template!("handler.c" from "c/datagram.c")]
        }
        (Language::C, Command) => {
            &[template!("Makefile" from "c/command.mk"), template!("handler.c" from "c/command.c")]
        }
        (Language::Zig, Stream) => &[plugin!("echo-zig", "Makefile"), plugin!("echo-zig", "handler.zig")],
        (Language::Zig, Datagram) => {
            &[plugin!("echo-zig", "Makefile"), template!("handler.zig" from "zig/datagram.zig")]
        }
        (Language::Zig, Command) => {
            &[template!("Makefile" from "zig/command.mk"), template!("handler.zig" from "zig/command.zig")]
        }
        (Language::Go, Stream) => {
            &[plugin!("echo-go", "Makefile"), plugin!("echo-go", "go.mod"), plugin!("echo-go", "handler.go")]
        }
        (Language::Go, Datagram) => &[
            plugin!("echo-go", "Makefile"),
            plugin!("echo-go", "go.mod"),
            template!("handler.go" from "go/datagram.go"),
        ],
        (Language::Go, Command) => &[
            template!("Makefile" from "go/command.mk"),
            template!("go.mod" from "go/command.mod"),
            template!("handler.go" from "go/command.go"),
        ],
        (Language::Go, Http) => &[
            plugin!("echo-go", "Makefile"),
            plugin!("echo-go", "go.mod"),
            template!("handler.go" from "go/http.go"),
        ],
        (Language::Python, Stream) => {
            &[plugin!("echo-python", "Makefile"), plugin!("echo-python", "handler.py")]
        }
        (Language::Python, Datagram) => {
            &[plugin!("echo-python", "Makefile"), template!("handler.py" from "python/datagram.py")]
        }
        (Language::Python, Command) => &[
            template!("Makefile" from "python/command.mk"),
            template!("program.wit" from "python/program.wit"),
            template!("handler.py" from "python/command.py"),
        ],
        (Language::Python, Http) => &[
            template!("Makefile" from "python/http.mk"),
            template!("proxy.wit" from "proxy.wit"),
            template!("handler.py" from "python/http.py"),
        ],
        (Language::JavaScript, Stream) => {
            &[plugin!("echo-js", "package.json"), plugin!("echo-js", "handler.js")]
        }
        (Language::JavaScript, Datagram) => {
            &[plugin!("echo-js", "package.json"), template!("handler.js" from "js/datagram.js")]
        }
        (Language::JavaScript, Command) => &[
            template!("package.json" from "js/command.json"),
            template!("program.wit" from "js/program.wit"),
            template!("handler.js" from "js/command.js"),
        ],
        (Language::JavaScript, Http) => &[
            template!("package.json" from "js/http.json"),
            template!("proxy.wit" from "proxy.wit"),
            template!("handler.js" from "js/http.js"),
        ],
        (Language::TypeScript, Stream) => &[
            plugin!("echo-ts", "package.json"),
            plugin!("echo-ts", "tsconfig.json"),
            plugin!("echo-ts", "handler.ts"),
        ],
        (Language::TypeScript, Datagram) => &[
            plugin!("echo-ts", "package.json"),
            plugin!("echo-ts", "tsconfig.json"),
            template!("handler.ts" from "ts/datagram.ts"),
        ],
        (Language::TypeScript, Command) => &[
            template!("package.json" from "ts/command.json"),
            template!("tsconfig.json" from "ts/command-tsconfig.json"),
            template!("program.wit" from "js/program.wit"),
            template!("program.d.ts" from "ts/program.d.ts"),
            template!("handler.ts" from "ts/command.ts"),
        ],
        (Language::TypeScript, Http) => &[
            template!("package.json" from "ts/http.json"),
            template!("tsconfig.json" from "ts/http-tsconfig.json"),
            template!("proxy.wit" from "proxy.wit"),
            template!("handler.ts" from "ts/http.ts"),
        ],
        (Language::AssemblyScript, Stream) => {
            &[plugin!("echo-assemblyscript", "package.json"), plugin!("echo-assemblyscript", "handler.ts")]
        }
        (Language::AssemblyScript, Datagram) => &[
            plugin!("echo-assemblyscript", "package.json"),
            template!("handler.ts" from "assemblyscript/datagram.ts"),
        ],
        (Language::AssemblyScript, Command) => &[
            template!("package.json" from "assemblyscript/command.json"),
            template!("handler.ts" from "assemblyscript/command.ts"),
        ],
        (Language::C | Language::Zig | Language::AssemblyScript, Http) => &[],
    }
}
