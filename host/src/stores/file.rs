//! A store in a file, by SQLite: several processes may have it open at once, and what was written survives their deaths.
//!
//! One thread writes. It takes all that waits into one transaction and answers when that is committed, so that many who
//! write at once wait for the disk once. Others read beside it.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, Sender, TrySendError, bounded};
use rusqlite::{Connection, OptionalExtension, Statement, TransactionBehavior, params};
use tokio::sync::oneshot;

use super::entries::{Entries, apply};
use super::limits::{Quota, Totals};
use super::operation::{Failure, Operation};
use super::{Backend, Outcome, Running};

#[derive(Debug)]
pub(super) struct FileStore {
    writes: Sender<Job>,
    reads: Sender<Job>,
    /// The one that writes, which ends as the last.
    thread: Option<JoinHandle<()>>,
}

/// Threads that are about to close their databases.
static CLOSING: Mutex<Vec<JoinHandle<()>>> = Mutex::new(Vec::new());

/// An operation, and who waits for it.
#[derive(Debug)]
struct Job {
    operation: Operation,
    quota: Quota,
    reply: oneshot::Sender<Outcome>,
}

/// Connections that read.
const READERS: usize = 2;

/// How many operations may wait; requests are no more, and each has one.
const WAITING_MAX: usize = 10_000;

/// The most operations that one transaction takes in.
const GROUP_MAX: usize = 1000;

/// How long it is waited for another process that writes.
const BUSY: Duration = Duration::from_secs(5);

/// What says that a database is one of these, in its header: `plug`.
const APPLICATION: i64 = 0x706c_7567;

const TABLES: &str = "
    CREATE TABLE IF NOT EXISTS entries (key TEXT NOT NULL PRIMARY KEY, value BLOB NOT NULL);
    CREATE TABLE IF NOT EXISTS totals (id INTEGER PRIMARY KEY CHECK (id = 1), keys INTEGER NOT NULL, size INTEGER NOT NULL);
    INSERT OR IGNORE INTO totals VALUES (1, 0, 0);
";

impl FileStore {
    pub(super) fn open(path: &Path, durable: bool) -> Result<Self, String> {
        create(path)?;
        let mut connection = connect(path, durable).map_err(explained)?;
        prepare(&mut connection)?;
        let (reads, jobs) = bounded::<Job>(WAITING_MAX);
        let mut readers = Vec::new();
        for _ in 0..READERS {
            let connection = connect(path, durable).map_err(explained)?;
            let jobs = jobs.clone();
            readers.push(start("state-read", move || read_all(&connection, &jobs))?);
        }
        let (writes, jobs) = bounded(WAITING_MAX);
        let place = Place::of(path).map_err(|error| error.to_string())?;
        let thread = start("state-write", move || {
            write_all(&connection, &place, &jobs);
            // The last that closes the file leaves nothing beside it; of two at once neither is the last.
            readers.into_iter().for_each(|reader| drop(reader.join()));
            drop(connection);
        })?;
        Ok(Self { writes, reads, thread: Some(thread) })
    }
}

/// Whoever lets go of it need not wait until it is closed.
impl Drop for FileStore {
    fn drop(&mut self) {
        let mut closing = CLOSING.lock().unwrap_or_else(PoisonError::into_inner);
        closing.retain(|thread| !thread.is_finished());
        closing.extend(self.thread.take());
    }
}

/// Waits until all stores that nobody has open any more are closed, for the end of a process: SQLite then moves what lies beside a
/// file into it, so that the file alone is all of the store.
pub fn close_stores() {
    let closing = std::mem::take(&mut *CLOSING.lock().unwrap_or_else(PoisonError::into_inner));
    closing.into_iter().for_each(|thread| drop(thread.join()));
}

impl Backend for FileStore {
    fn run(&self, operation: Operation, quota: Quota) -> Running<'_> {
        let jobs = if operation.writes() { &self.writes } else { &self.reads };
        let (reply, outcome) = oneshot::channel();
        let sent = jobs.try_send(Job { operation, quota, reply });
        Box::pin(async move {
            match sent {
                Ok(()) => outcome.await.unwrap_or_else(|_| Err(Failure::other("the store has failed"))),
                Err(TrySendError::Full(_)) => Err(Failure::other("too many operations wait for the store")),
                Err(TrySendError::Disconnected(_)) => Err(Failure::other("the store has failed")),
            }
        })
    }
}

