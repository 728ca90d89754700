//! What a handler costs in each language: `cargo bench -- languages` prints a table.
//!
//! Each is the same echo; those whose compilers are missing are left out.

use std::fs;
use std::slice;

use clap::Args;

use crate::load::Work;
use crate::peers::Contender;
use crate::plan::Scale;
use crate::transport::Transport;
use crate::trial::{Failure, Trial};
use crate::{cost, machine::Machine, made};

/// Print a table of what a handler costs in each language
#[derive(Args, Debug)]
pub struct Languages {}

const LANGUAGES: [(&str, &str); 8] = [
    ("Rust", "rust"),
    ("C", "c"),
    ("Zig", "zig"),
    ("AssemblyScript", "assemblyscript"),
    ("Go", "go"),
    ("Python", "python"),
    ("JavaScript", "js"),
    ("TypeScript", "ts"),
];

const CLIENTS: usize = 8;

impl Languages {
    pub fn run(self, scale: &Scale) -> anyhow::Result<()> {
        println!("{}\n", Machine::this());
        println!("| language | size | compile | start | instantiate | connect/s | ping/s |");
        println!("|---|---|---|---|---|---|---|");
        for (name, language) in LANGUAGES {
            match row(language, scale) {
                Ok(row) => println!("| {name} | {row}"),
                Err(Failure::Unavailable(reason)) => eprintln!("{name}: {reason}"),
                Err(Failure::Broken(error)) => anyhow::bail!("{name}: {error:#}"),
            }
        }
        Ok(())
    }
}

fn row(language: &'static str, scale: &Scale) -> Result<String, Failure> {
    let file = made::component("stream", language)?;
    let kilobytes = fs::metadata(&file)?.len() as f64 / 1e3;
    let compile = cost::load(None, slice::from_ref(&file))?.microseconds / 1e6;

    let contender = Contender::Made("threading", language);
    let load = |work| Trial::Load { work, over: Transport::Tcp, clients: CLIENTS, contender };
    let measure = |trial: Trial| trial.measure(scale).map(|sample| sample.value);
    let start = measure(Trial::Start(contender))?;
    let instantiate = measure(Trial::Instantiate(Some(language)))?;
    let (connect, ping) = (measure(load(Work::Connect))?, measure(load(Work::Ping))?);
    Ok(format!(
        "{kilobytes:.0} KB | {compile:.2} s | {start:.0} ms | {instantiate:.0} µs | {connect:.0} | {ping:.0} |"
    ))
}
