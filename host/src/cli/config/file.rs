//! A configuration's file, read and checked key by key: what is wrong is said with its place.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use clap::error::{ContextKind, ErrorKind};
use clap::{Arg, Args, Command};
use plugsock::{one_line, shown, without_password};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::keys::{self, Keys, Kind, nearest};
use super::paths;
use crate::cli::handler_source::HandlerSource;
use crate::cli::serve::{HandlerArgs, ServeOptions};
use crate::cli::serving::ServerArgs;

/// A file that is larger is no configuration.
const SIZE_MAX: u64 = 16 << 20;

/// What a file says.
#[derive(Clone, Debug)]
pub struct ConfigFile {
    pub path: PathBuf,
    /// The tables of the process: what holds unless a server or a handler says otherwise.
    pub process: Section,
    pub servers: Vec<Section>,
    /// Each called by its name.
    pub handlers: Vec<Section>,
}

/// The keys of one table, or of all tables of the process.
#[derive(Clone, Debug)]
pub struct Section {
    /// As it is written in the file.
    pub title: String,
    pub place: Place,
    pub entries: Vec<Entry>,
}

/// One key, with the values that its option would be given on the command line.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The option's.
    pub id: String,
    pub key: String,
    pub values: Vec<String>,
    pub place: Place,
}

/// A line and a column, from 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    pub line: usize,
    pub column: usize,
}

/// All that is wrong with a file, in its order; never none.
#[derive(Debug)]
pub struct Problems {
    file: PathBuf,
    found: Vec<Problem>,
}

#[derive(Debug)]
pub struct Problem {
    pub place: Place,
    pub message: String,
}

impl Problems {
    pub fn one(file: &Path, place: Place, message: impl Into<String>) -> Self {
        Self { file: file.to_owned(), found: vec![Problem { place, message: message.into() }] }
    }

    /// One line each.
    pub fn lines(&self) -> impl Iterator<Item = String> {
        let file = shown(&self.file);
        self.found.iter().map(move |Problem { place, message }| {
            let message = one_line(message);
            match place.line {
                // The file as a whole.
                0 => format!("{file}: {message}"),
                _ => format!("{file}:{place}: {message}"),
            }
        })
    }
}

impl std::error::Error for Problems {}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<String> = self.lines().collect();
        f.write_str(&lines.join("\n"))
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// What a `[[server]]` says beside options.
#[derive(Args, Clone, Debug)]
pub struct ServerTable {
    /// What is served: tcp://HOST:PORT and its like, one or several
    #[arg(long, value_name = "ADDRESS")]
    pub address: Vec<plugsock::ServeAddress>,

    /// The name of its `[handler.NAME]`; need not be given where there is one handler, or none for the built-in echo
    #[arg(long, value_name = "NAME")]
    pub handler: Option<String>,
}

/// What a `[handler.NAME]` says beside options.
#[derive(Args, Clone, Debug)]
pub struct HandlerTable {
    /// The component: a file or oci://REGISTRY/NAME:TAG; without it, it is the built-in echo
    #[arg(long, value_name = "FILE|oci://…", value_parser = HandlerSource::parser())]
    pub file: Option<HandlerSource>,
}

/// The tables that a file may have, and the keys of each.
pub struct Tables {
    pub process: Vec<(String, Keys)>,
    pub server: Keys,
    pub handler: Keys,
}

/// The tables' own names.
pub const SERVER: &str = "server";
pub const HANDLER: &str = "handler";

impl Tables {
    pub fn all() -> Self {
        let with = |own: Keys, keys: Keys| own.iter().chain(keys.iter()).cloned().collect();
        Self {
            process: Keys::of::<ServeOptions>().by_table(),
            server: with(Keys::of::<ServerTable>(), Keys::of::<ServerArgs>()),
            handler: with(Keys::of::<HandlerTable>(), Keys::of::<HandlerArgs>()),
        }
    }

    fn process_table(&self, name: &str) -> Option<&Keys> {
        self.process.iter().find(|(table, _)| table == name).map(|(_, keys)| keys)
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        self.process.iter().map(|(name, _)| name.as_str()).chain([SERVER, HANDLER])
    }

    /// Where a key may stand, in words; `None` if nowhere.
    fn homes(&self, key: &str) -> Option<String> {
        let mut homes: Vec<String> = Vec::new();
        homes.extend(
            self.process
                .iter()
                .filter(|(_, keys)| keys.find(key).is_some())
                .map(|(name, _)| format!("[{name}]")),
        );
        homes.extend(self.server.find(key).map(|_| format!("[[{SERVER}]]")));
        homes.extend(self.handler.find(key).map(|_| format!("[{HANDLER}.NAME]")));
        (!homes.is_empty()).then(|| homes.join(" or "))
    }
}

