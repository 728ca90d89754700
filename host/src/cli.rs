//! The command line: one file a subcommand.

mod build;
mod call;
mod capacity;
mod check;
mod clients;
mod columns;
mod completions;
mod componentize;
mod config;
mod control;
mod ctl;
mod dev;
mod doctor;
mod executable;
mod fleet;
mod handler_source;
mod helper_process;
mod http;
mod inherited;
mod kept;
mod keys;
mod lease;
mod log;
mod machine;
mod man;
mod new;
mod notices;
mod options;
mod output;
mod plan;
mod privileges;
mod progress;
mod pull;
mod push;
mod registry;
mod reload;
mod running;
mod sdk;
mod self_signed;
mod serve;
mod serving;
mod sign;
mod signals;
mod sources;
mod state;
mod supervisor;
mod swapping;
mod targets;
mod telemetry;
mod tls;
mod tls_client;
mod top;
mod watch;
mod watchdog;
mod whole_file;
mod wit;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::error::ContextValue;
use clap::{Parser, Subcommand};
use plugsock::control::ControlError;
use plugsock::without_password;

use config::file::Problems;

/// Socket servers whose request handlers are sandboxed WebAssembly components.
#[derive(Debug, Parser)]
#[command(version, propagate_version = true, max_term_width = 100, arg_required_else_help = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Serve(Box<serve::Serve>),
    Ctl(ctl::Ctl),
    Top(top::Top),
    Call(Box<call::Call>),
    Check(Box<check::Check>),
    Push(Box<push::Push>),
    Pull(Box<pull::Pull>),
    Config(config::Config),
    Fleet(Box<fleet::Fleet>),
    New(new::New),
    Build(build::Build),
    Dev(dev::Dev),
    Wit(wit::Wit),
    Sdk(sdk::Sdk),
    Componentize(componentize::Componentize),
    Keygen(keys::Keygen),
    Sign(sign::Sign),
    Verify(sign::Verify),
    State(state::State),
    Doctor(doctor::Doctor),
    Completions(completions::Completions),
    Man(man::Man),
    HelperProcess(helper_process::HelperProcess),
}

impl Cli {
    /// Runs the subcommand; its exit code, or the error to print.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let ended = self.command.run();
        plugsock::close_stores();
        ended
    }
}

impl Command {
    fn run(self) -> anyhow::Result<ExitCode> {
        match self {
            Command::Serve(serve) => serve.run(args_after(2)),
            Command::Ctl(ctl) => ctl.run(),
            Command::Top(top) => top.run(),
            Command::Call(call) => call.run(),
            Command::Check(check) => check.run(),
            Command::Push(push) => push.run(),
            Command::Pull(pull) => pull.run(),
            Command::Config(config) => config.run(args_after(3)),
            Command::Fleet(fleet) => fleet.run(),
            Command::New(new) => new.run(),
            Command::Build(build) => build.run(),
            Command::Dev(dev) => dev.run(),
            Command::Wit(wit) => wit.run(),
            Command::Sdk(sdk) => sdk.run(),
            Command::Componentize(componentize) => componentize.run(),
            Command::Keygen(keygen) => keygen.run(),
            Command::Sign(sign) => sign.run(),
            Command::Verify(verify) => verify.run(),
            Command::State(state) => state.run(),
            Command::Doctor(doctor) => doctor.run(),
            Command::Completions(completions) => completions.run(),
            Command::Man(man) => man.run(),
            Command::HelperProcess(helper) => helper.run(),
        }
    }
}

/// This process's arguments after the names of program and command.
fn args_after(names: usize) -> Vec<OsString> {
    std::env::args_os().skip(names).collect()
}

/// Says what is wrong with arguments, without passwords in them, and ends the process.
pub fn exit(mut error: clap::Error) -> ! {
    let said: Vec<_> = error.context().map(|(kind, value)| (kind, value.clone())).collect();
    for (kind, value) in said {
        let value = match value {
            ContextValue::String(text) => ContextValue::String(without_password(&text)),
            ContextValue::Strings(texts) => {
                ContextValue::Strings(texts.iter().map(|text| without_password(text)).collect())
            }
            other => other,
        };
        error.insert(kind, value);
    }
    error.exit()
}

/// What is wrong, a line each.
pub fn error_lines(error: &anyhow::Error) -> Vec<String> {
    match error.downcast_ref::<Problems>() {
        Some(problems) => problems.lines().collect(),
        None => vec![plugsock::one_line(&format!("{error:#}"))],
    }
}

/// What a command ends with that failed.
pub fn exit_code(error: &anyhow::Error) -> ExitCode {
    match error.downcast_ref() {
        Some(ControlError::NoServer(_) | ControlError::SeveralServers(_)) => ExitCode::from(3),
        _ => ExitCode::FAILURE,
    }
}
