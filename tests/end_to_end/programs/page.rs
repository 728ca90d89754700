//! The page about programs: its part that is made from these tests, with figures measured here.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::Program;
use super::list::PROGRAMS;
use super::wasi::{self, Passed};
use crate::harness::plugsock;

const BEGIN: &str = "<!-- Made by the test `the_page_is_true`: begin. -->\n";
const END: &str = "<!-- Made by the test `the_page_is_true`: end. -->\n";

/// How often each figure is measured; the median counts.
const RUNS: usize = 3;

/// Of one program: how large its file is, and how long its first client waits for the answer to its first words, from
/// the start of the server, or of the request where it runs already.
struct Figures {
    size: u64,
    cold: Duration,
    cached: Duration,
    running: Duration,
}

/// The page has what these tests serve and find. With `PLUGSOCK_WRITE_PROGRAMS` set it is written, and the times are
/// measured; otherwise they are what they were.
#[test]
fn the_page_is_true() {
    let files: Option<Vec<PathBuf>> = PROGRAMS.iter().map(|program| program.file.path()).collect();
    let (Some(files), Some(passed)) = (files, wasi::compare()) else { return };
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../host/PROGRAMS.md");
    let page = fs::read_to_string(&path).unwrap();
    let (before, rest) = page.split_once(BEGIN).unwrap();
    let (made, after) = rest.split_once(END).unwrap();
    if std::env::var_os("PLUGSOCK_WRITE_PROGRAMS").is_some() {
        let figures = PROGRAMS.iter().zip(&files).map(|(program, file)| measure(program, file)).collect();
        fs::write(&path, [before, BEGIN, &text(figures, &passed), END, after].concat()).unwrap();
    } else {
        let size = |file| fs::metadata(file).unwrap().len();
        let none = |file| Figures { size: size(file), cold: NONE, cached: NONE, running: NONE };
        let expected = text(files.iter().map(none).collect(), &passed);
        assert_eq!(without_times(made), without_times(&expected), "write it with PLUGSOCK_WRITE_PROGRAMS=1");
    }
}

const NONE: Duration = Duration::ZERO;

/// Words, but for how long something took, and how large it came out.
fn without_times(text: &str) -> Vec<&str> {
    text.split_whitespace()
        .filter(|word| word.trim_start_matches('<').parse::<f64>().is_err() && !is_unit(word))
        .collect()
}

fn is_unit(word: &str) -> bool {
    ["s", "ms", "MB", "kB"].contains(&word)
}

fn text(figures: Vec<Figures>, passed: &[Passed; 2]) -> String {
    let mut text = String::from(
        "\n| program | from | size | first answer, cold | cached | of a running server |\n|---|---|--:|--:|--:|--:|\n",
    );
    for (program, figures) in PROGRAMS.iter().zip(figures) {
        let Figures { size, cold, cached, running } = figures;
        let (size, cold, cached, running) =
            (in_bytes(size), in_seconds(cold), in_seconds(cached), in_seconds(running));
        let (name, from) = (program.name, program.from);
        writeln!(text, "| {name} | {from} | {size} | {cold} | {cached} | {running} |").unwrap();
    }
    for program in &PROGRAMS {
        let command = command_line(program);
        writeln!(text, "\n**{}.** {}\n\n```sh\n{command}\n```", program.name, program.taught).unwrap();
    }
    text + &comparison(passed)
}

fn comparison([node, ours]: &[Passed; 2]) -> String {
    let row = |name, passed: &Passed| {
        let (here, there) = (passed.failed_here.len(), passed.failed_in_wasmtime.len());
        let tests = passed.tests;
        format!("| {name} | {}/{tests} | {}/{tests} |\n", tests - here, tests - there)
    };
    let names =
        |names: &[String]| names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    let only_there = ours.failed_in_wasmtime.iter().filter(|name| !ours.failed_here.contains(name));
    format!(
        "\n### Tests of WASI preview 1\n\n\
         | tests | passed here, over a connection | by plain Wasmtime |\n|---|--:|--:|\n{}{}\n\
         Of those of Node.js, neither passes {}. They expect what Node.js alone has: an error of its own for a path that \
         leads out of a granted directory, clocks of CPU time, directories without `.` and `..`, links that are a byte too\n\
         long, and `POLLHUP` where nobody hangs up.\n\nOf ours, plain Wasmtime alone fails {}.\n\n",
        row("those of Node.js, as it publishes them compiled", node),
        row("`tests/programs/posix`: what C programs expect of POSIX", ours),
        names(&node.failed_here),
        names(&only_there.cloned().collect::<Vec<_>>()),
    )
}

fn command_line(program: &Program) -> String {
    let mut line = format!("plugsock serve tcp://127.0.0.1:10001 {}", program.file.name());
    for option in program.options {
        line += &format!(" {option}");
    }
    if !program.arguments.is_empty() {
        line += " --";
    }
    for argument in program.arguments {
        line += " ";
        line += &quoted(argument);
    }
    line
}

fn quoted(argument: &str) -> String {
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "-_./".contains(letter);
    match argument.chars().all(is_plain) {
        true => argument.to_owned(),
        false => format!("'{}'", argument.replace('\'', r"'\''")),
    }
}

fn measure(program: &Program, file: &Path) -> Figures {
    // Once, so that the host itself is built and in memory.
    drop(plugsock().arg("--version").output());
    let (mut cold, mut cached) = (Vec::new(), Vec::new());
    let mut running = Vec::new();
    for _ in 0..RUNS {
        let cache = TempDir::new().unwrap();
        cold.push(first_answer(program, file, cache.path(), 0).0);
        let (first, next) = first_answer(program, file, cache.path(), RUNS);
        cached.push(first);
        running.extend(next);
    }
    Figures {
        size: fs::metadata(file).unwrap().len(),
        cold: median(cold),
        cached: median(cached),
        running: median(running),
    }
}

/// From the start of a server, and of as many clients after the first.
fn first_answer(program: &Program, file: &Path, cache: &Path, more: usize) -> (Duration, Vec<Duration>) {
    let start = Instant::now();
    let host = program.serve(file, &["--cache-dir", cache.to_str().unwrap()]);
    program.ask_once(&host.connect());
    let first = start.elapsed();
    let next = (0..more).map(|_| {
        let start = Instant::now();
        program.ask_once(&host.connect());
        start.elapsed()
    });
    (first, next.collect())
}

fn median(mut durations: Vec<Duration>) -> Duration {
    durations.sort();
    durations[durations.len() / 2]
}

fn in_seconds(duration: Duration) -> String {
    match duration.as_secs_f64() {
        seconds if seconds < 0.001 => "<1 ms".to_owned(),
        seconds if seconds < 1.0 => format!("{:.0} ms", seconds * 1e3),
        seconds => format!("{seconds:.1} s"),
    }
}

fn in_bytes(size: u64) -> String {
    match size as f64 {
        bytes if bytes < 1e6 => format!("{:.0} kB", bytes / 1e3),
        bytes => format!("{:.1} MB", bytes / 1e6),
    }
}
