//! Makes what this crate carries of the SDKs: the contract's bindings for C, and the crate for Rust as it is outside
//! of this workspace.

use std::path::{Path, PathBuf};
use std::{env, fs};

use anyhow::{Context, ensure};
use toml::{Table, Value};
use wit_bindgen_core::Files;
use wit_bindgen_core::wit_parser::Resolve;

/// What the contract uses of WASI, and the contract.
const WIT: &str = "../wit";

/// The SDK for Rust; its contract is carried once for all languages.
const RUST_MANIFEST: &str = "../Cargo.toml";
const RUST_SOURCES: &str = "../src";

const WORKSPACE: &str = "../../Cargo.toml";

fn main() -> anyhow::Result<()> {
    let folder = PathBuf::from(env::var("OUT_DIR")?);
    c_bindings(&folder)?;
    rust_sdk(&folder)
}

/// The linker leaves out what is not used of state; those who have hooks are linked by another set of the same names, since who is linked by it exports them.
fn c_bindings(folder: &Path) -> anyhow::Result<()> {
    println!("cargo::rerun-if-changed={WIT}");
    let worlds =
        [("handler-with-state", folder.to_owned()), ("handler-with-hooks-with-state", folder.join("hooks"))];
    for (world, folder) in worlds {
        let mut resolve = Resolve::default();
        let (contract, _) = resolve.push_dir(WIT)?;
        let world = resolve.select_world(&[contract], Some(world))?;
        let options = wit_bindgen_c::Opts { rename_world: Some("handler".to_owned()), ..Default::default() };
        let mut files = Files::default();
        options.build().generate(&mut resolve, world, &mut files)?;
        fs::create_dir_all(&folder)?;
        for (name, contents) in files.iter() {
            fs::write(folder.join(name), contents)?;
        }
    }
    Ok(())
}

/// Writes `rust_sdk.rs`: the names and contents of all files of the SDK for Rust.
fn rust_sdk(folder: &Path) -> anyhow::Result<()> {
    let manifest = folder.join("rust_sdk.toml");
    fs::write(&manifest, rust_manifest()?)?;
    println!("cargo::rerun-if-changed={RUST_SOURCES}");
    let mut files = vec![("Cargo.toml".to_owned(), manifest)];
    for entry in fs::read_dir(RUST_SOURCES)? {
        let path = entry?.path().canonicalize()?;
        ensure!(path.is_file(), "{} is no file, and only those are carried", path.display());
        let name = path.file_name().and_then(|name| name.to_str()).context("its name is not UTF-8")?;
        files.push((format!("src/{name}"), path));
    }
    files.sort();
    let lines = files.iter().map(|(name, path)| format!("    ({name:?}, include_str!({path:?})),\n"));
    fs::write(folder.join("rust_sdk.rs"), format!("&[\n{}]\n", lines.collect::<String>()))?;
    Ok(())
}

/// The manifest of the SDK for Rust, with what the workspace says in the place of each `workspace = true`.
fn rust_manifest() -> anyhow::Result<String> {
    let workspace = table(WORKSPACE)?;
    let workspace = workspace["workspace"].as_table().context("it is no workspace")?;
    let mut manifest = table(RUST_MANIFEST)?;
    // They are for those who write the SDK.
    manifest.remove("lints");
    for name in ["package", "dependencies"] {
        let (Some(Value::Table(own)), Some(Value::Table(shared))) =
            (manifest.get_mut(name), workspace.get(name))
        else {
            anyhow::bail!("there is no [{name}]");
        };
        for (key, value) in own {
            if value.as_table().is_some_and(|table| table.contains_key("workspace")) {
                *value = shared.get(key).with_context(|| format!("the workspace has no {key}"))?.clone();
            }
        }
    }
    let manifest = toml::to_string(&manifest)?;
    let stands_alone = !manifest.contains("workspace") && !manifest.contains("path = ");
    ensure!(stands_alone, "the SDK for Rust needs more of this workspace than is carried:\n{manifest}");
    Ok(manifest)
}

fn table(manifest: &str) -> anyhow::Result<Table> {
    println!("cargo::rerun-if-changed={manifest}");
    Ok(fs::read_to_string(manifest)?.parse()?)
}
