//! How a server that runs is changed: its rules for clients at once, and all else by another server on the same socket.

use super::{Server, ServerOptions};
use crate::clients::ClientLimits;
use crate::error::BindError;
use crate::listener::Listener;
use crate::slot::Slot;

impl Server {
    /// Asks this of newcomers from now on; who is open, or was counted, is so still. Whose connections begin with PROXY headers
    /// stays as it was.
    pub fn set_clients(&self, limits: ClientLimits) {
        let max = limits.max_connections.unwrap_or(usize::MAX);
        self.service.clients.set_limits(limits);
        self.admission.set_max(max.min(self.concurrency.capacity()));
    }

    /// Another server on this one's socket, with options of its own. Both may accept until this one is closed.
    /// [`give_way`](Self::give_way) comes before that.
    pub fn successor(&self, slot: impl Into<Slot>, options: ServerOptions) -> Result<Self, BindError> {
        let handed = self.hand_out()?;
        let info = self.info();
        let listener = Listener::take_over(handed, info.server_type, &options.socket)?.with_tls(info.is_tls);
        Self::with_listener(listener, slot, options)
    }

    /// Leaves what belongs to the socket, such as a Unix socket's file, to its successor.
    pub fn give_way(&self, successor: &Self) {
        self.set_owned(false);
        successor.set_owned(true);
        if self.is_paused() {
            successor.pause();
        }
    }
}
