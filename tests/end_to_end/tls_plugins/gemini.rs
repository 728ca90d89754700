//! `gemini`: files by TLS, and some for those alone who have a certificate.

use std::fs;

use tempfile::TempDir;

use super::{TCP, TLS, port, python, shell};
use crate::harness::{Authority, Host, Identity, for_each_strategy, is_installed, pattern, plugin};

/// A server, its site, and who signs certificates for both sides.
struct Capsule {
    host: Host,
    authority: Authority,
    site: TempDir,
}

impl Capsule {
    fn serve(address: &str, options: &[&str], args: &[&str]) -> Self {
        let authority = Authority::new();
        let site = TempDir::new().unwrap();
        for folder in ["docs", "empty", "private", ".git"] {
            fs::create_dir(site.path().join(folder)).unwrap();
        }
        for (file, text) in [
            ("index.gmi", "# Home\n"),
            ("docs/index.gmi", "# Documents\n"),
            ("docs/a b.txt", "spaced\n"),
            ("private/index.gmi", "# Secret\n"),
            ("private/.users", "CN=Ada\n"),
            (".git/config", "hidden\n"),
        ] {
            fs::write(site.path().join(file), text).unwrap();
        }
        fs::write(site.path().join("large.png"), pattern(1_000_000)).unwrap();
        let identity = authority.server(&["localhost", "127.0.0.1"]).option("capsule");
        let grant = format!("{}::/site", site.path().display());
        let tls =
            ["--tls", &identity, "--tls-client-ca", &authority.certificate, "--tls-client-auth", "request"];
        let plugin = plugin("gemini");
        let host =
            Host::serve(&[&[address, "--dir", &grant], &tls[..], options, &[&plugin, "--"], args].concat());
        Self { host, authority, site }
    }

    /// What a client is answered: the first line, and how long the rest is.
    fn ask(&self, request: &str, client: Option<&Identity>) -> String {
        let script = "import socket, ssl, sys\n\
             port, ca, request, certificate = sys.argv[1:5]\n\
             context = ssl.create_default_context(cafile=ca)\n\
             if certificate: context.load_cert_chain(certificate, sys.argv[5])\n\
             try:\n\
            \x20   with socket.create_connection(('127.0.0.1', port)) as plain:\n\
            \x20       with context.wrap_socket(plain, server_hostname='localhost', suppress_ragged_eofs=False) as tls:\n\
            \x20           tls.sendall(request.encode())\n\
            \x20           answer = b''\n\
            \x20           while data := tls.recv(65536): answer += data\n\
            \x20   header, body = answer.split(b'\\r\\n', 1)\n\
            \x20   print(header.decode(), len(body))\n\
             except (ssl.SSLError, ConnectionError) as error: print('refused', error)\n";
        let (certificate, key) = client.map_or(("", ""), |client| (&client.certificate, &client.key));
        let args = [&port(&self.host), &self.authority.certificate, request, certificate, key];
        python(script, &args).trim_end().to_owned()
    }

    fn get(&self, path: &str) -> String {
        self.ask(&format!("gemini://localhost{path}\r\n"), None)
    }

    fn get_as(&self, client: &Identity, path: &str) -> String {
        self.ask(&format!("gemini://localhost{path}\r\n"), Some(client))
    }
}

#[test]
fn openssl_gets_the_home_page() {
    if !is_installed("openssl") {
        return;
    }
    for address in [TCP, TLS] {
        for version in ["-tls1_2", "-tls1_3"] {
            for_each_strategy(|strategy| {
                let capsule = Capsule::serve(address, &["--concurrency", strategy], &[]);
                let client = format!(
                    "printf 'gemini://localhost/\\r\\n' | openssl s_client -quiet -connect 127.0.0.1:{} {version} \
                     -servername localhost -CAfile {} -verify_return_error -verify_hostname localhost",
                    port(&capsule.host),
                    capsule.authority.certificate
                );
                let ended = shell(&client);
                assert_eq!(ended.stdout, "20 text/gemini; charset=utf-8\n# Home\n", "{ended:?}");
            });
        }
    }
}

