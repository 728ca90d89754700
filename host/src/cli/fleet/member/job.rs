//! What the fleet asks for and takes long, on a thread of its own.

use plugsock::Digest;
use tokio::sync::mpsc::UnboundedSender;

/// Does it.
pub(super) type Work = Box<dyn FnOnce() -> Result<(), NotTaken> + Send>;

pub(super) struct Job {
    pub(super) work: Work,
    pub(super) outcome: Outcome,
    pub(super) ended: UnboundedSender<Outcome>,
}

/// What was done for which roll-out, and what came of it. Without a digest it was what the host was started with.
pub(super) struct Outcome {
    pub(super) slot: String,
    pub(super) generation: u64,
    pub(super) digest: Option<Digest>,
    pub(super) taken: Result<(), NotTaken>,
}

pub(super) enum NotTaken {
    /// It may yet be.
    NotYet(String),
    /// It is not to be.
    Refused(String),
}

impl Job {
    pub(super) fn run(self) {
        let taken = (self.work)();
        let _ = self.ended.send(Outcome { taken, ..self.outcome });
    }
}
