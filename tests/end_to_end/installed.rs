//! What is installed: the program alone, on a machine that has nothing else of ours, and what it writes for shells and
//! for `man`.

use std::fs;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use crate::harness::{Ended, Host, is_installed, plugin, plugsock, run, succeeded};

const SUBCOMMANDS: [&str; 8] = ["serve", "ctl", "call", "check", "new", "sign", "completions", "man"];

/// The program and a handler in a directory, and whoever runs it has nothing: no cargo, no home, no programs.
struct Alone(TempDir);

impl Alone {
    fn new() -> Self {
        let alone = Self(TempDir::new().unwrap());
        succeeded(&Command::new("cp").arg(plugsock().get_program()).arg(alone.program()).output().unwrap());
        fs::copy(plugin("echo"), alone.directory().join("echo.wasm")).unwrap();
        alone
    }

    fn directory(&self) -> &Path {
        self.0.path()
    }

    fn program(&self) -> std::path::PathBuf {
        self.directory().join("plugsock")
    }

    fn command(&self) -> Command {
        let mut command = Command::new(self.program());
        command.current_dir(self.directory()).env_clear().env("PATH", "/nowhere");
        command
    }

    fn run(&self, args: &[&str]) -> Ended {
        let ended = run(self.command().args(args));
        assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{args:?}: {ended:?}");
        ended
    }
}

#[test]
fn the_program_alone_is_all_that_is_needed() {
    let alone = Alone::new();
    assert!(alone.run(&["check", "echo.wasm"]).stdout.contains("plugsock:handler/request-handler@"));
    assert_eq!(alone.run(&["call", "echo.wasm"]).stdout, "");
    assert!(alone.run(&["wit"]).stdout.contains("package plugsock:handler@"));
    for language in ["rust", "c", "zig", "assemblyscript", "go", "python", "js", "ts"] {
        alone.run(&["new", &format!("a-{language}"), "--lang", language]);
        alone.run(&["sdk", language, "--out", &format!("sdk/{language}")]);
        assert!(
            fs::read_dir(alone.directory().join("sdk").join(language)).unwrap().count() > 0,
            "{language}"
        );
    }
    alone.run(&["keygen", "--no-password", "release"]);
    alone.run(&["sign", "--key", "release.key", "echo.wasm"]);
    for handler in [&[][..], &["echo.wasm", "--public-key", "release.pub"]] {
        for strategy in ["threading", "forking"] {
            let args = [&["tcp://127.0.0.1:0", "--no-cache", "--concurrency", strategy], handler].concat();
            let mut host = Host::serve_by(alone.command(), &args);
            assert_eq!(host.ask(b"hello"), b"hello");
            assert!(host.terminate().success());
        }
    }
}

/// What bash offers once it has read the script, as it does when somebody presses the tabulator.
fn completed(words: &[&str]) -> Vec<String> {
    let script = r#"
        set -eu
        source <("$0" completions bash)
        COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMPREPLY=()
        function=$(complete -p plugsock | sed -n 's/.*-F \([^ ]*\).*/\1/p')
        "$function" plugsock "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
        printf '%s\n' "${COMPREPLY[@]}"
    "#;
    let mut bash = Command::new("bash");
    bash.args(["-c", script]).arg(plugsock().get_program()).arg("plugsock").args(words);
    let ended = run(&mut bash);
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{ended:?}");
    ended.stdout.split_whitespace().map(str::to_owned).collect()
}

#[test]
fn bash_completes_subcommands_options_and_values() {
    let offered = completed(&[""]);
    for subcommand in SUBCOMMANDS {
        assert!(offered.iter().any(|word| word == subcommand), "no {subcommand} in {offered:?}");
    }
    assert!(!offered.iter().any(|word| word.contains("helper")), "{offered:?}");
    assert_eq!(completed(&["ser"]), ["serve"]);
    assert_eq!(completed(&["serve", "--concurr"]), ["--concurrency"]);
    assert!(completed(&["ctl", "s"]).contains(&"swap".to_owned()));
    assert!(completed(&["completions", ""]).contains(&"zsh".to_owned()));
}