impl ConfigFile {
    pub fn read(path: &Path) -> Result<Self, Problems> {
        let whole = |message: String| Problems::one(path, Place::default(), message);
        let unreadable = |error: std::io::Error| whole(format!("the configuration cannot be read: {error}"));
        let metadata = std::fs::metadata(path).map_err(unreadable)?;
        if metadata.is_file() && metadata.len() > SIZE_MAX {
            return Err(whole(format!("it is larger than {SIZE_MAX} bytes, as no configuration is")));
        }
        let text = std::fs::read_to_string(path).map_err(unreadable)?;
        let base = paths::base(path).map_err(unreadable)?;
        Self::parse(path, &text, &base)
    }

    fn parse(path: &Path, text: &str, base: &Path) -> Result<Self, Problems> {
        let mut reader = Reader { text, base, tables: Tables::all(), check: checker(), found: Vec::new() };
        let place = Place { line: 1, column: 1 };
        let process = Section { title: "the file".to_owned(), place, entries: Vec::new() };
        let mut file = Self { path: path.to_owned(), process, servers: Vec::new(), handlers: Vec::new() };
        match DeTable::parse(text) {
            Ok(table) => reader.read(table.get_ref(), &mut file),
            Err(error) => {
                let place =
                    error.span().map_or(Place { line: 1, column: 1 }, |span| place_of(text, span.start));
                reader.found.push(Problem { place, message: format!("not TOML: {}", error.message()) });
            }
        }
        let mut found = reader.found;
        if found.is_empty() {
            file.handlers.sort_by_key(|handler| handler.place);
            return Ok(file);
        }
        found.sort_by_key(|problem| problem.place);
        Err(Problems { file: path.to_owned(), found })
    }
}

/// Everything that may be given a value, to have it checked by its own rules.
fn checker() -> Command {
    let command = Command::new("plugsock").no_binary_name(true).disable_help_flag(true);
    HandlerTable::augment_args(ServerTable::augment_args(ServeOptions::augment_args(command)))
}

struct Reader<'a> {
    text: &'a str,
    base: &'a Path,
    tables: Tables,
    check: Command,
    found: Vec<Problem>,
}

