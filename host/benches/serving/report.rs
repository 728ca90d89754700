//! All findings of a run, as files.

use std::path::{Path, PathBuf};

use anyhow::Context;
use plugsock::CacheOptions;
use serde::Serialize;

use crate::figure::{self, Finding};
use crate::growth::Table;
use crate::machine::Machine;

#[derive(Debug, Serialize)]
pub struct Report {
    pub machine: Machine,
    #[serde(rename = "figures")]
    pub findings: Vec<Finding>,
    pub growth: Vec<Table>,
}

impl Report {
    pub fn new() -> Self {
        Self { machine: Machine::this(), findings: Vec::new(), growth: Vec::new() }
    }

    /// Writes all that is known as JSON and a summary as markdown; says where to.
    pub fn write(&self) -> anyhow::Result<[PathBuf; 2]> {
        let files = ["json", "md"].map(|extension| Path::new("serving").with_extension(extension));
        let directory = directory()?;
        let [json, markdown] = files.map(|file| directory.join(file));
        std::fs::write(&json, serde_json::to_vec_pretty(self)?)?;
        std::fs::write(&markdown, self.markdown())?;
        Ok([json, markdown])
    }

    /// Puts the summary into the benchmark's README.
    pub fn write_readme(&self) -> anyhow::Result<()> {
        let text = std::fs::read_to_string(README)?;
        let (before, _) = text.split_once(BEGIN).context("the README has no place for results")?;
        Ok(std::fs::write(README, format!("{before}{BEGIN}\n\n{}", self.markdown()))?)
    }

    fn markdown(&self) -> String {
        let rows: Vec<String> = self.findings.iter().map(Finding::row).collect();
        let tables: String = self.growth.iter().map(|table| format!("\n### {table}")).collect();
        format!("{}\n\n{}\n{}\n{tables}", self.machine, figure::HEAD, rows.join("\n"))
    }
}

const README: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/README.md");

/// What stands above the results in the README, and nothing below them.
const BEGIN: &str = "<!-- What follows is written by `--readme`. -->";

/// The cache of compiled handlers that contenders of ours share.
pub const CACHE: &str = "cache";

/// A cache of compiled handlers, among the benchmark's files.
pub fn cache(name: &str) -> std::io::Result<CacheOptions> {
    Ok(CacheOptions { directory: directory()?.join(name), max_size: u64::MAX })
}

/// Where the benchmark keeps its files: `target/bench`, beside the profile's directory.
pub fn directory() -> std::io::Result<PathBuf> {
    let target = Path::new(env!("CARGO_BIN_EXE_plugsock")).ancestors().nth(2);
    let directory = target.expect("cargo builds into target/PROFILE").join("bench");
    std::fs::create_dir_all(&directory)?;
    Ok(directory)
}
