//! Generates the contract's bindings for C, which the SDK for C brings along.

use std::path::PathBuf;
use std::{env, fs};

use wit_bindgen_core::Files;
use wit_bindgen_core::wit_parser::Resolve;

/// What the contract uses of WASI, and the contract.
const WIT: &str = "../wit";

fn main() -> anyhow::Result<()> {
    println!("cargo::rerun-if-changed={WIT}");
    let mut resolve = Resolve::default();
    let (contract, _) = resolve.push_dir(WIT)?;
    let world = resolve.select_world(&[contract], Some("handler"))?;
    let mut files = Files::default();
    wit_bindgen_c::Opts::default().build().generate(&mut resolve, world, &mut files)?;
    let folder = PathBuf::from(env::var("OUT_DIR")?);
    for (name, contents) in files.iter() {
        fs::write(folder.join(name), contents)?;
    }
    Ok(())
}
