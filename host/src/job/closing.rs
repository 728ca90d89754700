//! Whether connections are to bring no further requests of HTTP.

use std::io;
use std::sync::Arc;

use tokio::sync::watch;

use crate::sandbox::Drain;

#[derive(Debug)]
pub(crate) struct Closing {
    reasons: watch::Sender<Reasons>,
    /// Tells other processes that serve them.
    drain: Arc<Drain>,
}

#[derive(Debug, Default)]
struct Reasons {
    /// The server takes no further requests.
    is_paused: bool,
    /// Others wait for their places, or may.
    is_crowded: bool,
}

impl Reasons {
    fn are_there(&self) -> bool {
        self.is_paused || self.is_crowded
    }
}

impl Closing {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self { reasons: watch::Sender::default(), drain: Arc::new(Drain::new()?) })
    }

    pub(crate) fn drain(&self) -> &Arc<Drain> {
        &self.drain
    }

    pub(crate) fn set_paused(&self, is_paused: bool) {
        self.change(|reasons| reasons.is_paused = is_paused);
    }

    pub(super) fn set_crowded(&self, is_crowded: bool) {
        self.change(|reasons| reasons.is_crowded = is_crowded);
    }

    fn change(&self, change: impl FnOnce(&mut Reasons)) {
        self.reasons.send_if_modified(|reasons| {
            let before = reasons.are_there();
            change(reasons);
            let now = reasons.are_there();
            match (before, now) {
                (false, true) => self.drain.begin(),
                (true, false) => self.drain.take_back(),
                _ => {}
            }
            now != before
        });
    }

    /// Comes when they are.
    pub(super) fn begun(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut reasons = self.reasons.subscribe();
        async move {
            // Without its server it closes, too.
            let _ = reasons.wait_for(Reasons::are_there).await;
        }
    }
}
