//! What a slot needs of a server that serves it.

use std::io;
use std::sync::Arc;

use super::open::OpenRequests;
use crate::concurrency::Forking;
use crate::error::Limit;
use crate::server_info::ServerInfo;
use crate::slot::{Follower, Version};

#[derive(Debug)]
pub(super) struct Following {
    pub(super) info: Arc<ServerInfo>,
    pub(super) open: Arc<OpenRequests>,
    pub(super) forking: Option<Arc<Forking>>,
}

impl Follower for Following {
    fn info(&self) -> &Arc<ServerInfo> {
        &self.info
    }

    fn prepare(&self, version: &Arc<Version>) -> io::Result<()> {
        match &self.forking {
            Some(forking) => forking.prepare(version),
            None => {
                version.handler.keep_warm();
                Ok(())
            }
        }
    }

    fn cut(&self, version: &Version) -> usize {
        let is_served_here = self.forking.is_none();
        let generation = version.info.generation;
        let is_of_version = |request: &crate::request::Request| {
            request.version.as_ref().is_some_and(|version| version.info.generation == generation)
        };
        let cut = self.open.cut(Limit::Draining, is_served_here, is_of_version);
        if let Some(forking) = &self.forking {
            forking.cut(version);
        }
        cut
    }
}
