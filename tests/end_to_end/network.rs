//! A handler reaches the hosts and ports that it was granted, and no others; it never listens.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream, UdpSocket};
use std::thread;

use plugsock::NetGrant;
use rustix::event::{PollFd, PollFlags, poll};

use crate::harness::{Host, PATIENCE, for_each_strategy, guest, pattern, plugin, plugsock, run};

const TCP: &str = "tcp://127.0.0.1:0";

/// A host with the guest that obeys, and these grants.
fn serve(strategy: &str, grants: &[&str]) -> Host {
    let handler = guest("network");
    let mut args = vec![TCP, &handler, "--concurrency", strategy];
    grants.iter().for_each(|grant| args.extend(["--allow-net", grant]));
    Host::serve(&args)
}

fn answer(host: &Host, request: &str) -> String {
    String::from_utf8(host.ask(request.as_bytes())).unwrap().trim_end().to_owned()
}

/// Answers each connection and each datagram with what came; the port of both.
fn upstream() -> u16 {
    let (stream, datagram) = loop {
        let stream = TcpListener::bind("127.0.0.1:0").unwrap();
        // The other kind's port of the same number may be taken.
        if let Ok(datagram) = UdpSocket::bind(stream.local_addr().unwrap()) {
            break (stream, datagram);
        }
    };
    let port = stream.local_addr().unwrap().port();
    thread::spawn(move || {
        for connection in stream.incoming().map_while(Result::ok) {
            thread::spawn(move || {
                let _ = std::io::copy(&mut &connection, &mut &connection);
                let _ = connection.shutdown(Shutdown::Write);
            });
        }
    });
    thread::spawn(move || {
        let mut packet = [0; 100];
        while let Ok((length, from)) = datagram.recv_from(&mut packet) {
            let _ = datagram.send_to(&packet[..length], from);
        }
    });
    port
}

#[test]
fn nothing_is_reached_without_a_grant() {
    let port = upstream();
    for_each_strategy(|strategy| {
        let host = serve(strategy, &[]);
        for request in [
            format!("connect 127.0.0.1:{port}"),
            format!("send 127.0.0.1:{port}"),
            "listen 127.0.0.1:0".to_owned(),
            "bind 127.0.0.1:0".to_owned(),
            "resolve localhost".to_owned(),
        ] {
            let answer = answer(&host, &format!("{request}\n"));
            assert!(answer.starts_with("error: "), "{request}: {answer}");
        }
    });
}

#[test]
fn what_is_granted_is_reached_and_nothing_beside_it() {
    let (port, other) = (upstream(), upstream());
    for_each_strategy(|strategy| {
        let host = serve(strategy, &[&format!("127.0.0.1:{port}")]);
        for request in ["connect", "send"] {
            assert_eq!(answer(&host, &format!("{request} 127.0.0.1:{port}\n")), "hello", "{request}");
            for refused in
                [format!("127.0.0.1:{other}"), format!("127.0.0.2:{port}"), format!("[::1]:{port}")]
            {
                let answer = answer(&host, &format!("{request} {refused}\n"));
                assert!(answer.starts_with("error: "), "{request} {refused}: {answer}");
            }
        }
        for request in
            ["listen 127.0.0.1:0", "listen 0.0.0.0:0", "listen 127.0.0.1:4567", "bind 0.0.0.0:4567"]
        {
            let answer = answer(&host, &format!("{request}\n"));
            assert!(answer.starts_with("error: "), "{request}: {answer}");
        }
    });
}

#[test]
fn networks_and_all_ports_can_be_granted() {
    let port = upstream();
    for grant in [&format!("127.0.0.0/8:{port}")[..], "127.0.0.1:*", "0.0.0.0/0:*,[::/0]:*"] {
        let host = serve("threading", &[grant]);
        assert_eq!(answer(&host, &format!("connect 127.0.0.1:{port}\n")), "hello", "{grant}");
    }
    let host = serve("threading", &[&format!("10.0.0.0/8:{port}")]);
    assert!(answer(&host, &format!("connect 127.0.0.1:{port}\n")).starts_with("error: "));
}

