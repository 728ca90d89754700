//! What `host/packaging` has: systemd units, a Debian package, an image.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::harness::{
    Host, Machine, PATIENCE, children, is_installed, plugin, plugsock, run, succeeded, wait_until,
};

fn packaging(name: &str) -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../host/packaging")).join(name)
}

/// The units as they are, but for where the program is.
fn units() -> TempDir {
    let directory = TempDir::new().unwrap();
    let program = plugsock().get_program().to_str().unwrap().to_owned();
    for name in ["plugsock.service", "plugsock.socket"] {
        let unit = fs::read_to_string(packaging(name)).unwrap().replace("/usr/bin/plugsock", &program);
        fs::write(directory.path().join(name), unit).unwrap();
    }
    directory
}

#[test]
fn units_are_well_formed_and_confined() {
    if !is_installed("systemd-analyze") {
        return;
    }
    let directory = units();
    let mut verify = Command::new("systemd-analyze");
    verify.args(["verify", "--man=no", "./plugsock.service", "./plugsock.socket"]).current_dir(&directory);
    let verified = run(&mut verify);
    assert_eq!((verified.code, verified.stderr.as_str()), (Some(0), ""), "{verified:?}");
    let mut security = Command::new("systemd-analyze");
    // In tenths: 10 is open, 0 is shut.
    security.args(["security", "--no-pager", "--offline=true", "--threshold=20"]);
    let confined = run(security.arg(directory.path().join("plugsock.service")));
    assert_eq!(confined.code, Some(0), "{confined:?}");
}

/// Runs the script that makes the package, of the program that was built already; `None` where that cannot be.
pub fn make_package(directory: &Path) -> Option<()> {
    // Where `tests/programs/install` puts it, or anywhere else.
    let programs = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/programs/cargo_deb/bin");
    let is_there = Path::new(programs).join("cargo-deb").exists() || is_installed("cargo-deb");
    if !is_there || !is_installed("dpkg") {
        return None;
    }
    let path = format!("{}:{programs}", std::env::var("PATH").unwrap());
    let target = Path::new(plugsock().get_program()).ancestors().nth(2).unwrap().to_owned();
    let mut deb = Command::new(packaging("deb"));
    let made =
        deb.arg("--no-build").arg(directory).env("CARGO_TARGET_DIR", target).env("PATH", path).output();
    succeeded(&made.unwrap());
    Some(())
}

/// The program and its package on a machine whose first process is systemd, where it is installed, started, looked at, reloaded,
/// replaced, watched and removed.
#[test]
fn the_debian_package_is_installed_serves_and_is_removed() {
    let directory = TempDir::new().unwrap();
    let Some(()) = make_package(directory.path()) else { return };
    let package = fs::read_dir(directory.path()).unwrap().next().unwrap().unwrap().path();
    let contents = run(Command::new("dpkg").arg("--contents").arg(&package)).stdout;
    for file in [
        " ./usr/bin/plugsock\n",
        " ./usr/lib/systemd/system/plugsock.service\n",
        " ./usr/lib/systemd/system/plugsock.socket\n",
        " ./usr/share/man/man1/plugsock-serve.1.gz\n",
        " ./usr/share/bash-completion/completions/plugsock\n",
        " ./etc/plugsock/plugsock.toml\n",
    ] {
        assert!(contents.contains(file), "no{file} in {contents}");
    }

    let Some(machine) = Machine::start() else { return };
    machine.put(&package, "/plugsock.deb");
    machine.succeeds("dpkg -i /plugsock.deb && plugsock --version && man --where plugsock-ctl-swap");
    assert_eq!(machine.run("systemctl is-enabled plugsock.service").stdout, "disabled\n");

    machine.succeeds("systemctl start plugsock.socket plugsock.service");
    let ask = "exec 3<>/dev/tcp/127.0.0.1/10001; echo hello >&3; head -n 1 <&3";
    let ask = format!("bash -c '{ask}'");
    assert_eq!(machine.succeeds(&ask), "hello\n");
    let user = machine.succeeds("ps -o user= -p $(systemctl show -P MainPID plugsock)");
    assert_eq!(user.trim(), "plugsock");

    // By forking, with a handler that is compiled there, and both confine themselves besides.
    machine.put(plugin("upper"), "/var/lib/plugsock/handler.wasm");
    machine.succeeds(
        "printf '[serving]\\nconcurrency = \"forking\"\\n[handler.upper]\\nfile = \"/var/lib/plugsock/handler.wasm\"\\n' \\
            > /etc/plugsock/plugsock.toml
        systemctl restart plugsock",
    );
    assert_eq!(machine.succeeds(&ask), "HELLO\n");
    machine.put(plugin("echo"), "/var/lib/plugsock/handler.wasm");
    machine.succeeds("systemctl reload plugsock");
    wait_until(|| machine.succeeds(&ask) == "hello\n");
    assert!(machine.succeeds("plugsock ctl status").contains("forking"));

    // What the package brings next takes over, and who is connected goes on. The watchdog is that of the process which took over.
    let main = || machine.succeeds("systemctl show -P MainPID plugsock");
    let connected = machine.succeeds(
        r#"bash -euc '
        exec 3<>/dev/tcp/127.0.0.1/10001; echo before >&3; head -n 1 <&3
        main() { systemctl show -P MainPID plugsock; }
        before=$(main); dpkg -i /plugsock.deb >&2
        while [ "$(main)" = "$before" ]; do sleep 0.05; done
        echo after >&3; head -n 1 <&3'"#,
    );
    assert_eq!(connected, "before\nafter\n");
    assert_eq!(machine.succeeds(&ask), "hello\n");
    let journal = machine.succeeds("journalctl --no-pager --unit plugsock");
    assert!(!journal.contains("runs without") && !journal.contains("cannot"), "{journal}");

    // A host that stands still is started anew.
    machine.succeeds(
        "mkdir /run/systemd/system/plugsock.service.d
        printf '[Service]\\nWatchdogSec=1\\n' > /run/systemd/system/plugsock.service.d/watchdog.conf
        systemctl daemon-reload && systemctl restart plugsock",
    );
    let stopped = main();
    machine.succeeds("kill -STOP $(systemctl show -P MainPID plugsock)");
    wait_until(|| ![stopped.as_str(), "0\n"].contains(&main().as_str()));
    machine.succeeds("systemctl start plugsock");
    assert_eq!(machine.succeeds(&ask), "hello\n");

    machine.succeeds("systemctl stop plugsock.service plugsock.socket");
    assert_eq!(machine.succeeds("systemctl show -P Result plugsock"), "success\n");
    machine.succeeds("dpkg --purge plugsock && ! test -e /usr/bin/plugsock && ! test -e /etc/plugsock");
}

