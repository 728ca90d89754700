//! Registries that ask for a token, and the services that give one.

use std::fs;
use std::net::TcpStream;

use super::fake::{Artifact, Fake, Request, give};
use super::{User, done, fails};
use crate::harness::plugin;

/// Whom a token service gives a token.
#[derive(Clone, Copy)]
enum Gives {
    /// A token to anybody.
    Anybody,
    /// To `user:secret`.
    User,
    /// To whoever has an identity token.
    Identity,
    /// This, whatever it is.
    Text(&'static str),
}

/// A registry that wants a token by the service beside it.
fn registry(gives: Gives) -> Fake {
    let artifact = Artifact::new(fs::read(plugin("echo")).unwrap());
    Fake::new(move |request, stream| {
        let host = header(request, "host");
        if request.is_for("/token") {
            give_token(gives, request, stream);
        } else if header(request, "authorization") == "Bearer t0ken" {
            artifact.answer(request, stream);
        } else {
            let realm = format!("WWW-Authenticate: Bearer realm=\"http://{host}/token\",service=\"a b\"\r\n");
            give(stream, "401 Unauthorized", &realm, b"");
        }
    })
}

fn give_token(gives: Gives, request: &Request, stream: &mut TcpStream) {
    let authorization = header(request, "authorization");
    let asks_well = request.is_for("GET /token?service=a+b&scope=repository%3Aecho%3Apull")
        || request.body.contains("service=a+b&scope=repository%3Aecho%3Apull");
    assert!(asks_well, "{} {}", request.line, request.body);
    let is_let_in = match gives {
        Gives::Anybody => true,
        Gives::User => authorization == "Basic dXNlcjpzZWNyZXQ=",
        Gives::Identity => {
            request.line == "POST /token" && request.body.contains("refresh_token=id%2Fentity")
        }
        Gives::Text(text) => return give(stream, "200 OK", "", text.as_bytes()),
    };
    match is_let_in {
        true => give(stream, "200 OK", "", br#"{"token":"t0ken","expires_in":60}"#),
        false => give(stream, "401 Unauthorized", "", b""),
    }
}

fn header<'a>(request: &'a Request, name: &str) -> &'a str {
    let headers = request.head.lines().skip(1).filter_map(|line| line.split_once(": "));
    headers.filter(|(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, value)| value).next().unwrap_or("")
}

#[test]
fn a_token_is_asked_for_and_shown() {
    let nobody = |_: &str| User::new();
    let user = |host: &str| User::with_login(host, r#"{"auth":"dXNlcjpzZWNyZXQ="}"#);
    let identity = |host: &str| User::with_login(host, r#"{"identitytoken":"id/entity"}"#);
    type LogIn = fn(&str) -> User;
    let whoever = [
        (Gives::Anybody, nobody as LogIn),
        (Gives::Anybody, user),
        (Gives::User, user),
        (Gives::Identity, identity),
    ];
    for (gives, user) in whoever {
        let fake = registry(gives);
        done(user(&fake.host).run(&["call", &fake.reference(), "--registry-plain-http", &fake.host]));
        // Once for the manifest and the component.
        assert_eq!(fake.count("/token"), 1);
    }
}

#[test]
fn without_a_token_nothing_is_had() {
    for (gives, words) in [
        (Gives::User, ["it wants credentials, and there are none", "`docker login 127.0.0.1:"]),
        (Gives::Text("{}"), ["its token service", "no token"]),
        (Gives::Text("no"), ["its token service", "no token"]),
        // Which would be more than a header.
        (Gives::Text(r#"{"token":"a\r\nb: c"}"#), ["its token service", "no token"]),
        // Of somebody else's registry.
        (Gives::Text(r#"{"token":"another"}"#), ["it wants credentials", "docker login"]),
    ] {
        let fake = registry(gives);
        let ended = User::new().run(&["call", &fake.reference(), "--registry-plain-http", &fake.host]);
        fails(&ended, &words);
    }
}

/// Passwords go nowhere by plain HTTP where that was not allowed.
#[test]
fn a_token_service_elsewhere_by_plain_http_is_not_asked() {
    let elsewhere = Fake::new(|_, stream| give(stream, "200 OK", "", br#"{"token":"t0ken"}"#));
    let realm = format!("http://{}/token", elsewhere.host);
    let challenge = format!("WWW-Authenticate: Bearer realm=\"{realm}\"\r\n");
    let fake = Fake::new(move |_, stream| give(stream, "401 Unauthorized", &challenge, b""));
    let user = User::with_login(&fake.host, r#"{"auth":"dXNlcjpzZWNyZXQ="}"#);
    let ended = user.run(&["call", &fake.reference(), "--registry-plain-http", &fake.host]);
    fails(&ended, &[&realm, "which is not allowed: --registry-plain-http would allow it"]);
    assert_eq!(elsewhere.count("/token"), 0);
    let strange =
        Fake::new(|_, stream| give(stream, "401 Unauthorized", "WWW-Authenticate: Negotiate\r\n", b""));
    let ended = user.run(&["call", &strange.reference(), "--registry-plain-http", &strange.host]);
    fails(&ended, &["credentials of a sort that is not known here"]);
}
