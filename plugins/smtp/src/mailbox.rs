//! The directory that messages are written to, as to the `new` of a Maildir. What is not whole has a name that begins with a
//! dot: another directory for it would be clearer, but where the kernel confines the handler nothing may be moved between two.

use std::fs::{self, File};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Write};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::reply::Reply;

const MAIL: &str = "/mail";

/// A message that is being written; dropped before it is delivered, it is gone.
pub struct Message {
    name: String,
    file: File,
}

impl Message {
    /// Begins a message. Its name has to be unique among all that programs ever deliver to the directory.
    pub fn create(request: u64) -> Result<Self, Reply> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let random = RandomState::new().hash_one(request);
        let name = format!("{}.M{:06}Q{request}R{random:016x}.plugsock", now.as_secs(), now.subsec_micros());
        let file = File::create_new(partial(&name)).map_err(not_kept)?;
        Ok(Message { name, file })
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn write(&mut self, text: &[u8]) -> Result<(), Reply> {
        self.file.write_all(text).map_err(not_kept)
    }

    /// Puts the message where it is seen, once it is on disk: its client will forget it.
    pub fn deliver(self) -> Result<String, Reply> {
        self.file.sync_all().map_err(not_kept)?;
        let name = &self.name;
        fs::rename(partial(name), format!("{MAIL}/{name}")).map_err(not_kept)?;
        Ok(name.clone())
    }
}

impl Drop for Message {
    fn drop(&mut self) {
        // Not there any more, once delivered.
        let _ = fs::remove_file(partial(&self.name));
    }
}

fn partial(name: &str) -> String {
    format!("{MAIL}/.{name}")
}

/// The client may try again; what is wrong here is for the log.
fn not_kept(error: io::Error) -> Reply {
    eprintln!("a message could not be written to {MAIL}: {error}");
    Reply::new(451, "4.3.0 the message could not be written, try again later")
}
