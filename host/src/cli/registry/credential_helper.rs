//! A credential helper: a program of the user's that knows who they are to a registry. It has the time of whoever asks, and is killed
//! with all that it has started when nobody waits for it any more.

use std::io::{self, PipeReader, Write};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitStatus};

use plugsock::one_line;
use plugsock::surroundings::ChildProcess;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::retry_on_intr;
use serde::Deserialize;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe::Receiver;
use tokio::task::spawn_blocking;

use super::credentials::Credentials;

/// More than a helper has to say.
const SAID_MAX: u64 = 64 << 10;

/// What it says of a registry that it does not know.
const UNKNOWN: &str = "credentials not found";

/// A user by whose name the secret is a token.
const TOKEN: &str = "<token>";

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Known {
    username: String,
    secret: String,
}

/// The helper's process, which ends with this.
struct Helper(ChildProcess);

impl Drop for Helper {
    fn drop(&mut self) {
        self.0.kill_group();
        self.0.wait();
    }
}

/// Asks the helper of this name for the credentials of a server, if it has any.
pub async fn ask(name: &str, server: &str) -> Result<Option<Credentials>, String> {
    let program = format!("docker-credential-{name}");
    let (status, said, warned) =
        run(&program, server).await.map_err(|error| format!("cannot ask {program}: {error}"))?;
    let (said, warned) = (String::from_utf8_lossy(&said), String::from_utf8_lossy(&warned));
    if !status.is_some_and(|status| status.success()) {
        if said.contains(UNKNOWN) || warned.contains(UNKNOWN) {
            return Ok(None);
        }
        // One that fails says why in either place.
        let reason = [&warned, &said].into_iter().map(|text| text.trim()).find(|text| !text.is_empty());
        let status = status.map_or("it was lost".to_owned(), |status| status.to_string());
        return Err(format!(
            "{program} failed ({status}): {}",
            one_line(reason.unwrap_or("it does not say why"))
        ));
    }
    let Known { username, secret } = serde_json::from_str(&said)
        .map_err(|_| format!("{program} does not answer as a credential helper does"))?;
    Ok(Some(match &*username {
        TOKEN => Credentials::IdentityToken(secret),
        _ => Credentials::Password { user: username, password: secret },
    }))
}

/// How it ended, and what it has printed.
async fn run(program: &str, server: &str) -> io::Result<(Option<ExitStatus>, Vec<u8>, Vec<u8>)> {
    let ((asked, mut asking), (said, saying), (warned, warning)) = (io::pipe()?, io::pipe()?, io::pipe()?);
    // The kernel keeps that much for whoever reads it.
    asking.write_all(server.as_bytes())?;
    drop(asking);
    let mut command = Command::new(program);
    command.arg("get").stdin(asked).stdout(saying).stderr(warning).process_group(0);
    let mut helper = Helper(ChildProcess::start(&mut command)?);
    // With it go this process's own ends for writing.
    drop(command);
    let (said, warned) = tokio::try_join!(read(said), read(warned))?;
    if let Some(pidfd) = helper.0.pidfd() {
        // On another thread, which ends with the helper, whatever that ends by.
        let pidfd = pidfd.try_clone_to_owned()?;
        let end = move || retry_on_intr(|| poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], None));
        spawn_blocking(end).await??;
    }
    Ok((helper.0.wait(), said, warned))
}

async fn read(pipe: PipeReader) -> io::Result<Vec<u8>> {
    let mut said = Vec::new();
    let pipe = Receiver::from_owned_fd(OwnedFd::from(pipe))?;
    pipe.take(SAID_MAX + 1).read_to_end(&mut said).await?;
    match said.len() as u64 > SAID_MAX {
        true => Err(io::Error::other("it says too much")),
        false => Ok(said),
    }
}
