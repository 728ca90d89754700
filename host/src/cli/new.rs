//! `plugsock new`: a project from a template.

use std::path::Path;
use std::process::ExitCode;

use clap::Args;
use plugsock_project::{Kind, Language};

use super::output;

/// Start a project for a handler, in a folder of its name
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  plugsock new hello
  plugsock new hello --lang python
  plugsock new hello --lang go --kind command
  plugsock new hello --kind http")]
pub struct New {
    /// The project's name
    name: String,

    /// rust, c, zig, assemblyscript, go, python, js or ts
    #[arg(long, value_name = "LANGUAGE", default_value = "rust")]
    lang: Language,

    /// stream, datagram, command: an ordinary program, or http: it answers HTTP (rust, go, python, js, ts)
    #[arg(long, value_name = "KIND", default_value = "stream")]
    kind: Kind,
}

impl New {
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let Self { name, lang, kind } = self;
        plugsock_project::new(&name, lang, kind, Path::new("."))?;
        let scheme = if kind == Kind::Datagram { "udp" } else { "tcp" };
        let install = match lang {
            Language::AssemblyScript | Language::JavaScript | Language::TypeScript => "  npm install\n",
            _ => "",
        };
        output::print(&format!(
            "{name} is ready. Next:\n  cd {name}\n{install}  plugsock build\n  \
             plugsock serve {scheme}://127.0.0.1:10001 build/handler.wasm\n"
        ))?;
        Ok(ExitCode::SUCCESS)
    }
}
