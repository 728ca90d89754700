//! How NATS is reached, for stores and for fleets.

use async_nats::{ConnectOptions, ServerAddr};

/// Options by which the client says who it is, as URLs of servers say it, and the servers without that: the client leaves it to its users,
/// and writes their addresses to the log.
pub fn nats_options(servers: &[ServerAddr]) -> (ConnectOptions, Vec<ServerAddr>) {
    let mut options = ConnectOptions::new();
    if let Some(user) = servers.iter().find(|server| server.username().is_some()) {
        let decoded = |text: Option<&str>| decoded(text.unwrap_or_default());
        options = match user.password() {
            Some(password) => options.user_and_password(decoded(user.username()), decoded(Some(password))),
            None => options.token(decoded(user.username())),
        };
    }
    (options, servers.iter().filter_map(anonymous).collect())
}

fn anonymous(server: &ServerAddr) -> Option<ServerAddr> {
    let mut url = server.clone().into_inner();
    url.set_username("").ok()?;
    url.set_password(None).ok()?;
    ServerAddr::from_url(url).ok()
}

/// What a part of a URL stands for.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, others @ ..] = rest {
        let code = others.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        let code = code.filter(|_| *first == b'%').and_then(|digits| u8::from_str_radix(digits, 16).ok());
        bytes.push(code.unwrap_or(*first));
        rest = &others[if code.is_some() { 2 } else { 0 }..];
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_named_without_who_asks() {
        let servers = ["nats://a:b@one:4333", "tls://[::1]"].map(|server| server.parse().unwrap());
        let (_, anonymous) = nats_options(&servers);
        let urls: Vec<_> = anonymous.iter().map(ServerAddr::as_url_str).collect();
        assert_eq!(urls, ["nats://one:4333", "tls://[::1]"]);
    }

    #[test]
    fn what_is_escaped_is_understood() {
        for (text, expected) in
            [("plain", "plain"), ("a%40b%2F", "a@b/"), ("50%", "50%"), ("%zz", "%zz"), ("%C3%A4", "ä")]
        {
            assert_eq!(decoded(text), expected);
        }
    }
}