fn start(name: &str, work: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, String> {
    let started = thread::Builder::new().name(name.to_owned()).spawn(work);
    started.map_err(|error| format!("no thread for it: {error}"))
}

/// For its user's eyes alone, as SQLite then makes the files beside it.
fn create(path: &Path) -> Result<(), String> {
    let mut options = OpenOptions::new();
    let opened = options.read(true).write(true).create(true).truncate(false).mode(0o600).open(path);
    let is_file = opened.and_then(|file| Ok(file.metadata()?.is_file())).map_err(unopened)?;
    if is_file { Ok(()) } else { Err("it is no regular file".to_owned()) }
}

/// Also who only reads needs to write: readers of a database tell each other what they look at.
fn unopened(error: io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => {
            format!("{error}; a store is opened for writing, also for who only reads")
        }
        _ => error.to_string(),
    }
}

fn connect(path: &Path, durable: bool) -> rusqlite::Result<Connection> {
    let mut connection = Connection::open(path)?;
    connection.busy_handler(Some(may_try_again))?;
    // With `normal` the last transactions may be lost with the power, and not with the process.
    connection.pragma_update(None, "synchronous", if durable { "full" } else { "normal" })?;
    Ok(connection)
}

/// Waits for another process. Often and briefly: one that writes without a break leaves small gaps, and SQLite's own way to wait
/// would miss most of them.
fn may_try_again(attempts: i32) -> bool {
    thread::sleep(Duration::from_millis(1));
    u128::try_from(attempts).is_ok_and(|attempts| attempts < BUSY.as_millis())
}

/// Makes a new database one of ours, and refuses those that are somebody else's.
fn prepare(connection: &mut Connection) -> Result<(), String> {
    let application: i64 =
        connection.query_row("PRAGMA application_id", [], |row| row.get(0)).map_err(explained)?;
    let tables: i64 = connection
        .query_row("SELECT count(*) FROM sqlite_master", [], |row| row.get(0))
        .map_err(explained)?;
    if application != APPLICATION && tables > 0 {
        return Err("it is another program's database".to_owned());
    }
    write_ahead(connection).map_err(explained)?;
    let made = (|| {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        transaction.pragma_update(None, "application_id", APPLICATION)?;
        transaction.execute_batch(TABLES)?;
        transaction.commit()
    })();
    made.map_err(explained)
}

/// Has readers not wait for who writes. Another process may be at it, too, for which SQLite does not wait.
fn write_ahead(connection: &Connection) -> rusqlite::Result<()> {
    let deadline = Instant::now() + BUSY;
    loop {
        match connection.pragma_update(None, "journal_mode", "wal") {
            Err(error) if is_busy(&error) && Instant::now() < deadline => {
                thread::sleep(Duration::from_millis(10));
            }
            set => return set,
        }
    }
}

fn is_busy(error: &rusqlite::Error) -> bool {
    use rusqlite::ErrorCode::{DatabaseBusy, DatabaseLocked};
    matches!(error.sqlite_error_code(), Some(DatabaseBusy | DatabaseLocked))
}

fn explained(error: rusqlite::Error) -> String {
    use rusqlite::ErrorCode::{CannotOpen, NotADatabase};
    match error.sqlite_error_code() {
        Some(NotADatabase) => "it is no database".to_owned(),
        Some(CannotOpen) => format!("{error}: SQLite also writes files beside it, in its directory"),
        _ => error.to_string(),
    }
}

/// Where the file was when it was opened. What is written to one that nobody finds there again would be lost.
struct Place {
    path: PathBuf,
    id: (u64, u64),
}

impl Place {
    fn of(path: &Path) -> io::Result<Self> {
        let metadata = fs::metadata(path)?;
        Ok(Self { path: path.to_owned(), id: (metadata.dev(), metadata.ino()) })
    }

    fn check(&self) -> Result<(), Failure> {
        match Self::of(&self.path) {
            Ok(now) if now.id == self.id => Ok(()),
            _ => Err(Failure::Unreachable(
                "its file was moved or removed while it was open: put it back, or start the server anew"
                    .to_owned(),
            )),
        }
    }
}

fn write_all(connection: &Connection, place: &Place, jobs: &Receiver<Job>) {
    let mut writing = Table::of(connection);
    while let Ok(first) = jobs.recv() {
        // Who has given up need not be written for.
        let group = std::iter::once(first).chain(jobs.try_iter()).take(GROUP_MAX);
        let group = group.filter(|job| !job.reply.is_closed());
        let (asked, replies): (Vec<_>, Vec<_>) =
            group.map(|Job { operation, quota, reply }| ((operation, quota), reply)).unzip();
        let outcomes = match &mut writing {
            Ok(table) => place.check().and_then(|()| table.transact(asked).map_err(|error| failed(&error))),
            Err(error) => Err(failed(error)),
        };
        let outcomes: Box<dyn Iterator<Item = Outcome>> = match outcomes {
            Ok(outcomes) => Box::new(outcomes.into_iter()),
            Err(failure) => Box::new(std::iter::repeat_with(move || Err(failure.clone()))),
        };
        for (reply, outcome) in replies.into_iter().zip(outcomes) {
            let _ = reply.send(outcome);
        }
    }
}