/// `localhost` is known on every machine, and is this machine by definition.
#[test]
fn a_granted_name_is_resolved_and_no_other() {
    let port = upstream();
    for_each_strategy(|strategy| {
        let host = serve(strategy, &[&format!("localhost:{port}")]);
        assert_eq!(answer(&host, &format!("connect localhost:{port}\n")), "hello");
        assert!(answer(&host, "resolve localhost\n").contains("127.0.0.1"));
        assert_eq!(answer(&host, "resolve LOCALHOST.\n"), answer(&host, "resolve localhost\n"));
        for request in
            ["resolve example.org", "resolve localhost.example.org", &format!("connect 127.0.0.1:{port}")]
        {
            let answer = answer(&host, &format!("{request}\n"));
            assert!(answer.starts_with("error: "), "{request}: {answer}");
        }
    });
}

/// The machine's own name leads, by `/etc/hosts` or its resolver, to an address that is not public.
#[test]
fn a_name_does_not_lead_to_a_private_address() {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let own: Vec<_> = match std::net::ToSocketAddrs::to_socket_addrs(&(&*name, 0)) {
        Ok(addresses) => addresses.map(|address| address.ip()).collect(),
        Err(error) => return eprintln!("skipped: {name} has no address: {error}"),
    };
    let is_private = |ip: &std::net::IpAddr| match ip.to_canonical() {
        std::net::IpAddr::V4(v4) => v4.is_loopback() || v4.is_private() || v4.is_link_local(),
        std::net::IpAddr::V6(v6) => v6.is_loopback() || v6.is_unique_local() || v6.is_unicast_link_local(),
    };
    let Some(private) = own.iter().find(|ip| is_private(ip)).filter(|_| name != "localhost") else {
        return eprintln!("skipped: {name} has no private address");
    };
    let resolve = format!("resolve {name}\n");
    let host = serve("threading", &[&format!("{name}:*")]);
    assert!(!answer(&host, &resolve).contains(&private.to_string()));
    host.log.wait_for("is private and not granted");
    let network = if private.is_ipv4() { format!("{private}/32") } else { format!("[{private}/128]") };
    let host = serve("threading", &[&format!("{name}:*"), &format!("{network}:*")]);
    assert!(answer(&host, &resolve).contains(&private.to_string()));
}

#[test]
fn a_grant_is_a_host_and_a_port() {
    for (text, same) in [
        ("db.example.org:5432", "db.example.org:5432"),
        ("DB.Example.Org.:1", "db.example.org:1"),
        ("10.0.0.0/8:*", "10.0.0.0/8:*"),
        ("10.1.2.3:65535", "10.1.2.3/32:65535"),
        ("[::1]:53", "[::1/128]:53"),
        ("[fd00::/8]:*", "[fd00::/8]:*"),
    ] {
        assert_eq!(text.parse::<NetGrant>().unwrap().to_string(), same);
    }
    for wrong in [
        "",
        ":",
        "example.org",
        "example.org:",
        ":80",
        "example.org:0",
        "example.org:65536",
        "example.org:+1",
        "example.org:http",
        "::1:53",
        "[::1:53",
        "[127.0.0.1]:1",
        "10.0.0.0/33:1",
        "300.1.1.1:1",
        "a b:1",
        "exa*mple.org:1",
        "a..b:1",
        "[]:1",
    ] {
        assert!(wrong.parse::<NetGrant>().is_err(), "{wrong}");
        let ended = run(plugsock().args(["serve", TCP, "--allow-net", wrong]));
        assert!(ended.code == Some(2) && ended.stderr.contains("HOST:PORT"), "{wrong}: {ended:?}");
    }
}

fn proxy(strategy: &str, port: u16) -> Host {
    let upstream = format!("127.0.0.1:{port}");
    let grant = ["--allow-net", &upstream, "--", &upstream];
    Host::serve(&[&[TCP, &plugin("proxy"), "--concurrency", strategy], &grant[..]].concat())
}

#[test]
fn the_proxy_passes_bytes_both_ways() {
    let port = upstream();
    for_each_strategy(|strategy| {
        passes_bytes_both_ways(&proxy(strategy, port));
    });
}

