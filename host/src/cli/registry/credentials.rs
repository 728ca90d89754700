//! Who this user is to a registry: what `docker login` has left in Docker's configuration, or in a credential helper
//! that it names.

use std::collections::HashMap;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use docker_credential::{CredentialRetrievalError, DockerCredential, get_credential_from_reader};
use plugsock::shown;
use serde_json::{Map, Value};

use super::reference::OciReference;

/// More than the configuration of anybody's Docker.
const CONFIG_MAX: u64 = 1 << 20;

/// What proves to a registry who asks.
#[derive(Clone)]
pub enum Credentials {
    Password {
        user: String,
        password: String,
    },
    /// What a token service takes in place of a password.
    IdentityToken(String),
}

/// Docker's configuration: by `DOCKER_CONFIG`, or in the user's home.
pub fn config_file(home: Option<&Path>) -> Option<PathBuf> {
    let named =
        std::env::var_os("DOCKER_CONFIG").filter(|directory| !directory.is_empty()).map(PathBuf::from);
    let home = home.map(Path::to_owned).or_else(|| std::env::var_os("HOME").map(PathBuf::from));
    Some(named.or_else(|| Some(home?.join(".docker")))?.join("config.json"))
}

/// Where the credentials for a registry are.
pub enum Found {
    Here(Option<Credentials>),
    /// With a credential helper of this name.
    AtHelper(String),
}

/// What a registry is called in a configuration.
pub fn server(reference: &OciReference) -> &str {
    match reference.registry() {
        "docker.io" | "index.docker.io" => "https://index.docker.io/v1/",
        registry => registry,
    }
}

/// Looks into a configuration for the credentials of a server.
pub fn find(config: Option<&Path>, server: &str) -> Result<Found, String> {
    let Some(config) = config else { return Ok(Found::Here(None)) };
    let name = shown(config);
    let mut text = Vec::new();
    match File::open(config).and_then(|file| file.take(CONFIG_MAX).read_to_end(&mut text)) {
        Ok(_) => {}
        Err(error) if [ErrorKind::NotFound, ErrorKind::NotADirectory].contains(&error.kind()) => {
            return Ok(Found::Here(None));
        }
        Err(error) => return Err(format!("cannot read the credentials in {name}: {error}")),
    }
    let unlike = || format!("{name} is not a configuration of Docker");
    let mut config: Map<String, Value> = serde_json::from_slice(&text).map_err(|_| unlike())?;
    // Helpers are asked here, and not by the crate, which waits for them for ever.
    let mut helper = |key: &str| config.remove(key).unwrap_or_default();
    let (store, own) = (helper("credsStore"), helper("credHelpers"));
    let is_named = |helper: &String| !helper.is_empty();
    let own: Option<HashMap<String, String>> = serde_json::from_value(own).map_err(|_| unlike())?;
    let store: Option<String> = serde_json::from_value(store).map_err(|_| unlike())?;
    if let Some(helper) = own.and_then(|mut own| own.remove(server)).filter(is_named) {
        return Ok(Found::AtHelper(helper));
    }
    let rest = serde_json::to_vec(&config).map_err(|_| unlike())?;
    match get_credential_from_reader(&*rest, server) {
        Ok(DockerCredential::UsernamePassword(user, password)) => {
            Ok(Found::Here(Some(Credentials::Password { user, password })))
        }
        Ok(DockerCredential::IdentityToken(token)) => {
            Ok(Found::Here(Some(Credentials::IdentityToken(token))))
        }
        Err(CredentialRetrievalError::NoCredentialConfigured) => {
            Ok(store.filter(is_named).map_or(Found::Here(None), Found::AtHelper))
        }
        Err(CredentialRetrievalError::ConfigReadError) => Err(unlike()),
        Err(error) => Err(format!("cannot get the credentials for {server} by {name}: {error}")),
    }
}
