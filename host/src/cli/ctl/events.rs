//! `plugsock ctl events`: what happens, a line of JSON each.

use std::io::{self, Write};

use plugsock::control::ControlClient;

/// Prints events until the server ends, or whoever reads them has enough.
pub fn follow(client: ControlClient) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    for event in client.events()? {
        let line = serde_json::to_string(&event?)? + "\n";
        match stdout.write_all(line.as_bytes()).and_then(|()| stdout.flush()) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
            written => written?,
        }
    }
    Ok(())
}