/// A proxy before an echo.
pub fn passes_bytes_both_ways(host: &Host) {
    for length in [0, 1, 100_000, 3_000_000] {
        assert!(host.ask(&pattern(length)) == pattern(length), "{length} bytes");
    }
    // To and fro.
    let client = host.connect();
    for number in 0..20 {
        client.send(&[number]);
        assert_eq!(client.recv_exact(1), [number]);
    }
}

/// Each side's end is passed on, and the other goes on.
#[test]
fn the_proxy_knows_half_closed_connections() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    for_each_strategy(|strategy| {
        let host = proxy(strategy, port);
        // The server behind speaks first, ends, and listens on.
        let client = host.connect();
        let mut behind = accept(&listener);
        behind.write_all(b"greeting").unwrap();
        behind.shutdown(Shutdown::Write).unwrap();
        assert_eq!(client.recv_all(), b"greeting");
        client.send(b"late words");
        client.half_close();
        assert_eq!(read_all(&mut behind), b"late words");
        // The client ends first.
        let client = host.connect();
        let mut behind = accept(&listener);
        client.send(b"question");
        client.half_close();
        assert_eq!(read_all(&mut behind), b"question");
        behind.write_all(b"answer").unwrap();
        drop(behind);
        assert_eq!(client.recv_all(), b"answer");
    });
}

fn accept(listener: &TcpListener) -> TcpStream {
    let patience = PATIENCE.try_into().unwrap();
    let came = poll(&mut [PollFd::new(listener, PollFlags::IN)], Some(&patience)).unwrap();
    assert_eq!(came, 1, "nobody connects");
    let (stream, _) = listener.accept().unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn read_all(stream: &mut TcpStream) -> Vec<u8> {
    let mut data = Vec::new();
    stream.read_to_end(&mut data).unwrap();
    data
}

#[test]
fn the_proxy_says_what_it_lacks() {
    let host = Host::serve(&[TCP, &plugin("proxy")]);
    assert_eq!(host.ask(b""), b"");
    host.log.wait_for("name the server");
    let host = Host::serve(&[TCP, &plugin("proxy"), "--", "127.0.0.1:1"]);
    assert_eq!(host.ask(b""), b"");
    host.log.wait_for("--allow-net");
    // Bound and not listening: nobody answers there.
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&"127.0.0.1:0".parse::<std::net::SocketAddr>().unwrap().into()).unwrap();
    let port = socket.local_addr().unwrap().as_socket().unwrap().port();
    let host = proxy("threading", port);
    assert_eq!(host.ask(b""), b"");
    host.log.wait_for("refused");
}

#[test]
fn check_says_which_imports_the_grants_do_not_cover() {
    let check = |handler: &str, grants: &[&str]| {
        let ended = run(plugsock().args(["check", handler]).args(grants));
        assert_eq!(ended.code, Some(0), "{ended:?}");
        ended.stdout
    };
    let line = |text: &str, import: &str| {
        let line = text.lines().find(|line| line.contains(import));
        line.unwrap_or_else(|| panic!("no {import} in {text}")).to_owned()
    };
    let nothing = check(&plugin("proxy"), &[]);
    for import in ["wasi:sockets/tcp@", "wasi:sockets/ip-name-lookup@", "wasi:tls/types@"] {
        assert!(line(&nothing, import).contains("denied: no --allow-net"), "{nothing}");
    }
    let address = check(&plugin("proxy"), &["--allow-net", "127.0.0.1:1"]);
    for import in ["wasi:sockets/tcp@", "wasi:tls/types@"] {
        assert!(!line(&address, import).contains("denied"), "{address}");
    }
    assert!(line(&address, "wasi:sockets/ip-name-lookup@").contains("denied: no name"), "{address}");
    let name = check(&plugin("proxy"), &["--allow-net", "example.org:1"]);
    assert!(!name.contains("--allow-net"), "{name}");
    let files = check(&guest("file_access"), &[]);
    assert!(line(&files, "wasi:filesystem/preopens@").contains("denied: no --dir"), "{files}");
    assert!(line(&files, "wasi:cli/stdin@").contains("denied: no --allow-stdin"), "{files}");
    assert!(!check(&guest("command_cat"), &[]).contains("--allow-stdin"));
    let files = check(&guest("file_access"), &["--dir", "/tmp::/data"]);
    assert!(!line(&files, "wasi:filesystem/preopens@").contains("denied"), "{files}");
}
