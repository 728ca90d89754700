//! When the build script has to run again.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::{Error, variable};

/// Runs the build script again when a file that an artifact was made of changes; `dep_info` is where cargo
/// lists them.
pub(crate) fn when_sources_change(dep_info: &Path) -> Result<(), Error> {
    let list = fs::read_to_string(dep_info).map_err(Error::reading(dep_info))?;
    // The list of an example that is no more stays, and a missing file would run the script every time.
    let sources: Vec<PathBuf> =
        prerequisites(&list).map(PathBuf::from).filter(|source| source.exists()).collect();
    let manifests: BTreeSet<PathBuf> = sources.iter().filter_map(|source| manifest(source)).collect();
    sources.iter().chain(&manifests).for_each(|file| when_changed(file));
    Ok(())
}

/// Runs the build script again when the dependencies or the profile change.
pub(crate) fn when_workspace_changes() -> Result<(), Error> {
    let package = variable("CARGO_MANIFEST_DIR")?;
    if let Some(root) = package.ancestors().find(|folder| folder.join("Cargo.lock").exists()) {
        when_changed(&root.join("Cargo.lock"));
        when_changed(&root.join("Cargo.toml"));
    }
    Ok(())
}

/// Runs the build script again when a file changes.
pub(crate) fn when_changed(path: &Path) {
    println!("cargo::rerun-if-changed={}", path.display());
}

/// The manifest of the package that a source file belongs to.
fn manifest(source: &Path) -> Option<PathBuf> {
    source.ancestors().map(|folder| folder.join("Cargo.toml")).find(|manifest| manifest.exists())
}

/// What follows the colon in a makefile's rule; a space within a path is escaped.
fn prerequisites(dep_info: &str) -> impl Iterator<Item = String> {
    let (_, list) = dep_info.split_once(": ").unwrap_or_default();
    let hidden = list.trim().replace("\\ ", "\0");
    let paths: Vec<String> = hidden.split_whitespace().map(|path| path.replace('\0', " ")).collect();
    paths.into_iter()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_with_spaces_stay_whole() {
        let list = "/out/echo.wasm: /src/lib.rs /my\\ src/handler.wit\n";
        let paths: Vec<String> = prerequisites(list).collect();
        assert_eq!(paths, ["/src/lib.rs", "/my src/handler.wit"]);
    }
}
