//! What a process is to serve, and how: by its command line, and by a configuration's file if there is one. Where the
//! command line alone speaks, its options are those of every server and handler.

use std::path::Path;

use anyhow::bail;
use clap::{Args, Command, FromArgMatches};
use plugsock::{BindError, Sandbox, SandboxError, ServeAddress, shown};

use super::config::file::{ConfigFile, Entry, HANDLER, HandlerTable, Problems, SERVER, Section, ServerTable};
use super::config::keys::{Keys, nearest};
use super::config::layers::{CommandLine, Layered, Setting};
use super::handler_source::HandlerSource;
use super::log::LogOptions;
use super::serve::{HandlerArgs, ProcessArgs};
use super::serving::ServerArgs;
use super::targets::{Target, default_address};
use super::tls::Certificates;

#[derive(Clone, Debug)]
pub struct Plan {
    pub process: ProcessArgs,
    pub process_settings: Vec<Setting>,
    /// One at least.
    pub servers: Vec<PlannedServer>,
    /// One at least.
    pub handlers: Vec<PlannedHandler>,
}

/// Addresses that are served in one way. There may be none where sockets are inherited, which are the first server's.
#[derive(Clone, Debug)]
pub struct PlannedServer {
    pub addresses: Vec<ServeAddress>,
    /// Its number among the handlers.
    pub handler: usize,
    pub args: ServerArgs,
    pub settings: Vec<Setting>,
    /// Of its table, if it has one.
    pub place: Option<String>,
}

#[derive(Clone, Debug)]
pub struct PlannedHandler {
    /// Its slot's.
    pub name: String,
    pub source: HandlerSource,
    pub args: HandlerArgs,
    pub settings: Vec<Setting>,
    /// Of its table, if it has one.
    pub place: Option<String>,
}

/// Says of an error which table of a file it is about.
fn blame(place: Option<&str>, error: impl Into<anyhow::Error>) -> anyhow::Error {
    let error = error.into();
    match place {
        Some(place) => error.context(place.to_owned()),
        None => error,
    }
}

impl PlannedServer {
    /// Says of an error which table of a file it is about.
    pub fn blame(&self, error: impl Into<anyhow::Error>) -> anyhow::Error {
        blame(self.place.as_deref(), error)
    }
}

impl PlannedHandler {
    /// Says of an error which table of a file it is about.
    pub fn blame(&self, error: impl Into<anyhow::Error>) -> anyhow::Error {
        let place = self.place.as_ref().map(|place| format!("{place}: {HANDLER} {}", self.name));
        blame(place.as_deref(), error)
    }

    /// Where it is loaded and run: with what it may do, on an engine for all.
    pub fn sandbox(&self, engine: &Sandbox) -> Result<Sandbox, SandboxError> {
        self.args.guest.sandbox(engine, &self.source.to_string())
    }
}

impl Plan {
    /// Reads the file if there is one. `targets` are those of the command line.
    pub fn make(line: &CommandLine, config: Option<&Path>, targets: &[Target]) -> anyhow::Result<Self> {
        let file = config.map(ConfigFile::read).transpose()?;
        let planner = Planner { line, file: file.as_ref() };
        let is_listed =
            file.as_ref().is_some_and(|file| !file.servers.is_empty() || !file.handlers.is_empty());
        let (servers, handlers) = match &file {
            Some(file) if is_listed => planner.listed(file)?,
            _ => planner.targets(targets)?,
        };
        if is_listed
            && targets
                .iter()
                .any(|target| target.handler != HandlerSource::Echo || !target.addresses.is_empty())
        {
            bail!(
                "the configuration says what is served: leave addresses and handlers off the command line, or \
                 [[{SERVER}]] and [{HANDLER}.NAME] out of the file"
            );
        }
        let process = planner.layered(&Keys::of::<ProcessArgs>(), None)?;
        Ok(Self { process: process.options.process, process_settings: process.settings, servers, handlers })
    }

    /// What a server is asked to bind: the default, where no address is named and nobody else has bound one.
    pub fn addresses(&self, server: usize, is_bound_by_others: bool) -> Vec<ServeAddress> {
        let is_none_named = self.servers.iter().all(|server| server.addresses.is_empty());
        match is_none_named && server == 0 && !is_bound_by_others {
            true => vec![default_address()],
            false => self.servers[server].addresses.clone(),
        }
    }

    /// What connections are protected with: servers with the same options for it share it, also with those before.
    pub fn certificates(&self, before: &PlannedCertificates) -> anyhow::Result<PlannedCertificates> {
        let mut planned = PlannedCertificates::default();
        for server in &self.servers {
            let asked = server.tls_settings();
            let known =
                |all: &PlannedCertificates| all.loaded.iter().position(|(settings, _)| *settings == asked);
            let number = match known(&planned) {
                Some(number) => Some(number),
                None => {
                    let certificates = match known(before) {
                        Some(number) => Some(before.loaded[number].1.clone()),
                        None => Certificates::load(&server.args.tls).map_err(|error| server.blame(error))?,
                    };
                    certificates.map(|certificates| {
                        planned.loaded.push((asked, certificates));
                        planned.loaded.len() - 1
                    })
                }
            };
            planned.of_servers.push(number);
        }
        Ok(planned)
    }

