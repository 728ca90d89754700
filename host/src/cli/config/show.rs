//! `plugsock config show`: what is in force, and where each value comes from.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde::Serialize;

use super::file::{HANDLER, SERVER};
use super::keys::Kind;
use super::layers::{CommandLine, Origin, Setting};
use crate::cli::handler_source::HandlerSource;
use crate::cli::output;
use crate::cli::plan::{Plan, PlannedHandler, PlannedServer};
use crate::cli::serve::ServeOptions;
use crate::cli::targets::sort_targets;

/// Show what is in force, and where each value comes from
///
/// It is printed as a configuration's file that says the same, with defaults as comments. Options are those of `plugsock serve`, and count as if they
/// were given to it.
#[derive(Args, Debug)]
pub struct Show {
    /// The configuration's file; without it, what holds by the defaults
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// As JSON
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    options: ServeOptions,
}

/// All of it, for programs.
#[derive(Serialize)]
struct Shown<'a> {
    process: &'a [Setting],
    servers: Vec<ShownServer<'a>>,
    handlers: Vec<ShownHandler<'a>>,
}

#[derive(Serialize)]
struct ShownServer<'a> {
    addresses: Vec<String>,
    handler: &'a str,
    settings: &'a [Setting],
}

#[derive(Serialize)]
struct ShownHandler<'a> {
    name: &'a str,
    file: Option<String>,
    settings: &'a [Setting],
}

impl Show {
    pub fn run(self, args: Vec<OsString>) -> anyhow::Result<ExitCode> {
        let line = CommandLine::new::<Self>("plugsock config show", args)?;
        let plan = Plan::make(&line, self.config.as_deref(), &sort_targets(&[], None)?)?;
        match self.json {
            true => output::print_json(&Shown::of(&plan))?,
            false => output::print(&text(&plan))?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl<'a> Shown<'a> {
    fn of(plan: &'a Plan) -> Self {
        let server = |(number, server): (usize, &'a PlannedServer)| ShownServer {
            addresses: plan.addresses(number, false).iter().map(ToString::to_string).collect(),
            handler: &plan.handlers[server.handler].name,
            settings: &server.settings,
        };
        let handler = |handler: &'a PlannedHandler| ShownHandler {
            name: &handler.name,
            file: file_of(handler),
            settings: &handler.settings,
        };
        Self {
            process: &plan.process_settings,
            servers: plan.servers.iter().enumerate().map(server).collect(),
            handlers: plan.handlers.iter().map(handler).collect(),
        }
    }
}

/// What its table says of where it is loaded from; nothing of the built-in echo.
fn file_of(handler: &PlannedHandler) -> Option<String> {
    (handler.source != HandlerSource::Echo).then(|| handler.source.to_string())
}

fn text(plan: &Plan) -> String {
    let mut text = String::new();
    let mut table = "";
    // Options of one table stand in several places of the command line.
    let mut process: Vec<&Setting> = plan.process_settings.iter().collect();
    process
        .sort_by_key(|setting| plan.process_settings.iter().position(|other| other.table == setting.table));
    for setting in process {
        if setting.table != table {
            table = &setting.table;
            text += &format!("{}[{table}]\n", if text.is_empty() { "" } else { "\n" });
        }
        text += &line(setting);
    }
    for (number, server) in plan.servers.iter().enumerate() {
        let PlannedServer { addresses, handler, settings, .. } = server;
        let in_force = plan.addresses(number, false);
        let shown: Vec<String> = in_force.iter().map(|address| quoted(&address.to_string())).collect();
        let address = format!("address = [{}]", shown.join(", "));
        text += &format!("\n[[{SERVER}]]\n");
        text += &match *addresses == in_force {
            true => address + "\n",
            false => as_default(&address, &Origin::Default),
        };
        text += &format!("handler = {}\n", quoted(&plan.handlers[*handler].name));
        text.extend(settings.iter().map(line));
    }
    for handler in &plan.handlers {
        let PlannedHandler { name, settings, .. } = handler;
        text += &format!("\n[{HANDLER}.{}]\n", quoted(name));
        text.extend(file_of(handler).map(|file| format!("file = {}\n", quoted(&file))));
        text.extend(settings.iter().map(line));
    }
    text
}

/// Where comments begin.
const COLUMN: usize = 40;

fn line(setting: &Setting) -> String {
    let Setting { key, origin, kind, is_list, .. } = setting;
    let mut values = setting.shown();
    if *kind == Kind::Text {
        values.iter_mut().for_each(|value| *value = quoted(value));
    }
    let said = match (&values[..], is_list) {
        (_, true) => format!("{key} = [{}]", values.join(", ")),
        ([value], false) => format!("{key} = {value}"),
        _ => return format!("# {key} is not set\n"),
    };
    match origin {
        // Some hold only together with another, and so cannot stand in a file alone.
        Origin::Default => as_default(&said, origin),
        _ => format!("{said:COLUMN$} # {origin}\n"),
    }
}

/// As a comment, which changes nothing.
fn as_default(said: &str, origin: &Origin) -> String {
    format!("{:COLUMN$} # {origin}\n", format!("# {said}"))
}

/// A TOML string.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for character in text.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            control if control.is_control() => quoted += &format!("\\u{:04X}", u32::from(control)),
            other => quoted.push(other),
        }
    }
    quoted + "\""
}
