//! How Plugsock stands against what people would use instead, in one run on one machine: `cargo bench`.
//!
//! ```text
//! driver ──starts──▶ contender     ours or a peer: one process, alone on the machine, all echo
//!    │                   ▲
//!    └─────starts──▶ load generator, or a process that holds connections open
//! ```
//!
//! A *figure* compares two *trials*, or a trial with a target; its name says what is done, by which strategy,
//! and against whom: `connect/pool/native-thread`. A group of figures runs in rounds; each round runs every trial of the group
//! once, so that a ratio's two sides are taken close together. The processes beside the driver are this same
//! binary in another role.

mod cost;
mod figure;
mod growth;
mod languages;
mod load;
mod machine;
mod made;
mod peers;
mod plan;
mod process;
mod report;
mod state;
mod swap;
mod sweep;
mod tls;
mod transport;
mod trial;
mod usage;

use std::time::Duration;

use clap::{Parser, Subcommand};

use plan::Scale;
use report::Report;

/// Compare Plugsock with native servers, Python's `socketserver` and inetd-like ones
#[derive(Debug, Parser)]
struct Cli {
    /// Fewer and shorter rounds, smaller tables: about two minutes
    #[arg(long)]
    quick: bool,

    /// Only figures whose name contains this
    #[arg(long, value_name = "TEXT", default_value = "")]
    only: String,

    /// Put the results into host/benches/README.md, too
    #[arg(long, conflicts_with_all = ["quick", "only"])]
    readme: bool,

    /// Cargo says so to every benchmark.
    #[arg(long, hide = true, global = true)]
    bench: bool,

    #[command(subcommand)]
    role: Option<Role>,
}

/// What else this binary is, for the driver.
#[derive(Debug, Subcommand)]
#[command(hide = true)]
enum Role {
    #[command(hide = false)]
    Languages(languages::Languages),
    #[command(hide = false)]
    Sweep(sweep::Sweep),
    Load(load::Load),
    Hold(load::Hold),
    Native(peers::Native),
    Inetd(peers::Inetd),
    LoadHandlers(cost::LoadHandlers),
    Instantiate(cost::Instantiate),
    SpawnThread(cost::SpawnThread),
}

fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    match cli.role {
        None => drive(&cli),
        Some(Role::Languages(languages)) => languages.run(&scale(cli.quick)),
        Some(Role::Sweep(sweep)) => sweep.run(&scale(cli.quick)),
        Some(Role::Load(load)) => load.run(),
        Some(Role::Hold(hold)) => hold.run(),
        Some(Role::Native(native)) => native.run(),
        Some(Role::Inetd(inetd)) => inetd.run(),
        Some(Role::LoadHandlers(load)) => load.run(),
        Some(Role::Instantiate(instantiate)) => instantiate.run(),
        Some(Role::SpawnThread(spawn)) => spawn.run(),
    }
}

fn drive(cli: &Cli) -> anyhow::Result<()> {
    process::raise_descriptor_limit()?;
    let scale = scale(cli.quick);
    let mut report = Report::new();
    println!("{}", report.machine);
    for mut group in plan::groups(&scale) {
        group.figures.retain(|figure| figure.name.contains(&cli.only));
        for finding in figure::compare(&group, &scale) {
            println!("{finding}");
            report.findings.push(finding);
        }
    }
    for growth in growth::all(&scale) {
        if growth.name.contains(&cli.only) {
            let table = growth.measure(&scale);
            println!("\n{table}");
            report.growth.push(table);
        }
    }
    let [json, markdown] = report.write()?;
    println!("written to {} and {}", json.display(), markdown.display());
    if cli.readme {
        report.write_readme()?;
    }
    let failed = report.findings.iter().filter(|finding| finding.is_failure()).count();
    let failed = failed + report.growth.iter().filter(|table| !table.failed.is_empty()).count();
    anyhow::ensure!(failed == 0, "{failed} figures failed");
    Ok(())
}

fn scale(quick: bool) -> Scale {
    if quick { Scale::quick() } else { Scale::full() }
}

/// The block that bulk transfer is made of, and the most that a peer reads at once: what `echo` reads.
const BLOCK: usize = 64 * 1024;

/// What is sent to and fro otherwise.
const MESSAGE: usize = 32;

/// Longer than anything here lasts that goes well.
const PATIENCE: Duration = Duration::from_secs(10);
