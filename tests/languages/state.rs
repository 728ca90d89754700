//! Works on stores, a line an operation, first on the store `counts`; says of an error of what kind it is.

use std::io::{BufRead, Write};

use plugsock_sdk::{Result, StateError, Store, StreamRequest, StreamRequestHandler, export};

#[derive(Default)]
struct State;

impl StreamRequestHandler for State {
    fn handle(&mut self, request: &mut StreamRequest) -> Result {
        let mut store = request.server().state("counts")?;
        let mut line = String::new();
        while request.rfile.read_line(&mut line)? > 0 {
            let words: Vec<&str> = line.split_whitespace().collect();
            let answer = match words[..] {
                ["open", name] => request.server().state(name).map(|opened| {
                    store = opened;
                    "opened".to_owned()
                }),
                _ => operate(&store, &words),
            };
            let answer = answer.unwrap_or_else(|error| match error {
                StateError::NoSuchStore => "no-such-store".to_owned(),
                StateError::AccessDenied => "access-denied".to_owned(),
                StateError::Other(words) => format!("other: {words}"),
            });
            writeln!(request.wfile, "{answer}")?;
            line.clear();
        }
        Ok(())
    }
}

export!(State: StreamRequestHandler);

fn operate(store: &Store, words: &[&str]) -> Result<String, StateError> {
    Ok(match *words {
        ["get", key] => store.get(key)?.map_or("none".to_owned(), text),
        ["length", key] => store.get(key)?.map_or(0, |value| value.len()).to_string(),
        ["set", key, value] => store.set(key, value).map(|()| "set".to_owned())?,
        ["repeat", key, count] => {
            store.set(key, "v".repeat(count.parse().unwrap_or(0))).map(|()| "set".to_owned())?
        }
        ["fill", count] => {
            for number in 0..count.parse().unwrap_or(0) {
                store.set(&format!("fill:{number}"), "x")?;
            }
            "filled".to_owned()
        }
        ["del", key] => store.delete(key).map(|()| "deleted".to_owned())?,
        ["has", key] => store.exists(key)?.to_string(),
        ["incr", key, delta] => store.increment(key, delta.parse().unwrap_or(0))?.to_string(),
        ["cas", key, "none", new] => store.compare_and_swap(key, None, new)?.to_string(),
        ["cas", key, old, new] => store.compare_and_swap(key, Some(old.as_bytes()), new)?.to_string(),
        ["add", key] => loop {
            let seen = store.get(key)?;
            let number: u32 = seen.clone().map_or(0, |value| text(value).parse().unwrap_or(0));
            if store.compare_and_swap(key, seen.as_deref(), (number + 1).to_string())? {
                break "added".to_owned();
            }
        },
        ["list", ..] => store.keys(words.get(1).unwrap_or(&""))?.join(" "),
        ["count", ..] => store.keys(words.get(1).unwrap_or(&""))?.len().to_string(),
        _ => "what?".to_owned(),
    })
}

fn text(value: Vec<u8>) -> String {
    String::from_utf8_lossy(&value).into_owned()
}
