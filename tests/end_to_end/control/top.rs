//! `plugsock top`, as text and in a terminal.

use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, poll};

use super::{TCP, done, is_error};
use crate::harness::{Host, PATIENCE, guest, is_installed, plugsock, run};

#[test]
fn one_frame_as_text_says_what_happens_in_the_interval() {
    let host = Host::serve(&[TCP]);
    let socket = host.control_socket();
    let socket = socket.to_str().unwrap();
    let top = |args: &[&str]| run(plugsock().args(["top", "--control", socket]).args(args));
    let is_over = AtomicBool::new(false);
    let frame = thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(SeqCst) {
                assert_eq!(host.ask(b"hello"), b"hello");
            }
        });
        let frame = done(top(&["--once"]));
        is_over.store(true, SeqCst);
        frame
    });
    let lines: Vec<_> = frame.lines().collect();
    assert!(lines[0].starts_with("plugsock ") && lines[0].ends_with(" requests/s"), "{frame}");
    for column in ["ADDRESS", "REQ/S", "P99", "FAILED"] {
        assert!(frame.contains(column), "no {column} in {frame}");
    }
    assert!(lines[3].starts_with(&host.address().to_string()), "{frame}");
    let row: Vec<_> = lines[6].split_whitespace().collect();
    assert_eq!(row[..4], ["echo", "1", "serving", "echo"], "{frame}");
    assert!(row[5].parse::<f64>().unwrap() > 0.0, "{frame}");
    // Without a terminal it is the same.
    assert!(done(top(&["--interval", "100ms"])).contains("REQ/S"));
    assert_eq!(top(&["--interval", "1ms"]).code, Some(2));
    is_error(&run(plugsock().args(["top", "--control", "/no/such/socket"])), 3, &["/no/such/socket"]);
}

/// As large as the terminal is.
const ROWS: usize = 40;
const COLUMNS: usize = 150;

/// `plugsock top` in a terminal of its own; gone when this is dropped.
struct Screen {
    script: Child,
    /// What came and is not shown yet, since it ends in the middle of an escape sequence.
    pending: Vec<u8>,
    cells: Vec<[u8; COLUMNS]>,
    /// Row and column.
    cursor: (usize, usize),
}

impl Screen {
    fn open(host: &Host) -> Self {
        let program = plugsock().get_program().to_str().unwrap().to_owned();
        let socket = host.control_socket();
        let top = format!(
            "stty rows {ROWS} cols {COLUMNS}; {program} top --interval 100ms --control {}; echo ended $?",
            socket.display()
        );
        let mut script = Command::new("script");
        script.args(["--quiet", "--return", "--command", &top, "/dev/null"]).env("TERM", "xterm");
        let script = script.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        Self { script, pending: Vec::new(), cells: vec![[b' '; COLUMNS]; ROWS], cursor: (0, 0) }
    }

    fn press(&mut self, keys: &[u8]) {
        self.script.stdin.as_mut().unwrap().write_all(keys).unwrap();
    }

    fn text(&self) -> String {
        self.cells.iter().map(|row| String::from_utf8_lossy(row).trim_end().to_owned() + "\n").collect()
    }

    /// Follows what is shown until the screen has this.
    fn wait_for(&mut self, text: &str) {
        let deadline = Instant::now() + PATIENCE;
        while !self.text().contains(text) {
            let is_open = self.follow();
            assert!(is_open && Instant::now() < deadline, "no {text} in {}", self.text());
        }
    }

    /// Follows what is shown until nothing more can be.
    fn end(&mut self) -> String {
        while self.follow() {}
        self.text()
    }

    /// Shows what comes next; `false` at the end.
    fn follow(&mut self) -> bool {
        let stdout = self.script.stdout.as_mut().unwrap();
        let patience = PATIENCE.try_into().unwrap();
        let ready = poll(&mut [PollFd::new(stdout, PollFlags::IN)], Some(&patience)).unwrap();
        assert_eq!(ready, 1, "nothing more is shown");
        let mut some = [0; 4096];
        let length = stdout.read(&mut some).unwrap();
        self.pending.extend_from_slice(&some[..length]);
        while let Some(shown) = self.show() {
            self.pending.drain(..shown);
        }
        length > 0
    }

    /// Shows the next character, or does what the next escape sequence says; how many bytes that was.
    fn show(&mut self) -> Option<usize> {
        let (row, column) = &mut self.cursor;
        match *self.pending.first()? {
            b'\r' => *column = 0,
            b'\n' if *row + 1 < ROWS => *row += 1,
            b'\n' => {
                self.cells.remove(0);
                self.cells.push([b' '; COLUMNS]);
            }
            b'\x1b' if *self.pending.get(1)? == b'[' => {
                let end = 2 + self.pending[2..].iter().position(u8::is_ascii_alphabetic)?;
                let parameters = String::from_utf8_lossy(&self.pending[2..end]).into_owned();
                match self.pending[end] {
                    b'H' => {
                        let mut numbers = parameters.split(';').map(|number| number.parse().unwrap_or(1));
                        let mut next = || numbers.next().unwrap_or(1_usize) - 1;
                        self.cursor = (next(), next());
                    }
                    b'J' => self.cells.fill([b' '; COLUMNS]),
                    _ => {}
                }
                return Some(end + 1);
            }
            // Of the others all that come have two bytes.
            b'\x1b' => return self.pending.get(1).map(|_| 2),
            character => {
                if let Some(cell) = self.cells.get_mut(*row).and_then(|row| row.get_mut(*column)) {
                    *cell = character;
                }
                *column += 1;
            }
        }
        Some(1)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = self.script.kill();
        let _ = self.script.wait();
    }
}

#[test]
fn in_a_terminal_it_follows_what_happens_until_a_key_is_pressed() {
    if !is_installed("script") {
        return;
    }
    let host = Host::serve(&[TCP]);
    let mut screen = Screen::open(&host);
    screen.wait_for("REQ/S");
    screen.wait_for("echo 1: echo sha256:");
    done(host.ctl(&["swap", &guest("v2")]));
    // The new version is above the old one.
    screen.wait_for("echo 2: v2.wasm sha256:");
    screen.press(b"\x1b[B");
    screen.wait_for("echo 1: echo sha256:");
    screen.press(b"q");
    assert!(screen.end().contains("ended 0"), "{}", screen.text());
}

#[test]
fn it_ends_with_the_server() {
    if !is_installed("script") {
        return;
    }
    let mut host = Host::serve(&[TCP]);
    let mut screen = Screen::open(&host);
    screen.wait_for("REQ/S");
    host.terminate();
    assert!(screen.end().contains("ended 1"), "{}", screen.text());
}