impl Reader<'_> {
    fn read(&mut self, table: &DeTable<'_>, file: &mut ConfigFile) {
        for (name, value) in table.iter() {
            let name_span = name.span();
            match (name.get_ref().as_ref(), value.get_ref()) {
                (SERVER, DeValue::Array(servers)) => {
                    for server in servers.iter() {
                        let title = format!("[[{SERVER}]]");
                        match server.get_ref() {
                            DeValue::Table(table) => {
                                let keys = self.tables.server.clone();
                                file.servers.push(self.section(title, server.span(), table, &keys));
                            }
                            _ => self.say(server.span(), format!("write a table: {title}")),
                        }
                    }
                }
                (SERVER, _) => self.say(name_span, format!("write [[{SERVER}]], since there may be several")),
                (HANDLER, DeValue::Table(handlers)) => {
                    for (name, handler) in handlers.iter() {
                        self.handler(name, handler, file);
                    }
                }
                (HANDLER, _) => self.say(name_span, format!("write [{HANDLER}.NAME], with a name for each")),
                (name, DeValue::Table(table)) => match self.tables.process_table(name).cloned() {
                    Some(keys) => {
                        let title = format!("[{name}]");
                        let section = self.section(title, name_span, table, &keys);
                        file.process.entries.extend(section.entries);
                    }
                    None => self.unknown_table(name_span, name),
                },
                (name, _) => match self.tables.homes(name) {
                    Some(homes) => self.say(
                        name_span,
                        format!("'{name}' stands outside of all tables: write it in {homes}"),
                    ),
                    None => self.unknown_table(name_span, name),
                },
            }
        }
    }

    fn unknown_table(&mut self, span: Range<usize>, name: &str) {
        let tables: Vec<&str> = self.tables.names().collect();
        let hint = match nearest(name, tables.iter().copied()) {
            Some(near) => format!("did you mean '{near}'?"),
            None => format!("there are {}", tables.join(", ")),
        };
        self.say(span, format!("unknown table '{name}': {hint}"));
    }

    fn handler(
        &mut self,
        name: &Spanned<std::borrow::Cow<'_, str>>,
        handler: &Spanned<DeValue<'_>>,
        file: &mut ConfigFile,
    ) {
        let word = name.get_ref();
        let is_plain = |character: char| character.is_ascii_alphanumeric() || "-_.".contains(character);
        if word.is_empty() || word.len() > NAME_MAX || !word.chars().all(is_plain) {
            let allowed = format!("use 1 to {NAME_MAX} letters, digits, '-', '_' and '.'");
            return self.say(name.span(), format!("'{word}' is no name for a handler: {allowed}"));
        }
        let DeValue::Table(table) = handler.get_ref() else {
            return self.say(name.span(), format!("'{word}' is no table: write [{HANDLER}.{word}]"));
        };
        let keys = self.tables.handler.clone();
        let title = word.clone().into_owned();
        let section = self.section(title, name.span(), table, &keys);
        file.handlers.push(section);
    }

    fn section(&mut self, title: String, span: Range<usize>, table: &DeTable<'_>, keys: &Keys) -> Section {
        let mut entries = Vec::new();
        for (key, value) in table.iter() {
            let name = key.get_ref().as_ref();
            let Some(arg) = keys.find(name) else {
                self.unknown_key(key.span(), name, &title, keys);
                continue;
            };
            let values = match self.values(arg, value.get_ref()) {
                Ok(values) => values,
                Err(message) => {
                    self.say(value.span(), format!("'{name}' {message}"));
                    continue;
                }
            };
            let place = place_of(self.text, key.span().start);
            let entry = Entry { id: arg.get_id().to_string(), key: name.to_owned(), values, place };
            match entry.values.iter().find_map(|text| self.refused(arg, text)) {
                Some(message) => self.say(value.span(), message),
                None => entries.push(entry),
            }
        }
        Section { title, place: place_of(self.text, span.start), entries }
    }

    fn unknown_key(&mut self, span: Range<usize>, key: &str, title: &str, keys: &Keys) {
        let hint = match (self.tables.homes(key), nearest(key, keys.names())) {
            (Some(homes), _) => format!("it stands in {homes}"),
            (None, Some(near)) => format!("did you mean '{near}'?"),
            (None, None) => {
                let all: Vec<&str> = self.tables.process.iter().flat_map(|(_, keys)| keys.names()).collect();
                match nearest(key, all) {
                    Some(near) => {
                        format!("did you mean '{near}' in {}?", self.tables.homes(near).unwrap_or_default())
                    }
                    None => "`plugsock config schema` has all keys".to_owned(),
                }
            }
        };
        let table = if title.starts_with('[') { title.to_owned() } else { format!("[{HANDLER}.{title}]") };
        self.say(span, format!("unknown key '{key}' in {table}: {hint}"));
    }

    /// What the option would be given on the command line.
    fn values(&self, arg: &Arg, value: &DeValue<'_>) -> Result<Vec<String>, String> {
        let form = keys::value_name(arg);
        let resolve = |text: String| paths::resolve(form, &text, self.base);
        match value {
            DeValue::Array(items) if keys::is_list(arg) => {
                items.iter().map(|item| scalar(arg, item.get_ref()).map(resolve)).collect()
            }
            DeValue::Table(pairs) if keys::is_map(arg) => pairs
                .iter()
                .map(|(name, value)| {
                    Ok(resolve(format!("{}={}", name.get_ref(), scalar(arg, value.get_ref())?)))
                })
                .collect(),
            DeValue::Array(_) => Err("takes one value and no array".to_owned()),
            other => Ok(vec![resolve(scalar(arg, other)?)]),
        }
    }

    /// Why the option's own rules refuse a value, if they do.
    fn refused(&self, arg: &Arg, text: &str) -> Option<String> {
        let key = keys::name(arg).unwrap_or_default();
        // Only what stands after `--` has no long name, and takes anything.
        let option = format!("--{}={text}", arg.get_long()?);
        let error = self.check.clone().try_get_matches_from([option]).err()?;
        let reason = match error.kind() {
            ErrorKind::ValueValidation => std::error::Error::source(&error).map(ToString::to_string),
            ErrorKind::InvalidValue => {
                let valid = error.get(ContextKind::ValidValue).map(|valid| valid.to_string());
                let valid = valid.filter(|valid| !valid.is_empty());
                Some(valid.map_or("it needs a value".to_owned(), |valid| format!("use {valid}")))
            }
            // What else an option needs is looked at when all are together.
            _ => return None,
        };
        let reason = reason.unwrap_or_else(|| error.kind().to_string());
        Some(format!("invalid value '{}' for '{key}': {reason}", without_password(text)))
    }

    fn say(&mut self, span: Range<usize>, message: String) {
        self.found.push(Problem { place: place_of(self.text, span.start), message });
    }
}

/// The longest name of a handler.
const NAME_MAX: usize = 64;

/// A value as the command line has it.
fn scalar(arg: &Arg, value: &DeValue<'_>) -> Result<String, String> {
    match (keys::kind(arg), value) {
        (Kind::Flag, DeValue::Boolean(value)) => Ok(value.to_string()),
        (Kind::Flag, _) => Err("takes true or false".to_owned()),
        (Kind::Integer, DeValue::Integer(number)) => {
            let number = i128::from_str_radix(number.as_str(), number.radix());
            number.map(|number| number.to_string()).map_err(|error| format!("takes a number: {error}"))
        }
        (Kind::Integer, _) => Err("takes a number without quotes".to_owned()),
        (Kind::Text, DeValue::String(text)) if text.contains('\0') => {
            Err("may not have a NUL in it".to_owned())
        }
        (Kind::Text, DeValue::String(text)) => Ok(text.clone().into_owned()),
        (Kind::Text, DeValue::Integer(number)) => {
            Err(format!("takes text: write it in quotes, as in \"{}\"", number.as_str()))
        }
        (Kind::Text, other) => Err(format!("takes text in quotes and no {}", other.type_str())),
    }
}

/// Columns are characters, as editors count them.
fn place_of(text: &str, offset: usize) -> Place {
    let before = &text[..text.floor_char_boundary(offset)];
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    Place { line: before.matches('\n').count() + 1, column: before[line_start..].chars().count() + 1 }
}