#[test]
fn every_request_has_its_answer() {
    if !is_installed("python3") {
        return;
    }
    let capsule = Capsule::serve(TCP, &[], &[]);
    for (path, answer) in [
        ("", "20 text/gemini; charset=utf-8 7"),
        ("/docs/", "20 text/gemini; charset=utf-8 12"),
        ("/docs/a%20b.txt", "20 text/plain; charset=utf-8 7"),
        ("/large.png", "20 image/png 1000000"),
        ("/docs", "30 /docs/ 0"),
        ("/docs?q", "30 /docs/?q 0"),
        ("/empty/", "51 there is no such file 0"),
        ("/index.gmi/", "51 there is no such file 0"),
        ("/.git/config", "51 there is no such file 0"),
        ("/private/.users", "51 there is no such file 0"),
        ("/../../etc/passwd", "59 no file has such a name 0"),
        ("/%2e%2e/%2e%2e/etc/passwd", "59 no file has such a name 0"),
        ("/docs/%00", "59 no file has such a name 0"),
        ("/private/", "60 this needs a client certificate 0"),
        ("/docs/%2e./private/", "59 no file has such a name 0"),
    ] {
        assert_eq!(capsule.get(path), answer, "{path}");
    }
    let long = format!("gemini://localhost/{}\r\n", "x".repeat(2000));
    for request in ["gemini://localhost/\n", "/\r\n", "GET / HTTP/1.1\r\n\r\n", &long] {
        assert!(capsule.ask(request, None).starts_with("59 "), "{request}");
    }
    assert!(capsule.ask("https://localhost/\r\n", None).starts_with("53 "));
    assert!(capsule.ask("gemini://other.example:70/\r\n", None).starts_with("20 "));
}

#[test]
fn the_arguments_name_the_hosts() {
    if !is_installed("python3") {
        return;
    }
    let capsule = Capsule::serve(TCP, &[], &["a.example", "b.example"]);
    assert!(capsule.ask("gemini://B.example/\r\n", None).starts_with("20 "));
    assert!(capsule.get("/").starts_with("53 "));
}

#[test]
fn a_certificate_opens_what_is_private() {
    if !is_installed("python3") || !is_installed("openssl") {
        return;
    }
    for address in [TCP, TLS] {
        for_each_strategy(|strategy| {
            let capsule = Capsule::serve(address, &["--concurrency", strategy], &[]);
            let authority = &capsule.authority;
            let (ada, eve, mary) =
                (authority.client("Ada"), authority.client("Eve"), authority.client("Mary"));
            assert_eq!(capsule.get_as(&ada, "/private/"), "20 text/gemini; charset=utf-8 9");
            assert_eq!(capsule.get_as(&ada, "/private"), "30 /private/ 0");
            assert!(capsule.get_as(&eve, "/%70rivate/").starts_with("61 "));
            assert!(capsule.get_as(&mary, "/private/").starts_with("61 "));
            let users = capsule.site.path().join("private/.users");
            let fingerprint = format!(
                "openssl x509 -in {} -noout -fingerprint -sha256 | cut -d= -f2 > {}",
                mary.certificate,
                users.display()
            );
            assert_eq!(shell(&fingerprint).code, Some(0));
            assert!(capsule.get_as(&mary, "/private/").starts_with("20 "));
            assert!(capsule.get_as(&ada, "/private/").starts_with("61 "));
            fs::remove_file(users).unwrap();
            assert!(capsule.get_as(&mary, "/private/").starts_with("61 "));
        });
    }
}

#[test]
fn a_certificate_that_is_not_good_opens_nothing() {
    if !is_installed("python3") {
        return;
    }
    let capsule = Capsule::serve(TCP, &[], &[]);
    let stranger = Authority::new();
    for client in [capsule.authority.expired_client("Ada"), stranger.client("Ada")] {
        let answer = capsule.get_as(&client, "/");
        assert!(answer.starts_with("refused"), "{answer}");
    }
    assert!(capsule.get("/").starts_with("20 "));
}
