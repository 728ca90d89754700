//! `plugsock doctor` on machines with less: what it finds, what it says to do, and that `serve` agrees.

use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::process::{Resource, Rlimit, setrlimit};
use serde_json::Value;

use crate::harness::{Cgroup, STRATEGIES, is_installed, plugsock, run};

/// What it said, and whether by that so many requests can be served.
struct Diagnosis {
    report: Value,
    serves: bool,
}

impl Diagnosis {
    fn of(command: &mut Command, args: &[&str]) -> Self {
        let ended = run(command.args(["doctor", "--json"]).args(args));
        let report: Value =
            serde_json::from_str(&ended.stdout).unwrap_or_else(|error| panic!("{error}: {ended:?}"));
        let serves = report["serves"].as_bool().unwrap();
        assert_eq!(ended.code, Some(if serves { 0 } else { 1 }), "{ended:?}");
        Self { report, serves }
    }

    fn finding(&self, what: &str) -> &Value {
        let findings = self.report["findings"].as_array().unwrap();
        let found = findings.iter().find(|finding| finding["what"] == what);
        found.unwrap_or_else(|| panic!("nothing of {what}: {findings:?}"))
    }

    /// It says this of it, with all of `words` in its advice.
    fn says(&self, what: &str, verdict: &str, words: &[&str]) {
        let finding = self.finding(what);
        assert_eq!(finding["verdict"], verdict, "{finding}");
        let advice = finding["advice"].as_str().unwrap_or_default();
        words.iter().for_each(|word| assert!(advice.contains(word), "no '{word}' in {finding}"));
    }
}

fn limited(resource: Resource, limit: u64) -> Command {
    let mut command = plugsock();
    let limit = Rlimit { current: Some(limit), maximum: Some(limit) };
    // SAFETY: it makes a system call only.
    unsafe { command.pre_exec(move || Ok(setrlimit(resource, limit)?)) };
    command
}

#[test]
fn a_machine_that_will_do_is_told_so_for_each_strategy() {
    for strategy in STRATEGIES {
        let diagnosis = Diagnosis::of(&mut plugsock(), &["--concurrency", strategy, "--max-requests", "100"]);
        assert!(diagnosis.serves, "{strategy}: {}", diagnosis.report);
        assert_eq!(diagnosis.report["concurrency"], strategy);
        diagnosis.says("a request", "good", &[]);
        diagnosis.says("sealed files", "good", &[]);
        assert!(diagnosis.finding("descriptors")["requests"].as_u64().unwrap() >= 100);
    }
}

#[test]
fn text_has_a_line_for_each_thing_and_a_verdict() {
    let ended = run(plugsock().args(["doctor", "--max-requests", "100"]));
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{ended:?}");
    for words in
        ["  descriptors ", "vm.max_map_count", " open requests\n", "  memory ", "  seccomp ", "  inotify "]
    {
        assert!(ended.stdout.contains(words), "no {words:?} in {}", ended.stdout);
    }
    let verdict = "\n100 open requests can be served here by --concurrency threading.\n";
    assert!(ended.stdout.ends_with(verdict), "{}", ended.stdout);
}

#[test]
fn too_many_requests_for_the_kernel_are_said_with_what_to_set() {
    let diagnosis = Diagnosis::of(&mut plugsock(), &["--max-requests", "1000000000"]);
    assert!(!diagnosis.serves);
    diagnosis.says("memory areas", "too-low", &["sysctl -w vm.max_map_count=12000002000"]);
    diagnosis.says("descriptors", "too-low", &["ulimit -Hn", "1000000064"]);
    diagnosis.says("memory", "too-low", &["of memory and there are"]);
    diagnosis.says("processes", "too-low", &["1000000000 threads"]);
    let tasks = ["--max-requests", "1000000000", "--concurrency", "async"];
    let areas = 6_000_002_000 + 6 * std::thread::available_parallelism().unwrap().get() as u64;
    Diagnosis::of(&mut plugsock(), &tasks).says(
        "memory areas",
        "too-low",
        &[&format!("vm.max_map_count={areas}")],
    );
}

/// Root is above limits, unless it has given that up.
#[test]
fn too_few_descriptors_are_said_as_serve_says_it() {
    if !is_installed("setpriv") {
        return;
    }
    let command = || {
        let mut command = Command::new("sh");
        let no_resource =
            if rustix::process::geteuid().is_root() { "--bounding-set=-sys_resource" } else { "" };
        let script = format!("ulimit -n 100; exec setpriv --inh-caps=-all {no_resource} \"$0\" \"$@\"");
        command.args(["-c", &script]).arg(plugsock().get_program());
        command
    };
    let diagnosis = Diagnosis::of(&mut command(), &[]);
    assert!(!diagnosis.serves);
    diagnosis.says("descriptors", "too-low", &["1064 descriptors", "may have 100", "ulimit -Hn"]);
    assert_eq!(diagnosis.finding("descriptors")["requests"], 36);
    assert_eq!(diagnosis.finding("descriptors")["found"], "soft 100, hard 100");
    let served = run(command().args(["serve", "unix:///no/such/directory/socket"]));
    let advice = diagnosis.finding("descriptors")["advice"].as_str().unwrap();
    assert!(served.stderr.contains(advice), "{served:?}");

    assert!(Diagnosis::of(&mut command(), &["--max-requests", "36"]).serves);
    // One more for each process.
    assert!(!Diagnosis::of(&mut command(), &["--max-requests", "36", "--concurrency", "forking"]).serves);
}

