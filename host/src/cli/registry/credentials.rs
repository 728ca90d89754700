//! Who this user is to a registry: what `docker login` has left in Docker's configuration, or in a credential helper
//! that it names.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use docker_credential::{CredentialRetrievalError, DockerCredential, get_credential_from_reader};
use plugsock::shown;

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

/// The credentials for a registry, if there are any. May run a program, for as long as that takes.
pub fn find(config: Option<&Path>, reference: &OciReference) -> Result<Option<Credentials>, String> {
    // What Docker's own registry is called there.
    let server = match reference.registry() {
        "docker.io" | "index.docker.io" => "https://index.docker.io/v1/",
        registry => registry,
    };
    let Some(config) = config else { return Ok(None) };
    let name = shown(config);
    let file = match File::open(config) {
        Ok(file) => file,
        Err(error) if [ErrorKind::NotFound, ErrorKind::NotADirectory].contains(&error.kind()) => {
            return Ok(None);
        }
        Err(error) => return Err(format!("cannot read the credentials in {name}: {error}")),
    };
    match get_credential_from_reader(file.take(CONFIG_MAX), server) {
        Ok(DockerCredential::UsernamePassword(user, password)) => {
            Ok(Some(Credentials::Password { user, password }))
        }
        Ok(DockerCredential::IdentityToken(token)) => Ok(Some(Credentials::IdentityToken(token))),
        Err(CredentialRetrievalError::NoCredentialConfigured) => Ok(None),
        Err(CredentialRetrievalError::HelperFailure { stdout, .. })
            if stdout.contains("credentials not found") =>
        {
            Ok(None)
        }
        Err(CredentialRetrievalError::ConfigReadError) => {
            Err(format!("{name} is not a configuration of Docker"))
        }
        Err(error) => Err(format!("cannot get the credentials for {server} by {name}: {error}")),
    }
}
