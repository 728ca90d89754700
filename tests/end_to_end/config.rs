//! `--config`: what a file says is what the command line would say, for each server and each handler apart.

mod command;
mod refused;
mod reload;

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::harness::{Client, Ended, Host, cache_dir, guest, plugsock, run};

const TCP: &str = "tcp://127.0.0.1:0";

/// A directory with a configuration in it.
pub struct Configured {
    directory: TempDir,
    pub file: PathBuf,
}

impl Configured {
    pub fn new(text: &str) -> Self {
        let directory = TempDir::new().unwrap();
        let file = directory.path().join("plugsock.toml");
        let configured = Self { directory, file };
        configured.write(text);
        configured
    }

    pub fn write(&self, text: &str) {
        let beside = self.file.with_extension("new");
        fs::write(&beside, text).unwrap();
        fs::rename(beside, &self.file).unwrap();
    }

    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    pub fn path(&self) -> String {
        self.file.display().to_string()
    }

    /// A host that serves it on so many sockets.
    pub fn serve(&self, sockets: usize, args: &[&str]) -> Host {
        Host::serve_sockets(plugsock(), sockets, &[&["--config", &self.path()], args].concat())
    }

    /// `plugsock config` with this file.
    pub fn config(&self, args: &[&str]) -> Ended {
        let cache = cache_dir().display().to_string();
        run(plugsock().arg("config").args(args).args(["--cache-dir", &cache]))
    }

    pub fn check(&self) -> Ended {
        self.config(&["check", &self.path()])
    }

    pub fn show(&self, args: &[&str]) -> String {
        let ended = self.config(&[&["show", "--config", &self.path()], args].concat());
        assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{ended:?}");
        ended.stdout
    }
}

/// The answer of the server with this number.
pub fn answer(host: &Host, number: usize) -> String {
    String::from_utf8(Client::ask(&host.addresses[number], b"")).unwrap()
}

/// Two servers with other strategies, and two handlers with other grants.
#[test]
fn servers_and_handlers_differ() {
    let handler = guest("env_and_args");
    let configured = Configured::new(&format!(
        r#"
        [grants]
        env = ["COLOUR=grey"]

        [[server]]
        address = "{TCP}"
        handler = "red"
        concurrency = "pool"
        workers = 2

        [[server]]
        address = ["{TCP}", "unix://@plugsock-config-test-{pid}"]
        handler = "grey"
        concurrency = "async"

        [handler.red]
        file = "{handler}"
        env = {{ COLOUR = "red", SIZE = "1" }}
        dir = "data::/data"

        [handler.grey]
        file = "{handler}"
        arguments = ["first", "--second"]
        "#,
        pid = std::process::id()
    ));
    fs::create_dir(configured.directory().join("data")).unwrap();
    let host = configured.serve(3, &[]);
    let name = handler.rsplit('/').next().unwrap();
    let strategies: Vec<&str> =
        host.ready.iter().map(|line| line.trim().rsplit(' ').next().unwrap()).collect();
    assert_eq!(strategies, ["pool", "async", "async"]);
    assert!(host.ready.iter().all(|line| line.contains(name)), "{:?}", host.ready);
    assert_eq!(answer(&host, 0), format!("arg={handler}\nenv=COLOUR=red\nenv=SIZE=1\ndir=/data\n"));
    let grey = format!("arg={handler}\narg=first\narg=--second\nenv=COLOUR=grey\n");
    assert_eq!([answer(&host, 1), answer(&host, 2)], [grey.clone(), grey]);
    let names: Vec<String> = host.status().slots.into_iter().map(|slot| slot.name).collect();
    assert_eq!(names, ["red", "grey"]);
}

#[test]
fn limits_differ_by_handler() {
    let handler = guest("memory_bomb");
    let configured = Configured::new(&format!(
        r#"
        limits.memory = "8MiB"
        server = [{{ address = "{TCP}", handler = "small" }}, {{ address = "{TCP}", handler = "large" }}]
        handler.small.file = "{handler}"
        handler.large = {{ file = "{handler}", memory = "32MiB" }}
        "#
    ));
    let host = configured.serve(2, &[]);
    let mib = |number| answer(&host, number).trim_end_matches(" MiB\n").parse::<u32>().unwrap();
    assert!((4..8).contains(&mib(0)) && (16..32).contains(&mib(1)), "{}, {}", mib(0), mib(1));
}

/// What is not said is as without a file.
#[test]
fn a_file_need_not_say_everything() {
    let configured = Configured::new("[limits]\nmemory = \"64MiB\"\n");
    let path = configured.path();
    let host = Host::serve(&[TCP, "--config", &path]);
    assert_eq!(host.ask(b"hello"), b"hello");
    configured.write(&format!("[[server]]\naddress = \"{TCP}\"\n"));
    let host = configured.serve(1, &[]);
    assert_eq!(host.ask(b"hello"), b"hello");
    assert_eq!(host.status().slots[0].name, "echo");
}