/// Each shell that is there reads its script without complaint.
#[test]
fn shells_read_their_scripts() {
    let directory = TempDir::new().unwrap();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let ended = run(plugsock().args(["completions", shell]));
        assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{shell}: {ended:?}");
        for subcommand in SUBCOMMANDS {
            assert!(ended.stdout.contains(subcommand), "{shell}: no {subcommand}");
        }
        assert!(!ended.stdout.contains("helper-process"), "{shell}");
        let script = directory.path().join(shell);
        fs::write(&script, ended.stdout).unwrap();
        if ["bash", "zsh", "fish"].contains(&shell) && is_installed(shell) {
            let ended = run(Command::new(shell).arg("-n").arg(script));
            assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{shell}: {ended:?}");
        }
    }
    let refused = run(plugsock().args(["completions", "cmd.exe"]));
    assert!(refused.code == Some(2) && refused.stderr.contains("powershell"), "{refused:?}");
}

#[test]
fn manual_pages_are_well_formed_and_say_what_help_says() {
    let directory = TempDir::new().unwrap();
    let pages = directory.path().join("share/man1");
    let written = run(plugsock().arg("man").arg(&pages));
    assert_eq!((written.code, written.stderr.as_str()), (Some(0), ""), "{written:?}");
    let names: Vec<_> = fs::read_dir(&pages).unwrap().map(|entry| entry.unwrap().path()).collect();
    let page = |name: &str| fs::read_to_string(pages.join(name)).unwrap();
    for subcommand in SUBCOMMANDS {
        assert!(page("plugsock.1").contains(&format!("plugsock\\-{subcommand}(1)")), "{subcommand}");
        assert!(page(&format!("plugsock-{subcommand}.1")).contains("\n.SH OPTIONS\n"), "{subcommand}");
    }
    assert!(page("plugsock-ctl-swap.1").contains("plugsock ctl swap"));
    assert!(names.iter().all(|name| !name.to_string_lossy().contains("helper")), "{names:?}");
    let serve = page("plugsock-serve.1");
    for words in [
        "\\-\\-max\\-requests",
        ".SH \"LIMITS OF ONE REQUEST\"\n",
        ".SH EXAMPLES\n.nf\nplugsock serve\n",
        "SIGUSR2",
    ] {
        assert!(serve.contains(words), "no {words:?} in {serve}");
    }
    if is_installed("mandoc") {
        let linted = run(Command::new("mandoc").args(["-T", "lint", "-W", "error"]).args(&names));
        assert_eq!((linted.code, linted.stdout.as_str()), (Some(0), ""), "{linted:?}");
    }
    if is_installed("man") {
        for name in names {
            let mut man = Command::new("man");
            man.args(["--warnings", "--local-file"]).arg(&name).env("MANPAGER", "cat").env("MANWIDTH", "80");
            let shown = run(&mut man);
            assert_eq!((shown.code, shown.stderr.as_str()), (Some(0), ""), "{shown:?}");
            assert!(shown.stdout.contains("SYNOPSIS"), "{shown:?}");
        }
    }
}

#[test]
fn pages_that_cannot_be_written_are_an_error() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("file");
    fs::write(&file, "").unwrap();
    let refused = run(plugsock().arg("man").arg(file.join("man1")));
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(
        refused.stderr.contains("cannot write manual pages to") && refused.stderr.contains("man1"),
        "{refused:?}"
    );
    // Nothing is left of one that could not be put in its place.
    let page = directory.path().join("man1/plugsock-serve.1");
    fs::create_dir_all(&page).unwrap();
    let refused = run(plugsock().arg("man").arg(page.parent().unwrap()));
    assert!(refused.code == Some(1) && refused.stderr.contains("it is a directory"), "{refused:?}");
    let is_page = |name: &str| name.starts_with("plugsock") && name.ends_with(".1");
    for entry in fs::read_dir(page.parent().unwrap()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(is_page(&name), "{name} was left behind");
    }
}
