//! How a registry learns who asks: by a password, or by a token that another service gives for one.

use base64::prelude::{BASE64_STANDARD, Engine};
use http_auth::{ChallengeRef, parse_challenges};
use reqwest::header::{HeaderValue, WWW_AUTHENTICATE};
use reqwest::{Method, StatusCode, Url};
use serde::Deserialize;
use tokio::task::spawn_blocking;

use super::credential_helper;
use super::credentials::{self, Credentials, Found};
use super::failure::Failure;
use super::session::{Ask, Reply, Session};
use plugsock::{shown, without_password};

/// What is to be done in a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    Pull,
    Push,
}

/// The largest answer of a token service.
const TOKEN_MAX: u64 = 256 << 10;

/// A challenge that can be met.
enum Challenge {
    Basic,
    Bearer { realm: String, service: Option<String> },
}

#[derive(Deserialize)]
struct Token {
    token: Option<String>,
    access_token: Option<String>,
}

impl Session<'_> {
    /// What the registry wants to see, by what it says in an answer that refuses.
    pub async fn authorize(&self, refusal: &Reply) -> Result<HeaderValue, Failure> {
        let challenge = challenge(refusal).ok_or_else(|| {
            Failure::lasting(
                "it wants credentials of a sort that is not known here (neither Basic nor Bearer)",
            )
        })?;
        let credentials = self.credentials().await?;
        match (challenge, credentials) {
            (Challenge::Basic, Some(Credentials::Password { user, password })) => basic(&user, &password),
            (Challenge::Basic, _) => Err(self.not_let_in(None).await),
            (Challenge::Bearer { realm, service }, credentials) => {
                self.token(&realm, service.as_deref(), credentials).await
            }
        }
    }

    async fn credentials(&self) -> Result<Option<Credentials>, Failure> {
        let config = self.registry.options.docker_config.clone();
        let server = credentials::server(self.reference).to_owned();
        // Beside whoever waits: the configuration may be no ordinary file.
        let look = move || (credentials::find(config.as_deref(), &server), server);
        let found = spawn_blocking(look).await.map_err(|error| Failure::lasting(error.to_string()))?;
        match found {
            (Ok(Found::Here(credentials)), _) => Ok(credentials),
            (Ok(Found::AtHelper(name)), server) => {
                credential_helper::ask(&name, &server).await.map_err(Failure::lasting)
            }
            (Err(reason), _) => Err(Failure::lasting(reason)),
        }
    }

    async fn token(
        &self,
        realm: &str,
        service: Option<&str>,
        credentials: Option<Credentials>,
    ) -> Result<HeaderValue, Failure> {
        let mut url = Url::parse(realm).map_err(|error| {
            Failure::lasting(format!(
                "its token service '{}' is no address: {error}",
                without_password(realm)
            ))
        })?;
        let actions = match self.access {
            Access::Pull => "pull",
            Access::Push => "pull,push",
        };
        let scope = format!("repository:{}:{actions}", self.reference.repository());
        let query = service.map(|service| ("service", service)).into_iter().chain([("scope", &*scope)]);
        let authorization = match &credentials {
            Some(Credentials::Password { user, password }) => Some(basic(user, password)?),
            _ => None,
        };
        let ask = match &credentials {
            Some(Credentials::IdentityToken(token)) => {
                let fixed =
                    [("grant_type", "refresh_token"), ("client_id", "plugsock"), ("refresh_token", token)];
                let form = form(fixed.into_iter().chain(query));
                Ask::new(Method::POST, url).with("application/x-www-form-urlencoded", form.into())
            }
            _ => {
                url.query_pairs_mut().extend_pairs(query);
                Ask::new(Method::GET, url)
            }
        };
        let reply = self.once(&Ask { most: TOKEN_MAX, ..ask }, authorization.as_ref()).await;
        let reply = reply.map_err(of_the_token_service)?;
        match reply.status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(self.not_let_in(Some(&reply)).await),
            status if !status.is_success() => Err(of_the_token_service(Failure::refused(&reply))),
            _ => bearer(&reply.body).ok_or_else(|| {
                of_the_token_service(Failure::lasting("it answers with something that is no token"))
            }),
        }
    }

    /// Nobody, or not the right one.
    pub async fn not_let_in(&self, refusal: Option<&Reply>) -> Failure {
        let registry = self.reference.registry();
        let config =
            self.registry.options.docker_config.as_deref().map_or("Docker's configuration".into(), shown);
        let has_credentials = matches!(self.credentials().await, Ok(Some(_)));
        let reason = match has_credentials {
            true => format!(
                "it does not accept the credentials for {registry} in {config}, or not for this: `docker login \
                 {registry}` writes others"
            ),
            false => format!(
                "it wants credentials, and there are none for {registry} in {config}: `docker login {registry}` \
                 writes them"
            ),
        };
        Failure { status: refusal.map(|reply| reply.status), ..Failure::lasting(reason) }
    }
}

fn of_the_token_service(failure: Failure) -> Failure {
    Failure { reason: format!("its token service: {}", failure.reason), ..failure }
}

/// The first that can be met; a token is preferred to a password.
fn challenge(refusal: &Reply) -> Option<Challenge> {
    let headers = refusal.headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|header| header.to_str().ok());
    let challenges: Vec<ChallengeRef<'_>> =
        headers.filter_map(|header| parse_challenges(header).ok()).flatten().collect();
    let parameter = |challenge: &ChallengeRef<'_>, wanted: &str| {
        let mut parameters = challenge.params.iter();
        parameters.find(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, value)| value.to_unescaped())
    };
    let bearer = challenges.iter().filter(|challenge| challenge.scheme.eq_ignore_ascii_case("Bearer"));
    let bearer = bearer.filter_map(|challenge| {
        Some(Challenge::Bearer {
            realm: parameter(challenge, "realm")?,
            service: parameter(challenge, "service"),
        })
    });
    let mut basic = challenges.iter().filter(|challenge| challenge.scheme.eq_ignore_ascii_case("Basic"));
    bearer.chain(basic.next().map(|_| Challenge::Basic)).next()
}

/// The header that a service's answer leads to, if there is a token in it that fits into one.
fn bearer(answer: &[u8]) -> Option<HeaderValue> {
    let Token { token, access_token } = serde_json::from_slice(answer).ok()?;
    let token = token.or(access_token).filter(|token| !token.is_empty())?;
    secret(&format!("Bearer {token}"))
}

fn basic(user: &str, password: &str) -> Result<HeaderValue, Failure> {
    let encoded = BASE64_STANDARD.encode(format!("{user}:{password}"));
    secret(&format!("Basic {encoded}")).ok_or_else(|| Failure::lasting("the credentials fit into no header"))
}

fn secret(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// As an HTML form sends it.
fn form<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let mut url = Url::parse("http://localhost").expect("it is well-formed");
    url.query_pairs_mut().extend_pairs(pairs);
    url.query().unwrap_or_default().to_owned()
}
