//! Keys of the configuration: each is an option of `plugsock serve`, by its long name, so that the two never differ.

use std::any::TypeId;

use clap::builder::ValueParser;
use clap::{Arg, ArgAction, Args, Command};

/// What the values of a key look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Flag,
    Integer,
    Text,
}

/// The keys of a table.
#[derive(Clone, Debug, Default)]
pub struct Keys(Vec<Arg>);

impl Keys {
    /// All options of a part of the command line.
    pub fn of<A: Args>() -> Self {
        let command = A::augment_args(Command::new("plugsock"));
        Self(command.get_arguments().filter(|arg| name(arg).is_some()).cloned().collect())
    }

    pub fn iter(&self) -> impl Iterator<Item = &Arg> {
        self.0.iter()
    }

    pub fn find(&self, key: &str) -> Option<&Arg> {
        self.iter().find(|arg| name(arg) == Some(key))
    }

    /// Whether an option, by its id, is one of them.
    pub fn have(&self, id: &str) -> bool {
        self.iter().any(|arg| arg.get_id() == id)
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.iter().filter_map(name)
    }

    /// Those that stand in a table of the process, and the tables' names in the order of the help.
    pub fn by_table(&self) -> Vec<(String, Self)> {
        let mut tables: Vec<(String, Self)> = Vec::new();
        for arg in self.iter() {
            let name = table(arg);
            match tables.iter_mut().find(|(other, _)| *other == name) {
                Some((_, keys)) => keys.0.push(arg.clone()),
                None => tables.push((name, Self(vec![arg.clone()]))),
            }
        }
        tables
    }
}

impl FromIterator<Arg> for Keys {
    fn from_iter<I: IntoIterator<Item = Arg>>(args: I) -> Self {
        Self(args.into_iter().collect())
    }
}

/// What the configuration calls an option: its long name, or that of what stands after `--`.
pub fn name(arg: &Arg) -> Option<&str> {
    let id = arg.is_last_set().then(|| arg.get_id().as_str());
    arg.get_long().or(id)
}

/// The table of the process in which an option stands: the first word of its heading in the help.
pub fn table(arg: &Arg) -> String {
    let heading = arg.get_help_heading().unwrap_or("serving");
    heading.split_whitespace().next().unwrap_or_default().to_lowercase()
}

/// What the help calls its value.
pub fn value_name(arg: &Arg) -> &str {
    arg.get_value_names().and_then(|names| names.first()).map_or("", |name| name.as_str())
}

pub fn is_list(arg: &Arg) -> bool {
    matches!(arg.get_action(), ArgAction::Append)
}

/// Whether its values are pairs, which may be written as a table.
pub fn is_map(arg: &Arg) -> bool {
    is_list(arg) && value_name(arg).starts_with("NAME=")
}

pub fn kind(arg: &Arg) -> Kind {
    let is = |id| arg.get_value_parser().type_id() == id;
    let integers = [TypeId::of::<usize>(), TypeId::of::<u16>(), TypeId::of::<u32>(), TypeId::of::<u64>()];
    if matches!(arg.get_action(), ArgAction::SetTrue) || is(TypeId::of::<bool>()) {
        Kind::Flag
    } else if integers.into_iter().any(is) && !NAMED.contains(&value_name(arg)) {
        Kind::Integer
    } else {
        Kind::Text
    }
}

/// Numbers in the program, and words to whoever writes them.
const NAMED: [&str; 3] = ["USER", "GROUP", "MODE"];

/// Lets a flag be taken back (`--watch=false`), which the configuration or another before it has set.
pub fn may_be_off(arg: Arg) -> Arg {
    if !matches!(arg.get_action(), ArgAction::SetTrue) {
        return arg;
    }
    arg.action(ArgAction::Set)
        .num_args(0..=1)
        .require_equals(true)
        .value_parser(ValueParser::bool())
        .value_name("BOOL")
        .default_value("false")
        .default_missing_value("true")
        .hide_default_value(true)
        .hide_possible_values(true)
}

/// The one of these that was probably meant.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    const ALIKE: f64 = 0.75;
    let likeness = |known: &str| match strsim::osa_distance(word, known) {
        // One slip of a finger, which is much of a short word.
        1 => 1.0,
        _ => strsim::jaro(word, known),
    };
    let alike = known.into_iter().map(|known| (likeness(known), known));
    let alike = alike.filter(|(confidence, _)| *confidence > ALIKE);
    alike.max_by(|(one, _), (other, _)| one.total_cmp(other)).map(|(_, known)| known)
}
