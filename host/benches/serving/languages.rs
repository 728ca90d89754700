//! What a handler costs in each language: `cargo bench -- languages` prints a table.
//!
//! Each is the same echo, as `plugsock build` has built it in its folder below `plugins`; those that are not
//! built are left out.

use std::fs;
use std::path::Path;
use std::time::Instant;

use clap::Args;
use plugsock::{CacheOptions, Sandbox, SandboxOptions};

use crate::load::Work;
use crate::peers::Contender;
use crate::plan::Scale;
use crate::trial::{Failure, Trial};
use crate::{machine::Machine, report};

/// Print a table of what a handler costs in each language
#[derive(Args, Debug)]
pub struct Languages {}

macro_rules! built {
    ($plugin:literal) => {
        concat!(env!("CARGO_MANIFEST_DIR"), "/../plugins/", $plugin, "/build/handler.wasm")
    };
}

const HANDLERS: [(&str, &str); 8] = [
    ("Rust", built!("echo")),
    ("C", built!("echo-c")),
    ("Zig", built!("echo-zig")),
    ("AssemblyScript", built!("echo-assemblyscript")),
    ("Go", built!("echo-go")),
    ("Python", built!("echo-python")),
    ("JavaScript", built!("echo-js")),
    ("TypeScript", built!("echo-ts")),
];

const CLIENTS: usize = 8;

impl Languages {
    pub fn run(self, scale: &Scale) -> anyhow::Result<()> {
        println!("{}\n", Machine::this());
        println!("| language | size | compile | start | instantiate | connect/s | ping/s |");
        println!("|---|---|---|---|---|---|---|");
        for (language, file) in HANDLERS {
            if Path::new(file).exists() {
                println!("| {language} | {}", row(file, scale)?);
            }
        }
        Ok(())
    }
}

fn row(file: &'static str, scale: &Scale) -> anyhow::Result<String> {
    let kilobytes = fs::metadata(file)?.len() as f64 / 1e3;
    let begin = Instant::now();
    Sandbox::new(SandboxOptions { cache: None, ..SandboxOptions::default() })?.load(file)?;
    let compile = begin.elapsed().as_secs_f64();
    // What is started next finds it compiled.
    let cache = CacheOptions { directory: report::directory()?.join("cache"), max_size: u64::MAX };
    Sandbox::new(SandboxOptions { cache: Some(cache), ..SandboxOptions::default() })?.load(file)?;

    let contender = Contender::Handler(file);
    let load = |work| Trial::Load { work, clients: CLIENTS, contender };
    let measure = |trial: Trial| match trial.measure(scale) {
        Ok(sample) => Ok(sample.value),
        Err(Failure::Unavailable(reason)) => Err(anyhow::anyhow!(reason)),
        Err(Failure::Broken(error)) => Err(error),
    };
    let start = measure(Trial::Start(contender))?;
    let instantiate = measure(Trial::Instantiate(Some(file)))?;
    let (connect, ping) = (measure(load(Work::Connect))?, measure(load(Work::Ping))?);
    Ok(format!(
        "{kilobytes:.0} KB | {compile:.2} s | {start:.0} ms | {instantiate:.0} µs | {connect:.0} | {ping:.0} |"
    ))
}
