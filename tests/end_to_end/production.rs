//! The README's section on production: each of its commands, in its order, and what it shows of what they print.

use std::fs;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use crate::harness::{Ended, Machine, is_installed, plugsock, run, with_toolchains};
use crate::packaging::make_package;

const README: &str = include_str!("../../README.md");

/// Where the section has what one machine brings to the other.
const BROUGHT: &str = "/tmp/plugsock";

#[derive(Clone, Copy, Debug, PartialEq)]
enum Place {
    /// `$`: where handlers and packages are made.
    Checkout,
    /// `#`: root on the server.
    Server,
}

#[derive(Debug)]
struct Step {
    place: Place,
    command: String,
    /// Lines among those that it prints, in this order; `…` is anything.
    shown: Vec<String>,
}

/// The commands of a section's `console` blocks.
fn steps(section: &str) -> Vec<Step> {
    let (_, text) = README.split_once(&format!("\n## {section}\n")).unwrap();
    let text = text.split("\n## ").next().unwrap();
    let mut steps: Vec<Step> = Vec::new();
    for block in text.split("```console\n").skip(1) {
        let mut lines = block.split("\n```").next().unwrap().lines();
        while let Some(line) = lines.next() {
            let place = match line.get(..2) {
                Some("$ ") => Place::Checkout,
                Some("# ") => Place::Server,
                _ => {
                    steps.last_mut().unwrap().shown.push(line.to_owned());
                    continue;
                }
            };
            let mut command = line[2..].to_owned();
            if command.ends_with("<<'END'") {
                for line in lines.by_ref().take_while(|line| *line != "END") {
                    command = format!("{command}\n{line}");
                }
                command.push_str("\nEND");
            }
            steps.push(Step { place, command, shown: Vec::new() });
        }
    }
    steps
}

/// Whether `line` is `pattern`, in which `…` is anything and a gap of any width is one.
fn is_shown(pattern: &str, line: &str) -> bool {
    let line: Vec<&str> = line.split_whitespace().collect();
    let line = line.join(" ");
    let pattern: Vec<&str> = pattern.split_whitespace().collect();
    let pattern = pattern.join(" ");
    let mut parts = pattern.split('…');
    let Some(mut rest) = line.strip_prefix(parts.next().unwrap()) else { return false };
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.is_empty() || pattern.ends_with('…')
}

/// Both places, each with the directory that the last command there has gone to.
struct Places {
    machine: Machine,
    brought: TempDir,
    here: String,
    there: String,
}

impl Places {
    fn run(&mut self, step: &Step) -> Ended {
        match step.place {
            Place::Checkout => self.run_here(&step.command),
            Place::Server => self.run_there(&step.command),
        }
    }

    fn run_here(&mut self, command: &str) -> Ended {
        let brought = self.brought.path().to_str().unwrap();
        if command.starts_with("host/packaging/deb ") {
            // What it would build is what is tested.
            make_package(self.brought.path()).unwrap();
            return run(&mut Command::new("true"));
        }
        let script = format!("cd '{}'\n{}\npwd >&3", self.here, command.replace(BROUGHT, brought));
        let file = self.brought.path().join("directory");
        let mut shell = Command::new("bash");
        shell.args(["-euc", &format!("exec 3>'{}'\n{script}", file.display())]);
        let programs = Path::new(plugsock().get_program()).parent().unwrap().to_owned();
        with_toolchains(&mut shell);
        let path = shell.get_envs().find_map(|(name, value)| (name == "PATH").then_some(value?.to_owned()));
        let path = format!("{}:{}", programs.display(), path.unwrap().to_str().unwrap());
        let ended = run(shell.env("PATH", path));
        if ended.code == Some(0) {
            self.here = fs::read_to_string(&file).unwrap().trim().to_owned();
        }
        ended
    }

    fn run_there(&mut self, command: &str) -> Ended {
        // Whoever follows it brings the directory along.
        for entry in ["release.pub", "hello/build/handler.wasm", "hello/build/handler.wasm.minisig"] {
            self.bring(entry);
        }
        for entry in fs::read_dir(self.brought.path()).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            if name.ends_with(".deb") {
                self.bring(&name);
            }
        }
        let ended = self.machine.run(&format!("cd '{}'\n{command}\npwd > /tmp/directory", self.there));
        if ended.code == Some(0) {
            self.there = self.machine.succeeds("cat /tmp/directory").trim().to_owned();
        }
        ended
    }

    fn bring(&self, name: &str) {
        let (from, to) = (self.brought.path().join(name), format!("{BROUGHT}/{name}"));
        if from.exists() {
            self.machine.succeeds(&format!("mkdir -p $(dirname {to})"));
            self.machine.put(from, &to);
        }
    }
}

#[test]
fn every_command_of_the_readme_s_section_works() {
    let programs = ["nc", "curl", "bash", "sed", "dpkg"];
    if !programs.into_iter().all(is_installed) {
        return;
    }
    let brought = TempDir::new().unwrap();
    if make_package(&brought.path().join("try")).is_none() {
        return;
    }
    let Some(machine) = Machine::start() else { return };
    let here = concat!(env!("CARGO_MANIFEST_DIR"), "/..").to_owned();
    let mut places = Places { machine, brought, here, there: "/".to_owned() };
    let steps = steps("In production");
    assert!(steps.len() > 20, "{steps:?}");
    for step in steps {
        let ended = places.run(&step);
        let journal = || places.machine.run("journalctl --no-pager --lines 40").stdout;
        assert_eq!(ended.code, Some(0), "{}: {ended:?}\n{}", step.command, journal());
        let mut printed = ended.stdout.lines();
        for pattern in &step.shown {
            assert!(
                printed.any(|line| is_shown(pattern, line)),
                "{}: no '{pattern}' in {ended:?}\n{}",
                step.command,
                journal()
            );
        }
    }
    let metrics = "curl -s http://127.0.0.1:9464/metrics | promtool check metrics";
    if is_installed("promtool") {
        places.machine.succeeds(metrics);
    }
}
