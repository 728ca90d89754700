//! `plugsock config`: a schema that says what may be written, and what is in force as JSON.

use serde_json::{Value, json};

use super::{Configured, TCP};
use crate::harness::{plugsock, run};

fn schema() -> Value {
    let ended = run(plugsock().args(["config", "schema"]));
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{ended:?}");
    serde_json::from_str(&ended.stdout).unwrap()
}

/// Whether a value is valid, by as much of JSON Schema as the schema uses.
fn is_valid(schema: &Value, value: &Value) -> bool {
    let is_type = |name: &str| match name {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        "boolean" => value.is_boolean(),
        other => panic!("the schema has the type {other}"),
    };
    schema.as_object().unwrap().iter().all(|(keyword, rule)| match keyword.as_str() {
        "type" => is_type(rule.as_str().unwrap()),
        "enum" => rule.as_array().unwrap().contains(value),
        "minimum" => value.as_i64() >= rule.as_i64(),
        "anyOf" => rule.as_array().unwrap().iter().any(|schema| is_valid(schema, value)),
        "items" => value.as_array().is_none_or(|items| items.iter().all(|item| is_valid(rule, item))),
        "additionalProperties" | "properties" => value.as_object().is_none_or(|pairs| {
            let known = |name| schema.get("properties").and_then(|known| known.get(name));
            pairs.iter().all(|(name, value)| match (known(name), &schema["additionalProperties"]) {
                (Some(schema), _) => is_valid(schema, value),
                (None, Value::Bool(allowed)) => *allowed,
                (None, schema) => is_valid(schema, value),
            })
        }),
        "$schema" | "title" | "description" | "default" => true,
        other => panic!("the schema has the keyword {other}"),
    })
}

#[test]
fn the_schema_takes_what_can_be_served_and_nothing_else() {
    let schema = schema();
    let sample = json!({
        "log": {"log-level": "info", "log-format": "json"},
        "limits": {"memory": "64MiB", "max-requests": 10, "request-time": "1m"},
        "swapping": {"watch": true},
        "tls": {"tls": {"main": "a.crt,a.key"}},
        "grants": {"env": ["A=1"]},
        "server": [
            {"address": TCP, "handler": "a", "concurrency": "pool", "workers": 2},
            {"address": [TCP, "udp://:0"], "allow": "10.0.0.0/8"},
        ],
        "handler": {"a": {"file": "a.wasm", "memory": "1MiB", "arguments": ["x"], "dir": ["a::/a"]}},
    });
    assert!(is_valid(&schema, &sample));
    for wrong in [
        json!({"limitz": {}}),
        json!({"limits": {"memroy": "1"}}),
        json!({"limits": {"memory": 1}}),
        json!({"limits": {"max-requests": "1"}}),
        json!({"log": {"log-format": "xml"}}),
        json!({"swapping": {"watch": "yes"}}),
        json!({"server": {"address": TCP}}),
        json!({"server": [{"address": 1}]}),
        json!({"handler": {"a": {"log-level": "info"}}}),
    ] {
        assert!(!is_valid(&schema, &wrong), "{wrong}");
    }
    // Each option of the help is in it.
    let help = run(plugsock().args(["serve", "--help"])).stdout;
    let options = help.lines().filter_map(|line| line.trim().strip_prefix("--")?.split([' ', '[']).next());
    // The rest are words of the help that begin a line.
    let options =
        options.filter(|option| option.chars().all(|one| one.is_ascii_alphanumeric() || one == '-'));
    let all = schema.to_string();
    let known = options.filter(|option| !["config", "handler", "help", "version"].contains(option)).inspect(
        |option| {
            assert!(all.contains(&format!("\"{option}\":")), "no {option}");
        },
    );
    assert!(known.count() > 60);
}

/// By a validator of others, where there is one.
#[test]
fn the_schema_is_one() {
    let schema = schema();
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    let has_validator = std::process::Command::new("python3").args(["-c", "import jsonschema"]).output();
    if !has_validator.is_ok_and(|ended| ended.status.success()) {
        eprintln!("skipped: Python's jsonschema is not installed");
        return;
    }
    let script =
        "import json, sys, jsonschema; jsonschema.Draft202012Validator.check_schema(json.loads(sys.argv[1]))";
    let checked =
        std::process::Command::new("python3").args(["-c", script, &schema.to_string()]).output().unwrap();
    assert!(checked.status.success(), "{checked:?}");
}

#[test]
fn what_is_in_force_as_json() {
    let configured = Configured::new(&format!("[[server]]\naddress = \"{TCP}\"\nworkers = 3\n"));
    let shown: Value = serde_json::from_str(&configured.show(&["--json"])).unwrap();
    let server = &shown["servers"][0];
    assert_eq!((&server["addresses"], &server["handler"]), (&json!([TCP]), &json!("echo")));
    let settings = server["settings"].as_array().unwrap();
    let workers = settings.iter().find(|setting| setting["key"] == "workers").unwrap();
    let origin = json!({"from": "file", "line": 3, "column": 1});
    assert_eq!(workers, &json!({"table": "serving", "key": "workers", "values": ["3"], "origin": origin}));
}

/// Where no address is named, the one that is served all the same is said.
#[test]
fn the_default_address_is_in_force() {
    let address = "tcp://127.0.0.1:10001";
    let configured = Configured::new("[[server]]\nworkers = 3\n");
    let shown: Value = serde_json::from_str(&configured.show(&["--json"])).unwrap();
    assert_eq!(shown["servers"][0]["addresses"], json!([address]));
    assert!(configured.show(&[]).contains(&format!("\n# address = [\"{address}\"] ")));
    assert_eq!(configured.check().stdout.lines().next(), Some(&*format!("server   {address} by echo")));
}
