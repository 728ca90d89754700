//! All findings of a run, as a file.

use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::figure::Finding;
use crate::machine::Machine;

#[derive(Debug, Serialize)]
pub struct Report {
    pub machine: Machine,
    #[serde(rename = "figures")]
    pub findings: Vec<Finding>,
}

impl Report {
    pub fn new() -> Self {
        Self { machine: Machine::this(), findings: Vec::new() }
    }

    /// Writes it and says where to.
    pub fn write(&self) -> anyhow::Result<PathBuf> {
        let file = directory()?.join("serving.json");
        std::fs::write(&file, serde_json::to_vec_pretty(self)?)?;
        Ok(file)
    }
}

/// Where the benchmark keeps its files: `target/bench`, beside the profile's directory.
pub fn directory() -> std::io::Result<PathBuf> {
    let target = Path::new(env!("CARGO_BIN_EXE_plugsock")).ancestors().nth(2);
    let directory = target.expect("cargo builds into target/PROFILE").join("bench");
    std::fs::create_dir_all(&directory)?;
    Ok(directory)
}
