//! Stores in Redis and NATS that let in whom they know, by TLS.

use super::servers::{Kind, StateServer};
use super::{answer, answers, directory, does_every_operation, serve_by};
use crate::harness::certificates::Ca;
use crate::harness::{for_each_strategy, plugsock, run};

/// A server that wants a password and speaks TLS alone, as `localhost`, and the file of who vouches for it.
struct Secured {
    server: StateServer,
    ca: String,
    _directory: tempfile::TempDir,
}

impl Secured {
    fn start(kind: Kind) -> Option<Self> {
        let (ca, directory) = (Ca::new("the CA"), directory());
        let file = |name: &str| directory.path().join(name).display().to_string();
        ca.server(&["localhost"]).write(directory.path(), "server");
        std::fs::write(file("ca.pem"), &ca.pem).unwrap();
        let (certificate, key) = (file("server.crt"), file("server.key"));
        let server = match kind {
            Kind::Redis => StateServer::start_with(kind, |port| {
                let tls = ["--port", "0", "--tls-port", port, "--tls-auth-clients", "no"];
                let files = [
                    "--tls-cert-file",
                    &certificate,
                    "--tls-key-file",
                    &key,
                    "--tls-ca-cert-file",
                    &file("ca.pem"),
                ];
                let users = ["--user", "default", "off", "--user", "app", "on", ">se/cret", "~*", "+@all"];
                [tls, files].concat().into_iter().chain(users).map(str::to_owned).collect()
            }),
            Kind::Nats => StateServer::start_with(kind, |_| {
                let tls = ["--tls", "--tlscert", &certificate, "--tlskey", &key];
                tls.into_iter().chain(["--user", "app", "--pass", "se/cret"]).map(str::to_owned).collect()
            }),
        };
        Some(Self { server: server?, ca: file("ca.pem"), _directory: directory })
    }

    fn url(&self, user: &str, host: &str, options: &str) -> String {
        let port = self.server.port;
        match self.server.kind {
            Kind::Redis => format!("rediss://{user}{host}:{port}{options}"),
            Kind::Nats => format!("tls://{user}{host}:{port}/counts{options}"),
        }
    }
}

const USER: &str = "app:se%2Fcret@";

#[test]
fn who_is_known_is_let_in_by_tls() {
    for kind in [Kind::Redis, Kind::Nats] {
        let Some(secured) = Secured::start(kind) else { continue };
        let url = secured.url(USER, "localhost", &format!("?ca={}", secured.ca));
        for_each_strategy(|strategy| {
            let host = serve_by(strategy, &format!("counts={url}"));
            assert_eq!(answer(&host, &format!("counts set {strategy} 1")), "set", "{kind:?}");
            assert!(host.log.lines_with("cannot be reached").is_empty());
        });
        let got = run(plugsock().args(["state", "get", &url, "forking"]));
        assert_eq!((got.code, got.stdout.as_str()), (Some(0), "1\n"), "{got:?}");
    }
}

#[test]
fn why_one_is_not_let_in() {
    for kind in [Kind::Redis, Kind::Nats] {
        let Some(secured) = Secured::start(kind) else { continue };
        let believed = format!("?ca={}", secured.ca);
        for (user, host, options, reason) in [
            ("app:wrong@", "localhost", &*believed, "USER:PASSWORD@HOST"),
            ("nobody:se%2Fcret@", "localhost", &believed, "USER:PASSWORD@HOST"),
            ("", "localhost", &believed, "USER:PASSWORD@HOST"),
            (USER, "localhost", "", "?ca=FILE"),
            (USER, "127.0.0.1", &believed, "name the server as its certificate does"),
        ] {
            let url = secured.url(user, host, options);
            let served = serve_by("threading", &format!("counts={url}"));
            let failed = answer(&served, "counts get a");
            assert!(failed.starts_with("error ") && failed.contains(reason), "{kind:?} {url}: {failed}");
            let line = served.log.wait_for("cannot be reached now");
            assert!(line.contains(reason) && !line.contains("cret@"), "{kind:?} {url}: {line}");
            let ended = run(plugsock().args(["state", "get", &url, "a"]));
            assert!(ended.code == Some(1) && ended.stderr.contains(reason), "{kind:?} {url}: {ended:?}");
        }
        // Who does not speak TLS to it gets no further.
        let plain = secured.url(USER, "localhost", "").replace("rediss://", "redis://");
        if kind == Kind::Redis {
            assert!(
                answer(&serve_by("threading", &format!("counts={plain}")), "counts get a")
                    .starts_with("error ")
            );
        }
    }
}

/// What there is to see at the start is seen then.
#[test]
fn certificates_that_are_none_are_refused() {
    let directory = directory();
    let file = directory.path().join("ca.pem").display().to_string();
    for (text, reason) in [(None, "cannot be read"), (Some("a\n"), "it has no certificate")] {
        text.inspect(|text| std::fs::write(&file, text).unwrap());
        for url in [format!("rediss://localhost?ca={file}"), format!("tls://localhost/counts?ca={file}")] {
            let ended =
                run(plugsock().args(["serve", "tcp://127.0.0.1:0", "--state", &format!("counts={url}")]));
            assert_eq!(ended.code, Some(1), "{url}");
            assert!(ended.stderr.contains(reason) && ended.stderr.contains("ca.pem"), "{url}: {ended:?}");
        }
    }
}