    /// Refuses what servers and their handlers cannot all have.
    pub fn check(&self) -> anyhow::Result<()> {
        self.servers.iter().try_for_each(|server| self.check_server(server))
    }

    /// The same of one server.
    pub fn check_server(&self, server: &PlannedServer) -> anyhow::Result<()> {
        let check = || {
            self.handlers[server.handler].args.guest.check_stdin(server.args.is_forking())?;
            server.addresses.iter().try_for_each(|address| self.check_address(server, address))
        };
        check().map_err(|error| server.blame(error))
    }

    fn check_address(&self, server: &PlannedServer, address: &ServeAddress) -> anyhow::Result<()> {
        if address.is_tls() && !server.args.tls.has_certificate() {
            return Err(BindError::NoCertificate(address.to_string()).into());
        }
        let all = self.servers.iter().flat_map(|server| &server.addresses);
        let is_one = address.has_any_port() || all.filter(|other| *other == address).count() == 1;
        if !is_one && !server.args.shares_addresses() {
            bail!("cannot serve {address}: another server uses this address, for it is named twice");
        }
        Ok(())
    }

    /// Starts the engine, with room for all handlers and for the requests that servers can have open; where others may be
    /// added, for all that are allowed.
    pub fn engine(&self, may_grow: bool) -> Result<Sandbox, SandboxError> {
        let ProcessArgs { engine, log, .. } = &self.process;
        // Instances that are kept have places in the pools, too, perhaps those of two versions.
        let is_open = may_grow || self.handlers.iter().any(|handler| handler.args.guest.keeps_instances());
        let most = match is_open {
            true => usize::MAX,
            false => self.servers.iter().map(|server| server.capacity(log)).fold(0, usize::saturating_add),
        };
        let limits = self.handlers.iter().map(|handler| handler.args.guest.limits());
        let limits = limits.reduce(|all, one| all.covering(&one)).unwrap_or_default();
        engine.clone().for_requests(most).sandbox(limits, log)
    }
}

/// The options that ask for certificates, with their values.
type AskedTls = Vec<(String, Vec<String>)>;

/// What servers are protected with.
#[derive(Clone, Default)]
pub struct PlannedCertificates {
    /// Each with the options that ask for it.
    loaded: Vec<(AskedTls, Certificates)>,
    /// Which of them is for which server.
    of_servers: Vec<Option<usize>>,
}

impl PlannedCertificates {
    pub fn loaded(&self) -> impl Iterator<Item = &Certificates> {
        self.loaded.iter().map(|(_, certificates)| certificates)
    }

    /// Those of a server, by its number.
    pub fn of(&self, server: usize) -> Option<&Certificates> {
        self.of_servers[server].map(|number| &self.loaded[number].1)
    }
}

/// The keys whose values differ, as `TABLE.KEY`: of the tables of the process by their names.
pub fn differences<'a>(before: &'a [Setting], after: &'a [Setting]) -> Vec<&'a Setting> {
    let differs = |(one, other): &(&Setting, &'a Setting)| one.values != other.values;
    // Both list the same options in the same order.
    before.iter().zip(after).filter(differs).map(|(_, after)| after).collect()
}

impl PlannedServer {
    fn tls_settings(&self) -> AskedTls {
        let tls = self.settings.iter().filter(|setting| setting.table == "tls");
        tls.map(|setting| (setting.key.clone(), setting.values.clone())).collect()
    }

    /// How many requests its addresses can have open.
    fn capacity(&self, log: &LogOptions) -> usize {
        // It may yet inherit one.
        let addresses = self.addresses.len().max(1);
        self.args.concurrency(log).capacity().saturating_mul(addresses)
    }
}

struct Planner<'a> {
    line: &'a CommandLine,
    file: Option<&'a ConfigFile>,
}

