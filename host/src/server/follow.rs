//! What a slot needs of a server that serves it.

use std::io;
use std::sync::Arc;

use crate::concurrency::Forking;
use crate::error::Limit;
use crate::job::OpenRequests;
use crate::server_info::ServerInfo;
use crate::slot::{Follower, Version};

#[derive(Debug)]
pub(super) struct SlotFollower {
    pub(super) info: Arc<ServerInfo>,
    pub(super) open: Arc<OpenRequests>,
    pub(super) exchanges: Arc<OpenRequests>,
    pub(super) forking: Option<Arc<Forking>>,
}

impl Follower for SlotFollower {
    fn info(&self) -> &Arc<ServerInfo> {
        &self.info
    }

    fn prepare(&self, version: &Arc<Version>) -> io::Result<()> {
        if let Some(reason) = version.handler.unfit_for(self.info.server_type) {
            return Err(io::Error::new(io::ErrorKind::Unsupported, reason));
        }
        match &self.forking {
            Some(forking) => forking.prepare(version),
            None => {
                version.handler.keep_warm();
                Ok(())
            }
        }
    }

    fn cut(&self, version: &Version) -> usize {
        let generation = Some(version.info.generation);
        self.exchanges.cut(Limit::Draining, generation) + self.open.cut(Limit::Draining, generation)
    }
}
