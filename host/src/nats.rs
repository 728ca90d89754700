//! How NATS is reached, and what it does not allow, for stores and for fleets.

use std::future::Future;

use async_nats::{ConnectOptions, Event, ServerAddr};
use tokio::sync::broadcast::{Sender, channel};

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

/// What a server of NATS does not allow. It says so beside its answers, so that who asks would wait for one in vain.
#[derive(Clone, Debug)]
pub struct Refusals(Sender<String>);

/// More are not told at a time; who misses one waits in vain.
const REFUSALS_MAX: usize = 256;

impl Default for Refusals {
    fn default() -> Self {
        Self(channel(REFUSALS_MAX).0)
    }
}

impl Refusals {
    /// Takes in what the client tells of its connection; the refusal that it is, if nobody waits for what was refused.
    pub fn hear(&self, event: &Event) -> Option<String> {
        let Event::ServerError(error) = event else { return None };
        let said = error.to_string();
        let (_, refused) = said.split_once("Permissions Violation for ")?;
        let refusal =
            format!("NATS does not allow {refused}: its configuration says who may (`authorization`)");
        self.0.send(refusal).err().map(|unheard| unheard.0)
    }

    /// What comes of asking for something, or why that is not allowed: what is refused names `about`.
    pub async fn or<T>(&self, about: &str, asked: impl Future<Output = T>) -> Result<T, String> {
        let mut told = self.0.subscribe();
        let refusal = async {
            loop {
                match told.recv().await {
                    // Without the subscription for answers there are none.
                    Ok(refusal) if refusal.contains(about) || refusal.contains("Subscription") => {
                        return refusal;
                    }
                    _ => {}
                }
            }
        };
        tokio::select! {
            answer = asked => Ok(answer),
            refusal = refusal => Err(refusal),
        }
    }
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
