//! The control socket of `plugsock serve`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use clap::Args;
use plugsock::control::{ControlSocket, Controlled, FleetStatus};
use plugsock::traces::Traces;
use plugsock::upgrade::HandedSocket;
use plugsock::{Server, Slot, Source};
use signal_hook::consts::SIGTERM;

use super::handler_source::HandlerSource;
use super::running::Running;

#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Control")]
pub struct ControlArgs {
    /// Where `plugsock ctl` and `plugsock top` connect; by default in the user's runtime directory, where they
    /// look by themselves
    #[arg(long, value_name = "PATH")]
    control: Option<PathBuf>,

    /// Make no control socket
    #[arg(long, conflicts_with = "control")]
    no_control: bool,
}

impl ControlArgs {
    /// The socket that was asked for, or the default one if it can be had.
    /// One with a path of its own may come from the process before this one.
    pub fn bind(&self, handed: Option<HandedSocket>) -> anyhow::Result<Option<Arc<ControlSocket>>> {
        let bound = match &self.control {
            _ if self.no_control => return Ok(None),
            Some(path) => Some(
                match handed {
                    Some(handed) => ControlSocket::take_over(path, handed).map_err(anyhow::Error::from),
                    None => ControlSocket::bind(path).map_err(anyhow::Error::from),
                }
                .context("cannot make the control socket")?,
            ),
            None => ControlSocket::bind_default()
                .inspect_err(|error| {
                    tracing::warn!("no control socket, so `plugsock ctl` cannot help: {error}")
                })
                .ok(),
        };
        if let Some(socket) = &bound {
            tracing::debug!("control socket {}", plugsock::shown(socket.path()));
        }
        Ok(bound.map(Arc::new))
    }
}

impl Controlled for Running {
    fn servers(&self) -> Vec<Arc<Server>> {
        Self::servers(self).iter().map(|bound| bound.server.clone()).collect()
    }

    fn slots(&self) -> Vec<Slot> {
        self.serving().plugs.iter().map(|plug| plug.slot.clone()).collect()
    }

    fn reload(&self) -> Result<Vec<String>, String> {
        let _reloading = self.supervisor.reloading();
        Self::reload(self)
    }

    fn source(&self, handler: &Path) -> Result<Source, String> {
        match HandlerSource::parse(handler.into())? {
            HandlerSource::File(file) if !file.is_absolute() => Err(format!(
                "write the absolute path of {}: the server runs in a directory of its own",
                file.display()
            )),
            source => Ok(source.for_swap(&self.registry)),
        }
    }

    fn fleet(&self) -> Option<FleetStatus> {
        self.serving().fleet.as_ref().map(|part| part.status())
    }

    fn traces(&self) -> Option<Traces> {
        self.traces.clone()
    }

    fn upgrade(&self) -> Result<u32, String> {
        self.hand_over().map_err(|error| error.to_string())
    }

    fn shutdown(&self) {
        let _ = signal_hook::low_level::raise(SIGTERM);
    }

    fn set_log_filter(&self, filter: &str) -> Result<(), String> {
        self.log.set_filter(filter)
    }
}