/// The last stage of the Dockerfile, as far as it can be had without Docker: the root that it copies, its environment, its user and
/// its command, as the first process.
#[test]
fn the_image_has_all_that_its_command_needs() {
    if !is_installed("unshare") || !is_installed("setpriv") || !rustix::process::geteuid().is_root() {
        return;
    }
    let dockerfile = fs::read_to_string(packaging("Dockerfile")).unwrap();
    let (_, last) = dockerfile.split_once("FROM scratch\n").unwrap();
    let of = |name: &str| last.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim();
    assert!(dockerfile.contains("RUN host/packaging/image-root /built/bin/plugsock /image\n"));
    assert_eq!(of("COPY"), "--from=build /image /");
    let list = |name: &str| serde_json::from_str::<Vec<String>>(of(name)).unwrap();
    let (entrypoint, command) = (list("ENTRYPOINT"), list("CMD"));
    let (user, group) = of("USER").split_once(':').unwrap();

    let directory = TempDir::new().unwrap();
    let root = directory.path().join("image");
    let mut image_root = Command::new(packaging("image-root"));
    succeeded(&image_root.arg(plugsock().get_program()).arg(&root).output().unwrap());
    // An address that no other test has, and that is seen from here.
    assert_eq!(command, ["serve", "tcp://:10001"]);
    let command = ["serve", "tcp://127.0.0.1:0"];
    // As each container's runtime has it.
    let devices = "mkdir -p \"$0/dev\" && touch \"$0/dev/null\" && mount --bind /dev/null \"$0/dev/null\"";
    let script = format!(
        "{devices} && mount -t proc proc \"$0/proc\" && exec chroot --userspec=\"$1\" \"$0\" \"${{@:2}}\""
    );
    let mut unshare = Command::new("unshare");
    unshare.args(["--pid", "--fork", "--kill-child", "--mount", "bash", "-c", &script]).arg(&root);
    unshare
        .arg(format!("{user}:{group}"))
        .args(entrypoint)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap());
    unshare.envs(of("ENV").split(' ').map(|variable| variable.split_once('=').unwrap()));
    for strategy in ["threading", "forking"] {
        let mut command_line = Command::new(unshare.get_program());
        command_line.args(unshare.get_args()).env_clear();
        command_line.envs(unshare.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let args = [&command[1..], &["--concurrency", strategy, "--cache-dir", "/cache/plugsock"]].concat();
        let host = Host::serve_by(command_line, &args);
        assert_eq!(host.ask(b"hello"), b"hello");
        let first = children(host.pid())[0];
        let status = fs::read_to_string(format!("/proc/{first}/status")).unwrap();
        assert!(status.contains(&format!("\nUid:\t{user}\t")), "{status}");
        assert!(status.lines().any(|line| line.starts_with("NSpid:") && line.ends_with("\t1")), "{status}");
        let (open, address) = (host.greeted(), host.address().clone());
        rustix::process::kill_process(first, rustix::process::Signal::TERM).unwrap();
        host.log.wait_for("shutting down");
        // What is open goes on, and nothing else begins.
        assert_eq!(open.exchange(b"x"), b"x");
        host.wait_for_exit();
        assert!(std::net::TcpStream::connect_timeout(&socket_address(&address), PATIENCE).is_err());
        assert!(!host.log.text().contains("runs without"), "{}", host.log.text());
    }
}

fn socket_address(address: &plugsock::ServeAddress) -> std::net::SocketAddr {
    address.to_string().trim_start_matches("tcp://").parse().unwrap()
}
