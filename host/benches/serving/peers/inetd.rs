//! A process for each connection, as inetd starts it: the connection is its standard input and output.

use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};

use clap::Args;

use super::native::listen;

/// Start a program for each connection
#[derive(Args, Debug)]
pub struct Inetd {
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

impl Inetd {
    pub fn run(self) -> anyhow::Result<()> {
        let mut children: Vec<Child> = Vec::new();
        for stream in listen()?.incoming() {
            let input = OwnedFd::from(stream?);
            let output = input.try_clone()?;
            let mut command = Command::new(&self.command[0]);
            command.args(&self.command[1..]).stdin(Stdio::from(input)).stdout(Stdio::from(output));
            children.push(command.spawn()?);
            children.retain_mut(|child| matches!(child.try_wait(), Ok(None)));
        }
        Ok(())
    }
}
