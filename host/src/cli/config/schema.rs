//! `plugsock config schema`: what may stand in a configuration's file, for editors and other programs.

use std::process::ExitCode;

use clap::{Arg, Args};
use serde_json::{Map, Value, json};

use super::file::{HANDLER, SERVER, Tables};
use super::keys::{self, Keys, Kind};
use crate::cli::output;

/// Print a JSON Schema of the configuration's file
#[derive(Args, Debug)]
pub struct Schema {}

impl Schema {
    pub fn run(self) -> anyhow::Result<ExitCode> {
        output::print_json(&schema(&Tables::all()))?;
        Ok(ExitCode::SUCCESS)
    }
}

fn schema(Tables { process, server, handler }: &Tables) -> Value {
    let mut properties: Map<String, Value> =
        process.iter().map(|(name, keys)| (name.clone(), table(keys))).collect();
    properties.insert(SERVER.to_owned(), json!({"type": "array", "items": table(server)}));
    properties.insert(HANDLER.to_owned(), json!({"type": "object", "additionalProperties": table(handler)}));
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Configuration of plugsock serve",
        "type": "object",
        "properties": properties,
        "additionalProperties": false,
    })
}

fn table(keys: &Keys) -> Value {
    let properties: Map<String, Value> =
        keys.iter().filter_map(|arg| Some((keys::name(arg)?.to_owned(), option(arg)))).collect();
    json!({"type": "object", "properties": properties, "additionalProperties": false})
}

fn option(arg: &Arg) -> Value {
    let one = match keys::kind(arg) {
        Kind::Flag => json!({"type": "boolean"}),
        Kind::Integer => json!({"type": "integer", "minimum": 0}),
        Kind::Text => {
            let words: Vec<String> =
                arg.get_possible_values().iter().map(|value| value.get_name().to_owned()).collect();
            if words.is_empty() { json!({"type": "string"}) } else { json!({"enum": words}) }
        }
    };
    let mut schema = match keys::is_list(arg) {
        true => {
            let mut forms = vec![one.clone(), json!({"type": "array", "items": one.clone()})];
            if keys::is_map(arg) {
                forms.push(json!({"type": "object", "additionalProperties": one}));
            }
            json!({"anyOf": forms})
        }
        false => one,
    };
    let said = &mut schema.as_object_mut().expect("it is made above");
    if let Some(help) = arg.get_help() {
        said.insert("description".to_owned(), help.to_string().into());
    }
    if let [default] = arg.get_default_values() {
        let default = default.to_string_lossy();
        let typed = match keys::kind(arg) {
            Kind::Text => json!(default),
            Kind::Flag | Kind::Integer => serde_json::from_str(&default).unwrap_or(json!(default)),
        };
        said.insert("default".to_owned(), typed);
    }
    schema
}