#[test]
fn the_command_line_goes_before_the_environment_and_that_before_the_file() {
    let configured = Configured::new(&format!(
        r#"
        [log]
        log-level = "error"
        log-format = "json"
        [swapping]
        watch = true
        [cache]
        no-cache = true
        [grants]
        env = ["A=file", "B=file"]
        [[server]]
        address = "{TCP}"
        concurrency = "pool"
        workers = 3
        max-connections = 7
        "#
    ));
    let lines = |args: &[&str], variable: Option<&str>| {
        let mut command = plugsock();
        command
            .args(["config", "show", "--config", &configured.path()])
            .args(args)
            .env_remove("PLUGSOCK_LOG");
        command.envs(variable.map(|filter| ("PLUGSOCK_LOG", filter)));
        let ended = run(&mut command);
        assert_eq!(ended.code, Some(0), "{ended:?}");
        let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        ended.stdout.lines().map(words).collect::<Vec<_>>()
    };
    let has = |lines: &[String], line: &str| {
        assert!(lines.iter().any(|other| other == line), "{line} in {lines:#?}")
    };
    let by_file = lines(&[], None);
    has(&by_file, "log-level = \"error\" # file, 3:9");
    has(&by_file, "log-format = \"json\" # file, 4:9");
    has(&by_file, "watch = true # file, 6:9");
    has(&by_file, "no-cache = true # file, 8:9");
    has(&by_file, "env = [\"A=file\", \"B=file\"] # file, 10:9");
    has(&by_file, "workers = 3 # file, 14:9");
    has(&by_file, "# max-children = 40 # default");
    has(&by_file, "# connection-rate is not set");
    let by_environment = lines(&[], Some("debug"));
    has(&by_environment, "log-level = \"debug\" # environment, PLUGSOCK_LOG");
    let args = [
        "--log-level",
        "warn",
        "--workers",
        "5",
        "--watch=false",
        "--env",
        "C=line",
        "--cache-dir",
        "/tmp/none",
    ];
    let by_line = lines(&args, Some("debug"));
    has(&by_line, "log-level = \"warn\" # command line");
    has(&by_line, "workers = 5 # command line");
    has(&by_line, "watch = false # command line");
    has(&by_line, "env = [\"C=line\"] # command line");
    // One rules the other out.
    has(&by_line, "# no-cache = false # default");
    has(&by_line, "cache-dir = \"/tmp/none\" # command line");
    has(&by_line, "max-connections = 7 # file, 15:9");
}

/// What is shown is a file that says the same.
#[test]
fn what_is_shown_can_be_served() {
    let handler = guest("env_and_args");
    let configured = Configured::new(&format!(
        "[[server]]\naddress = \"{TCP}\"\n[handler.\"a.b\"]\nfile = \"{handler}\"\nenv = ['QUOTED=\"\\\"']\nmemory = \"64MiB\"\n"
    ));
    let shown = configured.show(&[]);
    let again = Configured::new(&shown);
    let without_origins = |text: &str| -> Vec<String> {
        text.lines()
            .map(|line| line.rsplit_once(" # ").map_or(line, |(said, _)| said).trim_end().to_owned())
            .collect()
    };
    assert_eq!(without_origins(&again.show(&[])), without_origins(&shown));
    let host = again.serve(1, &[]);
    assert_eq!(answer(&host, 0), format!("arg={handler}\nenv=QUOTED=\"\\\"\n"));
}

/// An upgrade reads the file anew, and goes on with what served under the same names; what the file names no longer is gone.
#[test]
fn an_upgrade_reads_the_file_anew() {
    let (env, echo) = (guest("env_and_args"), guest("server_info"));
    let text = |level: &str, colour: &str, gone: &str| {
        format!(
            "[log]\nlog-level = \"{level}\"\n[[server]]\naddress = \"{TCP}\"\nhandler = \"one\"\n\
             [[server]]\naddress = [\"unix://@plugsock-upgrade-{}\"{gone}]\nhandler = \"two\"\n\
             [handler.one]\nfile = \"{env}\"\nenv = [\"COLOUR={colour}\"]\n[handler.two]\nfile = \"{echo}\"\n",
            std::process::id()
        )
    };
    let directory = TempDir::new().unwrap();
    let gone = directory.path().join("gone");
    let named = format!(", \"unix://{}\", \"udp://127.0.0.1:0\", \"tcp://127.0.0.2:0\"", gone.display());
    let configured = Configured::new(&text("info", "red", &named));
    let host = configured.serve(5, &[]);
    assert!(answer(&host, 0).contains("COLOUR=red"));
    configured.write(&text("debug", "blue", ""));
    let successor = crate::upgrade::upgrade(&host);
    host.wait_for_exit();
    assert!(answer(&host, 0).contains("COLOUR=blue"));
    assert!(answer(&host, 1).contains("generation=2\n"));
    assert!(!gone.exists());
    for number in 2..5 {
        host.log.wait_for(&format!("{} is served no longer", host.addresses[number]));
    }
    for number in [2, 4] {
        assert!(Client::try_connect(&host.addresses[number]).is_err(), "{}", host.addresses[number]);
    }
    crate::upgrade::end(host, successor);
}
