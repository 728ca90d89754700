//! The nested cargo.

use std::env;
use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;

use crate::{Error, PROFILE, TARGET, variable};

/// What the nested cargo keeps of the variables whose names begin with `CARGO_`: where and how to fetch
/// crates, and the job server. The rest describes the outer build.
const KEPT: [&str; 6] =
    ["CARGO_HOME", "CARGO_HTTP_", "CARGO_MAKEFLAGS", "CARGO_NET_", "CARGO_REGISTR", "CARGO_SOURCE_"];

/// Variables with other names that change how, or with what, cargo compiles. `cargo clippy` sets some of them.
const DROPPED: [&str; 5] =
    ["CLIPPY_ARGS", "RUSTC_LINKER", "RUSTC_WORKSPACE_WRAPPER", "RUSTC_WRAPPER", "RUSTFLAGS"];

/// Builds what `selection` selects, below `target_dir`.
pub(crate) fn build(target_dir: &Path, selection: &[&str]) -> Result<(), Error> {
    let mut cargo = Command::new(variable("CARGO")?);
    cargo
        .args(["build", "--locked", "--target", TARGET, "--profile", PROFILE])
        .arg("--target-dir")
        .arg(target_dir)
        .args(selection)
        .current_dir(variable("CARGO_MANIFEST_DIR")?);
    for (name, _) in env::vars_os() {
        if describes_outer_build(&name) {
            cargo.env_remove(name);
        }
    }
    output(&mut cargo).map(drop)
}

/// Runs a command and returns its standard output.
pub(crate) fn output(command: &mut Command) -> Result<String, Error> {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let line = words.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ");
    match command.output() {
        Ok(output) if output.status.success() => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        Ok(output) => {
            Err(Error::Failed { command: line, stderr: String::from_utf8_lossy(&output.stderr).into_owned() })
        }
        Err(source) => Err(Error::Start { command: line, source }),
    }
}

fn describes_outer_build(variable: &OsStr) -> bool {
    let name = variable.to_string_lossy();
    let cargo = name.starts_with("CARGO_") && !KEPT.iter().any(|kept| name.starts_with(kept));
    cargo || DROPPED.contains(&&*name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_outer_build_stays_outside() {
        for name in ["CARGO_ENCODED_RUSTFLAGS", "CARGO_TARGET_DIR", "CARGO_FEATURE_X", "RUSTFLAGS"] {
            assert!(describes_outer_build(name.as_ref()), "{name}");
        }
        for name in ["CARGO_HOME", "CARGO_NET_OFFLINE", "CARGO_MAKEFLAGS", "PATH", "CARGO"] {
            assert!(!describes_outer_build(name.as_ref()), "{name}");
        }
    }
}
