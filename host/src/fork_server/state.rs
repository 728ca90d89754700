//! State in a child, which has no store: its host runs the operation for it, and looks at grants and limits first, whatever
//! the child says.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};

use super::host_socket::HostSocket;
use super::message::{Report, StatusSocket};
use crate::packed::Packed;
use crate::runtime;
use crate::sandbox::{Sandbox, StateHost};
use crate::stores::{Failure, Operation, Outcome};
use crate::tls::AskedTooMuch;

/// A child's way to the stores of its host.
#[derive(Debug)]
pub(super) struct RemoteState {
    host: Arc<HostSocket>,
    /// How long it may take for an answer: the host has a limit of its own.
    patience: Duration,
}

/// What the host gets for an answer beyond the time of the operation.
const GRACE: Duration = Duration::from_secs(5);

impl RemoteState {
    pub(super) fn new(host: &Arc<HostSocket>, time: Duration) -> Self {
        Self { host: host.clone(), patience: time.saturating_add(GRACE) }
    }

    fn ask(&self, store: &str, operation: &Operation, deadline: Option<Instant>) -> io::Result<Outcome> {
        let (asked, file) = Packed::pack(&(store, operation))?;
        let fds: Vec<_> = file.iter().map(AsFd::as_fd).collect();
        let until = [Instant::now().checked_add(self.patience), deadline].into_iter().flatten().min();
        let (answer, fds) = self.host.ask::<Packed>(&Report::State(asked), &fds, until)?;
        answer.unpack(fds.into_iter().next(), u64::MAX)
    }
}

impl StateHost for RemoteState {
    fn run(&self, store: &str, operation: Operation, deadline: Option<Instant>) -> Outcome {
        self.ask(store, &operation, deadline)
            .unwrap_or_else(|error| Err(Failure::Other(format!("the host gives no answer: {error}"))))
    }
}

/// The host's side, for one child: one operation at a time.
#[derive(Debug, Default)]
pub(crate) struct Operating {
    is_under_way: Arc<AtomicBool>,
}

impl Operating {
    /// Has what the child asks carried out by what its handler may do, and answers it.
    pub(crate) fn asked(
        &self,
        asked: Packed,
        file: Option<OwnedFd>,
        sandbox: &Sandbox,
        status: &Arc<StatusSocket>,
    ) -> Result<(), AskedTooMuch> {
        if self.is_under_way.swap(true, SeqCst) {
            return Err(AskedTooMuch);
        }
        let (access, is_under_way) = (sandbox.state().clone(), self.is_under_way.clone());
        let (status, max) = (status.clone(), most(sandbox));
        let answered = runtime::spawn(async move {
            let outcome = match asked.unpack::<(String, Operation)>(file, max) {
                Ok((store, operation)) => access.run(&store, operation).await,
                Err(error) => Err(Failure::Other(format!("the host does not understand: {error}"))),
            };
            // Before the answer, upon which the child may ask again.
            is_under_way.store(false, SeqCst);
            answer(&status, &outcome);
        });
        // With the thread that would answer the child goes without, until its time is over.
        if let Err(error) = answered {
            tracing::error!("state of forked children: {error}");
        }
        Ok(())
    }
}

/// How large what a child asks may be: no guest can hand more to its host.
fn most(sandbox: &Sandbox) -> u64 {
    (sandbox.limits().call_bytes as u64).saturating_mul(2)
}

fn answer(status: &StatusSocket, outcome: &Outcome) {
    let answered = Packed::pack(outcome).and_then(|(answer, file)| {
        let fds: Vec<_> = file.iter().map(AsFd::as_fd).collect();
        status.answer(&answer, &fds)
    });
    // A child that does not read its answers goes without.
    if let Err(error) = answered {
        tracing::debug!("a child is not answered: {error}");
    }
}
