//! `plugsock state`: looks into stores and changes them, while servers use them or not.

use std::io::{self, BufRead, IsTerminal, Read, Write};
use std::process::ExitCode;

use anyhow::{Context, anyhow, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::{Args, Subcommand};
use plugsock::{OpenStore, StoreUrl, one_line};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::output;

/// Look into a store of handlers' state, and change it
///
/// The store is named as for `--state`. Servers may have it open meanwhile. No limit of a handler applies.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  plugsock state get file:counts.db name:tea
  plugsock state set file:counts.db name:tea 0
  head -c 100 /dev/urandom | plugsock state set file:counts.db secret
  plugsock state list file:counts.db --prefix name:
  plugsock state export file:counts.db | plugsock state import file:copy.db

Exit status: 0 if it is done, 1 if not, or if there is no such key.")]
pub struct State {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Print the value of a key, byte for byte
    Get {
        #[command(flatten)]
        store: StoreArg,
        /// The key
        key: String,
        /// Print key and value as JSON; a value that is not UTF-8 as `base64`
        #[arg(long)]
        json: bool,
    },
    /// Set the value of a key
    Set {
        #[command(flatten)]
        store: StoreArg,
        /// The key
        key: String,
        /// The value; without it standard input is, byte for byte
        value: Option<String>,
    },
    /// Delete a key with its value
    Delete {
        #[command(flatten)]
        store: StoreArg,
        /// The key
        key: String,
    },
    /// Print the keys, one a line
    List {
        #[command(flatten)]
        store: StoreArg,
        /// Only those that begin so
        #[arg(long, value_name = "TEXT", default_value = "")]
        prefix: String,
        /// Print them as JSON
        #[arg(long)]
        json: bool,
    },
    /// Print all keys and values, as a line of JSON each; a value that is not UTF-8 as `base64`
    Export {
        #[command(flatten)]
        store: StoreArg,
        /// Only keys that begin so
        #[arg(long, value_name = "TEXT", default_value = "")]
        prefix: String,
    },
    /// Set what `export` has printed, from standard input; other keys stay
    Import {
        #[command(flatten)]
        store: StoreArg,
    },
}

#[derive(Args, Debug)]
struct StoreArg {
    /// Where the store is: file:PATH, redis://…, rediss://…, nats://… or tls://…
    #[arg(value_name = "STORE")]
    url: StoreUrl,
}

impl StoreArg {
    /// Opens the store, which may be made where the command has something to put into it.
    fn open(&self, may_be_new: bool) -> anyhow::Result<OpenStore> {
        OpenStore::open(&self.url, may_be_new).with_context(|| format!("cannot open {}", self.url))
    }
}

/// A key and its value, in a line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    key: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    base64: Option<String>,
}

/// How many entries are set at once.
const BATCH: usize = 100;

impl State {
    pub fn run(self) -> anyhow::Result<ExitCode> {
        match self.command {
            Command::Get { store, key, json } => get(&store.open(false)?, key, json),
            Command::Set { store, key, value } => set(&store.open(true)?, &key, value),
            Command::Delete { store, key } => match store.open(false)?.delete(&key)? {
                true => Ok(ExitCode::SUCCESS),
                false => Err(no_key(&key)),
            },
            Command::List { store, prefix, json } => list(&store.open(false)?, &prefix, json),
            Command::Export { store, prefix } => export(&store.open(false)?, &prefix),
            Command::Import { store } => import(&store.open(true)?),
        }
    }
}

fn no_key(key: &str) -> anyhow::Error {
    anyhow!("there is no key {}", one_line(key))
}

fn get(store: &OpenStore, key: String, json: bool) -> anyhow::Result<ExitCode> {
    let Some(value) = store.get(&key)? else { return Err(no_key(&key)) };
    if json {
        output::print_json(&Entry::new(key, value))?;
        return Ok(ExitCode::SUCCESS);
    }
    output::print_bytes(&value)?;
    if io::stdout().is_terminal() {
        output::print("\n")?;
    }
    Ok(ExitCode::SUCCESS)
}

fn set(store: &OpenStore, key: &str, value: Option<String>) -> anyhow::Result<ExitCode> {
    let value = match value {
        Some(value) => value.into_bytes(),
        None => {
            let mut value = Vec::new();
            io::stdin().read_to_end(&mut value).context("cannot read the value from standard input")?;
            value
        }
    };
    store.set(key, &value)?;
    Ok(ExitCode::SUCCESS)
}

fn list(store: &OpenStore, prefix: &str, json: bool) -> anyhow::Result<ExitCode> {
    let mut all = Vec::new();
    for_each_key(store, prefix, |key| {
        match json {
            true => all.push(key),
            false => output::print(&(one_line(&key) + "\n"))?,
        }
        Ok(())
    })?;
    if json {
        output::print_json(&json!(all))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn export(store: &OpenStore, prefix: &str) -> anyhow::Result<ExitCode> {
    for_each_key(store, prefix, |key| {
        // It may have gone since.
        match store.get(&key)? {
            Some(value) => output::print(&(serde_json::to_string(&Entry::new(key, value))? + "\n")),
            None => Ok(()),
        }
    })?;
    Ok(ExitCode::SUCCESS)
}

fn for_each_key(
    store: &OpenStore,
    prefix: &str,
    mut each: impl FnMut(String) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut cursor = None;
    loop {
        let (keys, next) = store.keys(cursor)?;
        keys.into_iter().filter(|key| key.starts_with(prefix)).try_for_each(&mut each)?;
        cursor = next;
        if cursor.is_none() {
            return Ok(());
        }
    }
}

fn import(store: &OpenStore) -> anyhow::Result<ExitCode> {
    let (mut batch, mut count) = (Vec::new(), 0);
    for (number, line) in io::stdin().lock().lines().enumerate() {
        let place = || format!("line {}; {count} entries were set", number + 1);
        let line = line.with_context(place)?;
        let parsed = serde_json::from_str(&line).map_err(anyhow::Error::from).and_then(Entry::parts);
        batch.push(parsed.with_context(place)?);
        if batch.len() == BATCH {
            store.set_many(std::mem::take(&mut batch)).with_context(place)?;
            count += BATCH;
        }
    }
    let last = batch.len();
    store.set_many(batch).with_context(|| format!("the last {last}; {count} entries were set"))?;
    count += last;
    writeln!(io::stderr(), "{count} entries were set")?;
    Ok(ExitCode::SUCCESS)
}

impl Entry {
    fn new(key: String, value: Vec<u8>) -> Self {
        match String::from_utf8(value) {
            Ok(value) => Self { key, value: Some(value), base64: None },
            Err(error) => Self { key, value: None, base64: Some(STANDARD.encode(error.as_bytes())) },
        }
    }

    fn parts(self) -> anyhow::Result<(String, Vec<u8>)> {
        let value = match (self.value, self.base64) {
            (Some(value), None) => value.into_bytes(),
            (None, Some(base64)) => STANDARD.decode(base64).context("its `base64` is none")?,
            _ => bail!("it has to have either a `value` or `base64`"),
        };
        Ok((self.key, value))
    }
}
