//! What is in force: the command line over the environment, over the file, over the defaults.
//!
//! The file's values are put before the command line as if somebody had written them there, unless the command line or
//! the environment has the option, or one that rules it out. So clap sees all that holds together, and its rules are
//! the only ones.

use std::ffi::OsString;
use std::fmt;

use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Args, Command, FromArgMatches};
use plugsock::without_password;
use serde::{Serialize, Serializer};

use super::file::{Entry, Place, Section};
use super::keys::{self, Keys, Kind};
use crate::cli::serve::ServeOptions;

/// Arguments as they were written, of a command that takes what `plugsock serve` takes.
#[derive(Clone, Debug)]
pub struct CommandLine {
    command: Command,
    args: Vec<OsString>,
    /// What they say by themselves, with the environment.
    given: ArgMatches,
}

/// What holds for the process, a server or a handler.
#[derive(Clone, Debug)]
pub struct Layered {
    pub options: ServeOptions,
    pub settings: Vec<Setting>,
}

/// An option, and what is in force of it.
#[derive(Clone, Debug, Serialize)]
pub struct Setting {
    pub table: String,
    pub key: String,
    /// As the command line would have them; none where the option is not set. Only [`shown`](Self::shown) is to be seen.
    #[serde(serialize_with = "serialize_shown")]
    pub values: Vec<String>,
    pub origin: Origin,
    #[serde(skip)]
    pub kind: Kind,
    #[serde(skip)]
    pub is_list: bool,
}

impl Setting {
    /// Its values without passwords.
    pub fn shown(&self) -> Vec<String> {
        shown(&self.values)
    }
}

fn shown(values: &[String]) -> Vec<String> {
    values.iter().map(|value| without_password(value)).collect()
}

fn serialize_shown<S: Serializer>(values: &[String], serializer: S) -> Result<S::Ok, S::Error> {
    shown(values).serialize(serializer)
}

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "from")]
pub enum Origin {
    CommandLine,
    Environment { variable: String },
    File { line: usize, column: usize },
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CommandLine => f.write_str("command line"),
            Self::Environment { variable } => write!(f, "environment, {variable}"),
            Self::File { line, column } => write!(f, "file, {line}:{column}"),
            Self::Default => f.write_str("default"),
        }
    }
}

impl CommandLine {
    /// Arguments without the names of program and command; the command is `A`, called `name`.
    pub fn new<A: Args>(name: &'static str, args: Vec<OsString>) -> Result<Self, clap::Error> {
        let command = A::augment_args(Command::new(name).no_binary_name(true));
        // Something may be wrong with it until the file has been heard.
        let given = command.clone().ignore_errors(true).try_get_matches_from(&args)?;
        Ok(Self { command, args, given })
    }

    /// The options of `scope` over these sections, of which the first goes before the next.
    pub fn over(&self, scope: &Keys, sections: &[&Section]) -> Result<Layered, clap::Error> {
        let entries = self.effective(scope, sections);
        let (mut args, mut last) = (Vec::new(), Vec::new());
        for entry in &entries {
            let is_option = self.find(&entry.id).is_some_and(|arg| arg.get_long().is_some());
            match is_option {
                true => {
                    args.extend(entry.values.iter().map(|value| format!("--{}={value}", entry.key).into()))
                }
                false => last.extend(entry.values.iter().map(OsString::from)),
            }
        }
        args.extend(self.args.iter().cloned());
        if !last.is_empty() {
            args.push("--".into());
            args.append(&mut last);
        }
        let matches = self.command.clone().try_get_matches_from(args)?;
        let settings = scope.iter().map(|arg| self.setting(arg, &matches, &entries)).collect();
        Ok(Layered { options: ServeOptions::from_arg_matches(&matches)?, settings })
    }

    /// What the file has to say.
    fn effective<'a>(&self, scope: &Keys, sections: &[&'a Section]) -> Vec<&'a Entry> {
        let mut effective: Vec<&Entry> = Vec::new();
        for section in sections {
            let is_free = |entry: &&Entry| {
                scope.have(&entry.id)
                    && !self.is_given(&entry.id)
                    && !effective
                        .iter()
                        .any(|other| other.id == entry.id || self.exclude(&other.id, &entry.id))
                    && !self.command.get_arguments().any(|arg| {
                        let id = arg.get_id().as_str();
                        self.is_given(id) && !self.is_off(id) && self.exclude(id, &entry.id)
                    })
            };
            let free: Vec<&Entry> = section.entries.iter().filter(is_free).collect();
            effective.extend(free);
        }
        effective
    }

    fn find(&self, id: &str) -> Option<&Arg> {
        self.command.get_arguments().find(|arg| arg.get_id() == id)
    }

    /// Whether the command line or the environment has an option.
    fn is_given(&self, id: &str) -> bool {
        matches!(self.given.value_source(id), Some(ValueSource::CommandLine | ValueSource::EnvVariable))
    }

    /// Whether it takes a flag back.
    fn is_off(&self, id: &str) -> bool {
        matches!(self.given.try_get_one::<bool>(id), Ok(Some(false)))
    }

    /// Whether one of two options rules the other out.
    fn exclude(&self, one: &str, other: &str) -> bool {
        let rules_out = |id: &str, other: &str| {
            let conflicts =
                self.find(id).map(|arg| self.command.get_arg_conflicts_with(arg)).unwrap_or_default();
            conflicts.iter().any(|arg| arg.get_id() == other)
        };
        rules_out(one, other) || rules_out(other, one)
    }

    fn setting(&self, arg: &Arg, matches: &ArgMatches, entries: &[&Entry]) -> Setting {
        let id = arg.get_id().as_str();
        let raw = matches.get_raw(id).into_iter().flatten();
        let origin = match (self.given.value_source(id), entries.iter().find(|entry| entry.id == id)) {
            (Some(ValueSource::CommandLine), _) => Origin::CommandLine,
            (Some(ValueSource::EnvVariable), _) => {
                let variable = arg.get_env().unwrap_or_default().to_string_lossy().into_owned();
                Origin::Environment { variable }
            }
            (_, Some(Entry { place: Place { line, column }, .. })) => {
                Origin::File { line: *line, column: *column }
            }
            _ => Origin::Default,
        };
        Setting {
            table: keys::table(arg),
            key: keys::name(arg).unwrap_or_default().to_owned(),
            values: raw.map(|value| value.to_string_lossy().into_owned()).collect(),
            origin,
            kind: keys::kind(arg),
            is_list: keys::is_list(arg),
        }
    }
}
