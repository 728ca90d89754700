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
        output::print(&text(&name, &inspection))?;
        Ok(inspection.verdict.map(|()| ExitCode::SUCCESS)?)
    }
}

fn text(name: &str, inspection: &Inspection) -> String {
    let mut text = format!("handler  {name}\n");
    text += &format!("size     {} bytes\n", inspection.size);
    text += &format!("digest   {}\n", inspection.digest);
    if let Some(kind) = inspection.kind {
        text += &format!("kind     {kind}\n");
    }
    if inspection.starts_tls {
        text += "tls      it protects connections itself: serve it on tcp:// or unix:// with --tls\n";
    }
    text.extend(inspection.anatomy.iter().map(anatomy_text));
    text += &all(
        "imports",
        inspection.imports.iter().map(|import| match import.denied {
            Some(reason) => format!("{:44} denied: {reason}", import.name),
            None => import.name.clone(),
        }),
    );
    text += &all("exports", inspection.exports.iter().cloned());
    let can = if inspection.verdict.is_ok() { "can" } else { "cannot" };
    text + &format!("verdict  {can} be served\n")
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

fn anatomy_text(anatomy: &Anatomy) -> String {
    let stacks = anatomy.stacks.iter().map(|size| size.map_or("unknown".to_owned(), bytes));
    let unused = anatomy.unused.iter().map(|function| format!("{function}: imported, and never called"));
    [
        all("memory", anatomy.memories.iter().map(|memory| extent(memory, bytes))),
        all("stack", stacks),
        all("table", anatomy.tables.iter().map(|table| extent(table, elements))),
        all("unused", unused),
    ]
    .concat()
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
fn all(title: &str, items: impl Iterator<Item = String>) -> String {
    let line = |(index, item): (usize, String)| {
        let title = if index == 0 { title } else { "" };
        format!("{title:8} {}\n", one_line(&item))
    };
    items.enumerate().map(line).collect()
}