/// All of a store is on one server of a cluster, whichever of them is named.
#[test]
fn a_cluster_of_redis_keeps_a_store_on_one_server() {
    let start = || {
        StateServer::start_with(Kind::Redis, |_| {
            let bus = super::servers::free_port().to_string();
            ["--cluster-enabled", "yes", "--cluster-port", &bus].map(str::to_owned).to_vec()
        })
    };
    let (Some(one), Some(other)) = (start(), start()) else { return };
    let redis = |server: &StateServer, args: &[&str]| {
        let port = server.port.to_string();
        run(std::process::Command::new("redis-cli").args(["-p", &port]).args(args)).stdout
    };
    let url = |server: &StateServer, rest: &str| format!("counts=redis://127.0.0.1:{}{rest}", server.port);
    // As long as nobody has the slots there is an error that says so.
    let host = serve_by("threading", &url(&one, ""));
    let failed = answer(&host, "counts get a");
    assert!(failed.to_lowercase().contains("slot"), "{failed}");
    assert_eq!(redis(&one, &["cluster", "addslotsrange", "0", "16383"]), "OK\n");
    crate::harness::wait_until(|| redis(&one, &["cluster", "info"]).contains("cluster_state:ok"));
    does_every_operation(&serve_by("threading", &url(&one, "")));
    let host = serve_by("threading", &url(&one, "/1"));
    let failed = answer(&host, "counts get a");
    assert!(failed.contains("database 0"), "{failed}");
    host.log.wait_for("a cluster has database 0 alone");
    // Then they share them.
    assert_eq!(redis(&one, &["cluster", "delslotsrange", "8192", "16383"]), "OK\n");
    assert_eq!(redis(&other, &["cluster", "addslotsrange", "8192", "16383"]), "OK\n");
    let bus = redis(&other, &["config", "get", "cluster-port"]);
    let bus = bus.lines().last().unwrap().to_owned();
    let port = other.port.to_string();
    assert_eq!(redis(&one, &["cluster", "meet", "127.0.0.1", &port, &bus]), "OK\n");
    for server in [&one, &other] {
        crate::harness::wait_until(|| redis(server, &["cluster", "info"]).contains("cluster_state:ok"));
    }
    let of = |server: &StateServer, name: &&str| {
        let slot: u32 = redis(&one, &["cluster", "keyslot", name]).trim().parse().unwrap();
        (slot < 8192) == (server.port == one.port)
    };
    for home in [&one, &other] {
        let hash = ["a", "b", "c", "d", "e", "f"].into_iter().find(|name| of(home, name)).unwrap();
        for asked in [&one, &other] {
            for_each_strategy(|strategy| {
                let host = serve_by(strategy, &url(asked, &format!("?hash={hash}")));
                let key = format!("{strategy}-{}", asked.port);
                assert_eq!(answer(&host, &format!("counts increment {key} 1")), "1");
            });
        }
        assert_eq!(redis(home, &["hlen", hash]), "10\n");
    }
}

/// At once and by its words, where asking on would be in vain, and once in the log.
#[test]
fn what_a_server_does_not_allow_is_said() {
    for kind in [Kind::Redis, Kind::Nats] {
        let directory = directory();
        let configuration = directory.path().join("conf");
        let path = configuration.display().to_string();
        let (text, option) = match kind {
            Kind::Redis => ("user default on nopass ~* &* +@all -hset", "--include"),
            Kind::Nats => (
                "authorization { users = [ { user: all, password: all },\n\
                 { user: reader, password: reader, permissions: { publish: { deny: \"$KV.counts.>\" } } } ] }\n",
                "-c",
            ),
        };
        std::fs::write(&configuration, text).unwrap();
        let Some(server) = StateServer::start_with(kind, |_| vec![option.to_owned(), path]) else { continue };
        let (url, refusal) = match kind {
            Kind::Redis => (format!("redis://127.0.0.1:{}", server.port), "this command"),
            Kind::Nats => (
                format!("nats://reader:reader@127.0.0.1:{}/counts", server.port),
                "NATS does not allow Publish to \"$KV.counts.",
            ),
        };
        for_each_strategy(|strategy| {
            let host = serve_by(strategy, &format!("counts={url}"));
            let said = answers(&host, &["counts set a 1", "counts increment a 1", "counts get a"]);
            assert!(
                said[..2].iter().all(|said| said.starts_with("error ") && said.contains(refusal)),
                "{said:?}"
            );
            assert_eq!(said[2], "none", "{kind:?} {strategy}: it is read all the same");
            assert!(host.log.wait_for("state counts: ").contains(refusal));
            assert_eq!(host.log.lines_with("state counts: ").len(), 1);
        });
        let set = run(plugsock().args(["state", "set", &url, "a", "1"]));
        assert!(set.code == Some(1) && set.stderr.contains(refusal), "{set:?}");
    }
}
