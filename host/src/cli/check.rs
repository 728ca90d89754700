//! `plugsock check`: says what a handler is, whether it can be served, and what it would be denied.

use std::process::ExitCode;

use clap::Args;

use plugsock::{Anatomy, Extent, Inspection, one_line};
use serde_json::json;

use super::handler_source::HandlerSource;
use super::log::LogOptions;
use super::options::SandboxArgs;
use super::output;
use super::progress::spin_while;
use super::registry::RegistryArgs;

/// Say what a handler is, what it imports and exports, and whether this host can serve it
///
/// Of the modules in it, it says what memory, stack and tables they begin with, and which functions they import without ever
/// calling them. A stack is unknown where the linker put it above the data, or the language has one of its own.
///
/// With the options for grants it says which imports these do not cover: they fail, or find nothing.
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  plugsock check echo.wasm\n  plugsock check echo.wasm && plugsock serve echo.wasm\n\nExit status: 0 if the handler can be served, 1 if not."
)]
pub struct Check {
    /// The component, or program for WASI preview 1, to look at: a file or oci://REGISTRY/NAME:TAG
    #[arg(value_parser = HandlerSource::parser())]
    handler: HandlerSource,

    /// Print it as JSON
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    sandbox: SandboxArgs,
    #[command(flatten)]
    registry: RegistryArgs,
    #[command(flatten)]
    log: LogOptions,
}

impl Check {
    pub fn run(self) -> anyhow::Result<ExitCode> {
        self.log.init()?;
        plugsock::become_helper_process_if_asked();
        let name = self.handler.to_string();
        let registry = self.registry.registry(None);
        let sandbox = self.sandbox.for_requests(1).sandbox(&name, &self.log)?;
        let (name, inspection) = spin_while("compiling", || self.handler.inspect(&sandbox, &registry))?;
        if self.json {
            output::print_json(&report(&name, &inspection))?;
            return inspection.verdict.map(|()| ExitCode::SUCCESS).map_err(Into::into);
        }
        println!("handler  {name}");
        println!("size     {} bytes", inspection.size);
        println!("digest   {}", inspection.digest);
        if let Some(kind) = inspection.kind {
            println!("kind     {kind}");
        }
        if inspection.starts_tls {
            println!("tls      it protects connections itself: serve it on tcp:// or unix:// with --tls");
        }
        if let Some(anatomy) = &inspection.anatomy {
            print_anatomy(anatomy);
        }
        print_all(
            "imports",
            inspection.imports.iter().map(|import| match import.denied {
                Some(reason) => format!("{:44} denied: {reason}", import.name),
                None => import.name.clone(),
            }),
        );
        print_all("exports", inspection.exports.iter().cloned());
        match inspection.verdict {
            Ok(()) => {
                println!("verdict  can be served");
                Ok(ExitCode::SUCCESS)
            }
            Err(error) => {
                println!("verdict  cannot be served");
                Err(error.into())
            }
        }
    }
}

/// The same for programs; sizes are in bytes.
fn report(handler: &str, inspection: &Inspection) -> serde_json::Value {
    let extent = |Extent { initial, maximum }: &Extent| json!({ "initial": initial, "maximum": maximum });
    let anatomy = inspection.anatomy.as_ref().map(|anatomy| {
        json!({
            "memories": anatomy.memories.iter().map(extent).collect::<Vec<_>>(),
            "stacks": anatomy.stacks,
            "tables": anatomy.tables.iter().map(extent).collect::<Vec<_>>(),
            "unused": anatomy.unused,
        })
    });
    let imports = inspection.imports.iter();
    let imports = imports.map(|import| json!({ "name": import.name, "denied": import.denied }));
    json!({
        "handler": handler,
        "size": inspection.size,
        "digest": inspection.digest.to_string(),
        "kind": inspection.kind.map(|kind| kind.to_string()),
        "starts_tls": inspection.starts_tls,
        "anatomy": anatomy,
        "imports": imports.collect::<Vec<_>>(),
        "exports": inspection.exports,
        "can_be_served": inspection.verdict.is_ok(),
        "reason": inspection.verdict.as_ref().err().map(ToString::to_string),
    })
}

fn print_anatomy(anatomy: &Anatomy) {
    print_all("memory", anatomy.memories.iter().map(|memory| extent(memory, bytes)));
    let stacks = anatomy.stacks.iter();
    print_all("stack", stacks.map(|size| size.map_or("unknown".to_owned(), bytes)));
    print_all("table", anatomy.tables.iter().map(|table| extent(table, elements)));
    let unused = anatomy.unused.iter();
    print_all("unused", unused.map(|function| format!("{function}: imported, and never called")));
}

fn extent(extent: &Extent, size: fn(u64) -> String) -> String {
    match (size(extent.initial), extent.maximum) {
        (initial, None) => format!("{initial}, no maximum"),
        (initial, Some(maximum)) if maximum == extent.initial => initial,
        (initial, Some(maximum)) => format!("{initial}, at most {}", size(maximum)),
    }
}

fn elements(count: u64) -> String {
    format!("{count} element{}", if count == 1 { "" } else { "s" })
}

/// In the largest unit of which it is a whole number.
fn bytes(size: u64) -> String {
    let units = ["bytes", "KiB", "MiB", "GiB"];
    let power = if size == 0 { 0 } else { (size.trailing_zeros() / 10).min(3) };
    format!("{} {}", size >> (10 * power), units[power as usize])
}

/// A line each, below one title.
fn print_all(title: &str, items: impl Iterator<Item = String>) {
    for (index, item) in items.enumerate() {
        let item = one_line(&item);
        println!("{:8} {item}", if index == 0 { title } else { "" });
    }
}
