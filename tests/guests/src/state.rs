//! Works on the stores that its client names, a line an operation: `STORE get KEY`, and the like. Values are in words without
//! spaces; `N*B` stands for a value of so many bytes `B`.

use std::io::{BufRead, Write};

use plugsock_sdk::{Result, StateError, Store, StreamRequest, StreamRequestHandler, export};

#[derive(Default)]
struct Guest;

impl StreamRequestHandler for Guest {
    fn handle(&mut self, request: &mut StreamRequest) -> Result {
        let mut line = String::new();
        while request.rfile.read_line(&mut line)? > 0 {
            let words: Vec<&str> = line.split_whitespace().collect();
            let opened = request.server().state(words[0]);
            let answer = opened.and_then(|store| operate(&store, &words[1..]));
            let answer = answer.unwrap_or_else(|error| format!("error {error}"));
            writeln!(request.wfile, "{answer}")?;
            line.clear();
        }
        Ok(())
    }
}

export!(Guest: StreamRequestHandler);

fn operate(store: &Store, words: &[&str]) -> Result<String, StateError> {
    Ok(match words {
        ["open"] => "opened".to_owned(),
        ["get", key] => shown(store.get(&sized(key))?),
        ["length", key] => store.get(key)?.map_or(0, |value| value.len()).to_string(),
        ["set", key, value] => store.set(&sized(key), sized(value)).map(|()| "set".to_owned())?,
        ["delete", key] => store.delete(key).map(|()| "deleted".to_owned())?,
        ["exists", key] => store.exists(key)?.to_string(),
        ["increment", key, delta] => store.increment(key, delta.parse().unwrap_or_default())?.to_string(),
        ["repeat", times, key] => {
            let times = times.parse().unwrap_or_default();
            let sums: Result<Vec<_>, _> = (0..times).map(|_| store.increment(key, 1)).collect();
            sums?.last().map_or(0, |sum| *sum).to_string()
        }
        ["swap", key, "none", value] => store.compare_and_swap(key, None, value)?.to_string(),
        ["swap", key, expected, value] => {
            store.compare_and_swap(key, Some(expected.as_bytes()), value)?.to_string()
        }
        // Adds by compare-and-swap, however often others come between.
        ["update", key] => {
            let value = store.update(key, |value| {
                let number: u64 = value.map_or(0, |value| shown(Some(value)).parse().unwrap_or_default());
                (number + 1).to_string().into_bytes()
            });
            shown(Some(value?))
        }
        ["keys", prefix] => store.keys(prefix)?.join(" "),
        ["keys"] => store.keys("")?.len().to_string(),
        ["set-many", entries @ ..] => {
            let entries: Vec<_> = entries
                .iter()
                .filter_map(|entry| entry.split_once('='))
                .map(|(key, value)| (key.to_owned(), value.as_bytes().to_owned()))
                .collect();
            store.set_many(&entries).map(|()| "set".to_owned())?
        }
        ["get-many", keys @ ..] => {
            let values = store.get_many(&owned(keys))?;
            values.into_iter().map(shown).collect::<Vec<_>>().join(" ")
        }
        ["delete-many", keys @ ..] => store.delete_many(&owned(keys)).map(|()| "deleted".to_owned())?,
        ["fill", count] => {
            let count: usize = count.parse().unwrap_or_default();
            let entries: Vec<_> =
                (0..count).map(|number| (format!("fill:{number:06}"), vec![b'x'])).collect();
            store.set_many(&entries).map(|()| "set".to_owned())?
        }
        _ => "what?".to_owned(),
    })
}

fn owned(keys: &[&str]) -> Vec<String> {
    keys.iter().map(|&key| key.to_owned()).collect()
}

fn shown(value: Option<Vec<u8>>) -> String {
    value.map_or("none".to_owned(), |value| String::from_utf8_lossy(&value).into_owned())
}

/// A word, or what `N*B` stands for.
fn sized(word: &str) -> String {
    match word.split_once('*').and_then(|(count, byte)| Some((count.parse().ok()?, byte))) {
        Some((count, byte)) => byte.repeat(count),
        None => word.to_owned(),
    }
}