#[test]
fn limits_that_end_a_host_are_fatal() {
    let diagnosis = Diagnosis::of(&mut limited(Resource::Cpu, 1000), &[]);
    assert!(!diagnosis.serves);
    diagnosis.says("cpu time", "fatal", &["1000 s of CPU time", "ulimit -t unlimited"]);
}

/// What is tried agrees with what is reckoned.
#[test]
fn a_small_address_space_is_too_small_for_many_requests() {
    let limit = 1 << 40;
    let diagnosis = Diagnosis::of(&mut limited(Resource::As, limit), &[]);
    assert!(!diagnosis.serves);
    diagnosis.says("address space", "fatal", &["1099511627776", "ulimit -v"]);
    diagnosis.says("a request", "fatal", &["ulimit -v"]);
    let enough = diagnosis.finding("address space")["requests"].as_u64().unwrap();
    assert!((50..100).contains(&enough), "{enough}");
    let enough = enough.to_string();
    let diagnosis = Diagnosis::of(&mut limited(Resource::As, limit), &["--max-requests", &enough]);
    assert!(diagnosis.serves, "{}", diagnosis.report);
}

#[test]
fn a_small_file_size_is_noted_and_one_that_is_too_small_is_tried_in_vain() {
    let diagnosis = Diagnosis::of(&mut limited(Resource::Fsize, 16 << 20), &[]);
    assert!(diagnosis.serves, "{}", diagnosis.report);
    diagnosis.says("file size", "lacking", &["16777216 bytes", "ulimit -f"]);
    let diagnosis = Diagnosis::of(&mut limited(Resource::Fsize, 4096), &[]);
    assert!(!diagnosis.serves);
    diagnosis.says("a request", "fatal", &["no more than 4096 bytes", "ulimit -f"]);
}

#[test]
fn what_a_cgroup_leaves_is_what_counts() {
    if let Some(cgroup) = Cgroup::memory(100 << 20) {
        let diagnosis = Diagnosis::of(&mut cgroup.plugsock(), &[]);
        assert!(!diagnosis.serves);
        diagnosis.says("memory", "too-low", &["memory.", "MemoryMax="]);
        let enough = diagnosis.finding("memory")["requests"].as_u64().unwrap();
        assert!((200..600).contains(&enough), "{enough}");
        assert!(Diagnosis::of(&mut cgroup.plugsock(), &["--max-requests", "100"]).serves);
    }
    if let Some(cgroup) = Cgroup::processes(100) {
        let diagnosis = Diagnosis::of(&mut cgroup.plugsock(), &[]);
        assert!(!diagnosis.serves);
        diagnosis.says("processes", "too-low", &["pids.max", "TasksMax="]);
        let enough = diagnosis.finding("processes")["requests"].as_u64().unwrap();
        assert!((50..100).contains(&enough), "{enough}");
        assert!(Diagnosis::of(&mut cgroup.plugsock(), &["--concurrency", "async"]).serves);
    }
    if let Some(cgroup) = Cgroup::processors(50) {
        let diagnosis = Diagnosis::of(&mut cgroup.plugsock(), &[]);
        assert!(diagnosis.serves, "{}", diagnosis.report);
        diagnosis.says("processors", "lacking", &["CPUQuota="]);
        assert!(diagnosis.finding("processors")["found"].as_str().unwrap().contains("0.50 of their time"));
    }
}

/// In a namespace where nobody may watch files, and in one without /proc.
#[test]
fn a_kernel_that_gives_less_is_noted() {
    if !is_installed("unshare") {
        return;
    }
    let unshared = |script: &str| {
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--mount", "sh", "-c"]);
        command.arg(format!("{script} && exec \"$0\" \"$@\"")).arg(plugsock().get_program());
        command
    };
    if !unshared("true").arg("--version").output().unwrap().status.success() {
        eprintln!("skipped: this process may have no namespaces");
        return;
    }
    let diagnosis = Diagnosis::of(&mut unshared("echo 0 > /proc/sys/user/max_inotify_instances"), &[]);
    assert!(diagnosis.serves, "{}", diagnosis.report);
    diagnosis.says("inotify", "lacking", &["once a second", "fs.inotify.max_user_instances"]);

    let diagnosis = Diagnosis::of(&mut unshared("mount -t tmpfs none /proc"), &[]);
    assert!(!diagnosis.serves);
    diagnosis.says("/proc", "fatal", &["mount -t proc"]);
}

#[test]
fn a_user_without_a_place_for_the_cache_is_told() {
    let diagnosis = Diagnosis::of(plugsock().env("XDG_CACHE_HOME", "/proc/nowhere"), &[]);
    assert!(diagnosis.serves, "{}", diagnosis.report);
    diagnosis.says("cache", "lacking", &["--cache-dir"]);
}
