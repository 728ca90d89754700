//! What a store in a file does for handlers, against the same database without anything around it: increments, each of which is
//! on the disk when it is answered.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::thread;
use std::time::Instant;

use anyhow::ensure;
use rusqlite::{Connection, OptionalExtension};

use crate::PATIENCE;
use crate::peers::{Running, serve};
use crate::plan::Scale;
use crate::report::{self, CACHE};
use crate::trial::Failure;

/// Clients at once.
pub const CLIENTS: usize = 32;

/// Lines that a client sends before it waits for their answers.
const LINES: usize = 50;

/// Who keeps the counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Keeper {
    /// The `counter` plugin with a store in a file; the strategy.
    Plugsock(&'static str),
    /// A loop over rusqlite, so many increments in each transaction.
    Rusqlite(usize),
}

impl Keeper {
    /// Increments a second.
    pub fn measure(self, scale: &Scale) -> Result<f64, Failure> {
        let database = Database::new()?;
        match self {
            Self::Plugsock(strategy) => count_by(strategy, &database, scale),
            Self::Rusqlite(group) => Ok(count(&database, group, scale)?),
        }
    }
}

/// A file that is new.
struct Database(PathBuf);

impl Database {
    fn new() -> anyhow::Result<Self> {
        let database = Self(report::directory()?.join("state.db"));
        database.remove();
        Ok(database)
    }

    fn remove(&self) {
        for end in ["db", "db-wal", "db-shm"] {
            let _ = fs::remove_file(self.0.with_extension(end));
        }
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        self.remove();
    }
}

fn count_by(strategy: &'static str, database: &Database, scale: &Scale) -> Result<f64, Failure> {
    let mut command = serve("tcp://127.0.0.1:0", strategy, CACHE)?;
    command.arg(env!("PLUGSOCK_COUNTER"));
    command.arg("--state").arg(format!("counts=file:{}", database.0.display()));
    command.args(["--state-rate", "100000000/s", "--workers", &CLIENTS.to_string()]);
    let running = Running::start(command, strategy)?;
    let begin = Instant::now() + scale.warm_up;
    let end = begin + scale.window;
    let address = running.address;
    let counted: anyhow::Result<Vec<u64>> = thread::scope(|scope| {
        let clients: Vec<_> =
            (0..CLIENTS).map(|client| scope.spawn(move || ask(address, client, begin, end))).collect();
        clients.into_iter().map(|client| client.join().expect("it does not panic")).collect()
    });
    Ok(counted?.iter().sum::<u64>() as f64 / scale.window.as_secs_f64())
}

/// How many lines one client is answered in the time.
fn ask(address: SocketAddr, client: usize, begin: Instant, end: Instant) -> anyhow::Result<u64> {
    let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    let mut answers = BufReader::new(&stream);
    let lines = format!("{client}\n").repeat(LINES);
    let (mut counted, mut answer) = (0, String::new());
    loop {
        (&stream).write_all(lines.as_bytes())?;
        for _ in 0..LINES {
            answer.clear();
            ensure!(answers.read_line(&mut answer)? > 0, "the server has closed the connection");
            let now = Instant::now();
            if now >= end {
                return Ok(counted);
            }
            counted += u64::from(now >= begin);
        }
    }
}

/// The same by one who has the database to himself.
fn count(database: &Database, group: usize, scale: &Scale) -> anyhow::Result<f64> {
    let connection = Connection::open(&database.0)?;
    connection.pragma_update(None, "journal_mode", "wal")?;
    connection.pragma_update(None, "synchronous", "full")?;
    connection.execute("CREATE TABLE counts (key TEXT PRIMARY KEY, value BLOB NOT NULL)", [])?;
    let mut read = connection.prepare("SELECT value FROM counts WHERE key = ?")?;
    let mut write = connection
        .prepare("INSERT INTO counts VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value")?;
    let begin = Instant::now() + scale.warm_up;
    let end = begin + scale.window;
    let (mut counted, mut number) = (0_u64, 0);
    loop {
        connection.execute_batch("BEGIN IMMEDIATE")?;
        for _ in 0..group {
            let key = format!("name:{}", number % CLIENTS);
            let old = read.query_row([&key], |row| row.get::<_, Vec<u8>>(0)).optional()?;
            let old: u64 = old.map_or(Ok(0), |old| String::from_utf8_lossy(&old).parse())?;
            write.execute((key, (old + 1).to_string().into_bytes()))?;
            number += 1;
        }
        connection.execute_batch("COMMIT")?;
        let now = Instant::now();
        if now >= end {
            return Ok(counted as f64 / scale.window.as_secs_f64());
        }
        counted += if now >= begin { group as u64 } else { 0 };
    }
}
