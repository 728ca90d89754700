//! Builds all that the tests serve: the plugins, the guests that misbehave, tools by others, and components
//! that no compiler makes.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

const PLUGINS: [&str; 16] = [
    "chargen",
    "chat",
    "counter",
    "daytime",
    "discard",
    "dns",
    "echo",
    "finger",
    "gemini",
    "proxy",
    "qotd",
    "smtp",
    "syslog",
    "thread-echo",
    "time",
    "upper",
];

/// Command-line tools by others, which `tests/programs` depends on.
const PROGRAMS: [&str; 4] = ["grass", "jsonxf", "pulldown-cmark", "ripgrep"];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rustc-env=PLUGINS={}", plugsock_build::packages(&PLUGINS)?.display());
    println!("cargo::rustc-env=GUESTS={}", plugsock_build::examples("guests")?.display());
    println!("cargo::rustc-env=PROGRAMS={}", plugsock_build::programs("programs", &PROGRAMS)?.display());
    println!("cargo::rustc-env=WRITTEN={}", written(Path::new("components"))?.display());
    Ok(())
}

/// Turns the components that are written as text into binaries, and returns their directory.
fn written(source: &Path) -> Result<PathBuf, Box<dyn Error>> {
    println!("cargo::rerun-if-changed={}", source.display());
    let directory = PathBuf::from(std::env::var("OUT_DIR")?).join("written");
    fs::create_dir_all(&directory)?;
    for entry in fs::read_dir(source)? {
        let text = entry?.path();
        let binary = directory.join(text.with_extension("wasm").file_name().ok_or("no file")?);
        fs::write(binary, wat::parse_file(text)?)?;
    }
    Ok(directory)
}
