//! Handlers as their authors make them: each the echo of `plugsock new`, built by `plugsock build`. The one of HTTP echoes
//! what is posted.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::slice;

use anyhow::anyhow;

use crate::cost;
use crate::report::{self, CACHE};
use crate::trial::Failure;

const PLUGSOCK: &str = env!("CARGO_BIN_EXE_plugsock");

/// Where `plugin-sdk/toolchains/install` puts the compilers.
const TOOLCHAINS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/toolchains/bin");

/// The component of a project of a kind in a language, which is compiled into the benchmark's cache, too. It is made anew when
/// the program is newer, and with it the templates and the SDK may be.
pub fn component(kind: &str, language: &str) -> Result<PathBuf, Failure> {
    let parent = report::directory()?.join("made").join(kind).join(language);
    let component = parent.join("hello/build/handler.wasm");
    let modified = |path: &Path| fs::metadata(path)?.modified();
    if modified(&component).is_ok_and(|made| modified(PLUGSOCK.as_ref()).is_ok_and(|program| program < made))
    {
        return Ok(component);
    }
    if parent.exists() {
        fs::remove_dir_all(&parent)?;
    }
    fs::create_dir_all(&parent)?;
    run(plugsock()?.args(["new", "hello", "--kind", kind, "--lang", language]).current_dir(&parent))?;
    run(plugsock()?.arg("build").arg(parent.join("hello")))?;
    cost::load(Some(CACHE), slice::from_ref(&component))?;
    Ok(component)
}

/// The one of HTTP.
pub fn http() -> Result<PathBuf, Failure> {
    component("http", "rust")
}

fn plugsock() -> Result<Command, Failure> {
    let path = env::var_os("PATH").unwrap_or_default();
    let directories = [TOOLCHAINS.into()].into_iter().chain(env::split_paths(&path));
    let mut command = Command::new(PLUGSOCK);
    // The project is another build than the one that runs the benchmark.
    for name in ["CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "CARGO_PROFILE_RELEASE_LTO", "RUSTFLAGS"] {
        command.env_remove(name);
    }
    command
        .env("PATH", env::join_paths(directories)?)
        .env("CARGO_TARGET_DIR", report::directory()?.join("made/cargo"));
    Ok(command)
}

fn run(command: &mut Command) -> Result<(), Failure> {
    let output = command.output()?;
    let words = String::from_utf8_lossy(&output.stderr);
    if output.status.success() {
        Ok(())
    } else if words.contains("is not installed, or not on the PATH") {
        Err(Failure::Unavailable(words.lines().last().unwrap_or_default().to_owned()))
    } else {
        Err(anyhow!("{command:?} failed: {words}").into())
    }
}