fn read_all(connection: &Connection, jobs: &Receiver<Job>) {
    let mut reading = Table::of(connection);
    for Job { operation, quota, reply } in jobs {
        if reply.is_closed() {
            continue;
        }
        let outcome = match &mut reading {
            Ok(table) => apply(table, operation, quota).unwrap_or_else(|error| Err(failed(&error))),
            Err(error) => Err(failed(error)),
        };
        let _ = reply.send(outcome);
    }
}

fn failed(error: &rusqlite::Error) -> Failure {
    match is_busy(error) {
        true => Failure::TimedOut("another process has kept the store to itself for too long".to_owned()),
        false => Failure::Unreachable(error.to_string()),
    }
}

/// What is done with a database, by one connection.
struct Table<'a> {
    connection: &'a Connection,
    begin: Statement<'a>,
    commit: Statement<'a>,
    read_totals: Statement<'a>,
    write_totals: Statement<'a>,
    get: Statement<'a>,
    length: Statement<'a>,
    put: Statement<'a>,
    remove: Statement<'a>,
    first_keys: Statement<'a>,
    next_keys: Statement<'a>,
    totals: Totals,
}

impl<'a> Table<'a> {
    fn of(connection: &'a Connection) -> rusqlite::Result<Self> {
        let prepare = |sql| connection.prepare(sql);
        Ok(Self {
            connection,
            begin: prepare("BEGIN IMMEDIATE")?,
            commit: prepare("COMMIT")?,
            read_totals: prepare("SELECT keys, size FROM totals")?,
            write_totals: prepare("UPDATE totals SET keys = ?, size = ?")?,
            get: prepare("SELECT value FROM entries WHERE key = ?")?,
            length: prepare("SELECT length(value) FROM entries WHERE key = ?")?,
            put: prepare(
                "INSERT INTO entries VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
            )?,
            remove: prepare("DELETE FROM entries WHERE key = ?")?,
            first_keys: prepare("SELECT key FROM entries ORDER BY key LIMIT ?")?,
            next_keys: prepare("SELECT key FROM entries WHERE key > ? ORDER BY key LIMIT ?")?,
            totals: Totals::default(),
        })
    }

    /// Carries all out and commits, or nothing.
    fn transact(&mut self, asked: Vec<(Operation, Quota)>) -> rusqlite::Result<Vec<Outcome>> {
        if asked.is_empty() {
            return Ok(Vec::new());
        }
        self.begin.execute([])?;
        let done = self.carry_out(asked);
        // Some errors have ended it already.
        if done.is_err() && !self.connection.is_autocommit() {
            self.connection.execute_batch("ROLLBACK")?;
        }
        done
    }

    fn carry_out(&mut self, asked: Vec<(Operation, Quota)>) -> rusqlite::Result<Vec<Outcome>> {
        let before = self.read_totals.query_row([], |row| {
            let (keys, size): (i64, i64) = (row.get(0)?, row.get(1)?);
            Ok(Totals { keys: keys.max(0) as u64, size: size.max(0) as u64 })
        })?;
        self.totals = before;
        let outcomes = asked.into_iter().map(|(operation, quota)| apply(self, operation, quota));
        let outcomes = outcomes.collect::<Result<_, _>>()?;
        let Totals { keys, size } = self.totals;
        if self.totals != before {
            self.write_totals.execute(params![keys as i64, size as i64])?;
        }
        self.commit.execute([])?;
        Ok(outcomes)
    }
}

impl Entries for Table<'_> {
    type Error = rusqlite::Error;

    fn get(&mut self, key: &str) -> rusqlite::Result<Option<Vec<u8>>> {
        self.get.query_row([key], |row| row.get(0)).optional()
    }

    fn length(&mut self, key: &str) -> rusqlite::Result<Option<usize>> {
        let length: Option<i64> = self.length.query_row([key], |row| row.get(0)).optional()?;
        Ok(length.map(|length| length as usize))
    }

    fn put(&mut self, key: &str, value: &[u8]) -> rusqlite::Result<()> {
        self.put.execute(params![key, value]).map(drop)
    }

    fn remove(&mut self, key: &str) -> rusqlite::Result<()> {
        self.remove.execute([key]).map(drop)
    }

    fn keys_after(&mut self, key: Option<&str>, count: usize) -> rusqlite::Result<Vec<String>> {
        let count = count as i64;
        match key {
            Some(key) => self.next_keys.query_map(params![key, count], |row| row.get(0))?.collect(),
            None => self.first_keys.query_map([count], |row| row.get(0))?.collect(),
        }
    }

    fn totals(&mut self) -> &mut Totals {
        &mut self.totals
    }
}
