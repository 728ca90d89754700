//! What is said in the room: messages in a store, under numbers that follow each other.
//!
//! Who says something puts it under the first number that is free, by compare-and-swap: of several at once one succeeds, and the
//! others hear that message first and try the next number. So nothing is missing between two messages, and everybody
//! hears all in the same order.

use plugsock_sdk::{Result, StateError, Store};

/// How many messages are kept.
const KEPT: u64 = 1000;

/// Where it is written which message was one of the last, for those who come.
const LATEST: &str = "latest";

pub struct Room {
    store: Store,
    /// The first message that was not heard yet.
    next: u64,
    /// What was heard and is still to be told.
    heard: Vec<String>,
}

impl Room {
    /// A room of which nothing is heard that was said before.
    pub fn enter(store: Store) -> Result<Self, StateError> {
        let mut room = Room { next: latest(&store)?, store, heard: Vec::new() };
        room.look()?;
        room.heard.clear();
        Ok(room)
    }

    /// Says something to everybody, who has come here also to this client.
    pub fn say(&mut self, message: &str) -> Result<(), StateError> {
        self.look()?;
        while !self.store.compare_and_swap(&key(self.next), None, message)? {
            self.look()?;
        }
        self.store.set(LATEST, self.next.to_string())?;
        if let Some(old) = self.next.checked_sub(KEPT) {
            self.store.delete(&key(old))?;
        }
        Ok(())
    }

    /// Has told what was said since the last time.
    pub fn hear(&mut self, tell: impl FnMut(&String) -> Result) -> Result {
        self.look()?;
        std::mem::take(&mut self.heard).iter().try_for_each(tell)
    }

    fn look(&mut self) -> Result<(), StateError> {
        loop {
            while let Some(message) = self.store.get(&key(self.next))? {
                self.heard.push(String::from_utf8_lossy(&message).into_owned());
                self.next += 1;
            }
            // Who was away for so long that what comes next is kept no more goes on later.
            let latest = latest(&self.store)?;
            if latest < self.next + KEPT {
                return Ok(());
            }
            self.heard.push("* (some messages are missing)\n".to_owned());
            self.next = latest;
        }
    }
}

fn latest(store: &Store) -> Result<u64, StateError> {
    let latest = store.get(LATEST)?.unwrap_or_default();
    Ok(String::from_utf8_lossy(&latest).parse().unwrap_or_default())
}

fn key(number: u64) -> String {
    format!("message:{number}")
}
