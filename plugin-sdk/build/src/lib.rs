//! Builds handlers of this workspace as components, for build scripts whose crate embeds or tests them.
//!
//! ```no_run
//! # fn main() -> Result<(), plugsock_build::Error> {
//! let components = plugsock_build::packages(&["echo"])?;
//! println!("cargo::rustc-env=ECHO={}", components.join("echo.wasm").display());
//! # Ok(())
//! # }
//! ```
//!
//! The build is a nested `cargo build` for [`TARGET`] with the workspace's `plugin` profile. The outer cargo holds the lock
//! on its own target directory, so this one has another beside, which all build scripts of a profile share: most of what they build is
//! the same, also for `cargo clippy`. The build script runs again when a source file of what was built changes.

use std::env;
use std::path::{Path, PathBuf};

mod cargo;
mod error;
mod rerun;
mod target;

pub use error::Error;

/// The target that handlers are built for; its linker writes components.
pub const TARGET: &str = "wasm32-wasip2";

/// The workspace's profile for handlers.
const PROFILE: &str = "plugin";

/// Builds these packages and returns the directory in which each is a `.wasm` file named after its library.
pub fn packages(names: &[&str]) -> Result<PathBuf, Error> {
    let directory = build(&select(names))?;
    for name in names {
        let artifact = name.replace('-', "_");
        rerun::when_sources_change(&directory.join(artifact).with_extension("d"))?;
    }
    Ok(directory)
}

/// Builds programs that others published: packages that the package in `folder`, which is a workspace of its own,
/// depends on. Returns the directory in which each program is a `.wasm` file.
pub fn programs(folder: &str, packages: &[&str]) -> Result<PathBuf, Error> {
    let manifest = Path::new(folder).join("Cargo.toml").display().to_string();
    rerun::when_changed(Path::new(&manifest));
    build(&[&["--manifest-path", &manifest], &select(packages)[..]].concat())
}

/// Builds all examples of a package and returns the directory in which each is a `.wasm` file.
pub fn examples(package: &str) -> Result<PathBuf, Error> {
    let directory = build(&["--package", package, "--examples"])?.join("examples");
    for artifact in dep_info_files(&directory)? {
        rerun::when_sources_change(&artifact)?;
    }
    Ok(directory)
}

fn select<'a>(packages: &[&'a str]) -> Vec<&'a str> {
    packages.iter().flat_map(|name| ["--package", name]).collect()
}

/// Builds what `selection` selects and returns the directory that cargo puts it into.
fn build(selection: &[&str]) -> Result<PathBuf, Error> {
    let target_dir = profile_dir(&variable("OUT_DIR")?).join("components");
    target::install()?;
    cargo::build(&target_dir, selection)?;
    rerun::when_workspace_changes()?;
    Ok(target_dir.join(TARGET).join(PROFILE))
}

/// Where the outer cargo puts what it builds in its profile, above the `build` that has all of `OUT_DIR`s; `OUT_DIR` itself
/// where they lie elsewhere.
fn profile_dir(out_dir: &Path) -> &Path {
    let build = out_dir.ancestors().find(|directory| directory.ends_with("build"));
    build.and_then(Path::parent).unwrap_or(out_dir)
}

/// The files in which cargo notes what each artifact was made of; their names have no hash.
fn dep_info_files(directory: &Path) -> Result<Vec<PathBuf>, Error> {
    let mut files = Vec::new();
    for entry in directory.read_dir().map_err(Error::reading(directory))? {
        let path = entry.map_err(Error::reading(directory))?.path();
        if path.extension().is_some_and(|extension| extension == "d") {
            files.push(path);
        }
    }
    Ok(files)
}

/// A path that cargo gives to build scripts in an environment variable.
fn variable(name: &'static str) -> Result<PathBuf, Error> {
    env::var_os(name).map(PathBuf::from).ok_or(Error::NotABuildScript { variable: name })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn build_scripts_of_a_profile_share_a_directory() {
        for package in ["host-1", "tests-2"] {
            let out_dir = format!("/home/build/target/release/build/{package}/out");
            assert_eq!(profile_dir(out_dir.as_ref()), Path::new("/home/build/target/release"));
        }
        assert_eq!(profile_dir("/elsewhere/out".as_ref()), Path::new("/elsewhere/out"));
    }
}