impl Planner<'_> {
    /// What the command line says, or the file's tables of the process.
    fn targets(&self, targets: &[Target]) -> anyhow::Result<(Vec<PlannedServer>, Vec<PlannedHandler>)> {
        let (mut servers, mut handlers): (Vec<PlannedServer>, Vec<PlannedHandler>) = Default::default();
        for Target { addresses, handler: source } in targets {
            let stem = source.stem();
            let namesakes = handlers.iter().filter(|other| other.source.stem() == stem);
            let name = match namesakes.count() {
                0 => stem,
                others => format!("{stem}-{}", others + 1),
            };
            servers.push(self.server(addresses.clone(), handlers.len(), None)?);
            handlers.push(self.handler(name, source.clone(), None)?);
        }
        Ok((servers, handlers))
    }

    /// What the file says in tables of its own.
    fn listed(&self, file: &ConfigFile) -> anyhow::Result<(Vec<PlannedServer>, Vec<PlannedHandler>)> {
        let mut handlers = Vec::new();
        for section in &file.handlers {
            let HandlerTable { file } = own(section)?;
            let source = file.unwrap_or(HandlerSource::Echo);
            handlers.push(self.handler(section.title.clone(), source, Some(section))?);
        }
        if handlers.is_empty() {
            handlers.push(self.handler(HandlerSource::Echo.stem(), HandlerSource::Echo, None)?);
        }
        let mut servers = Vec::new();
        for section in &file.servers {
            let ServerTable { address, handler } = own(section)?;
            if address.is_empty() && !servers.is_empty() {
                let message = format!(
                    "this [[{SERVER}]] has no address: write address = \"tcp://HOST:PORT\" or the like"
                );
                return Err(Problems::one(&file.path, section.place, message).into());
            }
            let handler = handler_of(file, section, handler.as_deref(), &handlers)?;
            servers.push(self.server(address, handler, Some(section))?);
        }
        if servers.is_empty() {
            servers.push(self.server(Vec::new(), 0, None)?);
        }
        Ok((servers, handlers))
    }

    fn server(
        &self,
        addresses: Vec<ServeAddress>,
        handler: usize,
        section: Option<&Section>,
    ) -> anyhow::Result<PlannedServer> {
        let Layered { options, settings } = self.layered(&Keys::of::<ServerArgs>(), section)?;
        Ok(PlannedServer { addresses, handler, args: options.server, settings, place: self.place(section) })
    }

    fn handler(
        &self,
        name: String,
        source: HandlerSource,
        section: Option<&Section>,
    ) -> anyhow::Result<PlannedHandler> {
        let Layered { options, settings } = self.layered(&Keys::of::<HandlerArgs>(), section)?;
        Ok(PlannedHandler { name, source, args: options.handler, settings, place: self.place(section) })
    }

    /// Where a table is, in words.
    fn place(&self, section: Option<&Section>) -> Option<String> {
        self.file.zip(section).map(|(file, section)| format!("{}:{}", shown(&file.path), section.place))
    }

    /// What is in force for a server, a handler or the process.
    fn layered(&self, scope: &Keys, section: Option<&Section>) -> anyhow::Result<Layered> {
        let sections: Vec<&Section> =
            section.into_iter().chain(self.file.map(|file| &file.process)).collect();
        self.line.over(scope, &sections).map_err(|error| match self.file {
            Some(file) => unfit(file, &sections, &error).into(),
            None => error.into(),
        })
    }
}

/// The number of the handler that a server names, or of the only one.
fn handler_of(
    file: &ConfigFile,
    section: &Section,
    name: Option<&str>,
    handlers: &[PlannedHandler],
) -> anyhow::Result<usize> {
    let names: Vec<&str> = handlers.iter().map(|handler| handler.name.as_str()).collect();
    let place = |key: &str| place(section, key);
    match name {
        None if handlers.len() == 1 => Ok(0),
        None => {
            let message =
                format!("this [[{SERVER}]] has no handler: write handler = with one of {}", names.join(", "));
            Err(Problems::one(&file.path, section.place, message).into())
        }
        Some(name) => names.iter().position(|other| *other == name).ok_or_else(|| {
            let hint = match nearest(name, names.iter().copied()) {
                Some(near) => format!("did you mean '{near}'?"),
                None => format!("there are {}", names.join(", ")),
            };
            let message = format!("there is no [{HANDLER}.{name}]: {hint}");
            Problems::one(&file.path, place("handler"), message).into()
        }),
    }
}

fn place(section: &Section, key: &str) -> super::config::file::Place {
    section.entries.iter().find(|entry| entry.key == key).map_or(section.place, |entry| entry.place)
}

/// What a table says beside options; each value has been checked.
fn own<T: Args + FromArgMatches>(section: &Section) -> anyhow::Result<T> {
    let keys = Keys::of::<T>();
    let option = |entry: &Entry| {
        let key = entry.key.clone();
        entry.values.clone().into_iter().map(move |value| format!("--{key}={value}"))
    };
    let options = section.entries.iter().filter(|entry| keys.have(&entry.id)).flat_map(option);
    let command = T::augment_args(Command::new("plugsock").no_binary_name(true));
    Ok(T::from_arg_matches(&command.try_get_matches_from(options)?)?)
}

/// Why options do not go together, with the place of the one that is named, or else of the table.
fn unfit(file: &ConfigFile, sections: &[&Section], error: &clap::Error) -> Problems {
    let text = error.to_string();
    let lines = text.lines().map(str::trim).take_while(|line| !line.is_empty());
    let message = lines.collect::<Vec<_>>().join(" ");
    let message = message.strip_prefix("error: ").unwrap_or(&message).to_owned();
    let mut entries = sections.iter().flat_map(|section| &section.entries);
    let named = entries.find(|entry| {
        let mut words = message.split(|character: char| !(character.is_alphanumeric() || character == '-'));
        words.any(|word| word.strip_prefix("--") == Some(&entry.key))
    });
    let place = named.map(|entry| entry.place).or(sections.first().map(|section| section.place));
    Problems::one(&file.path, place.unwrap_or_default(), message)
}
