//! State in a child, which has no store: its host runs the operation for it, and looks at grants and limits first, whatever
//! the child says.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use rustix::net::RecvFlags;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::message::{Report, StatusSocket};
use crate::helper_process::{message_buffer, recv, send};
use crate::runtime;
use crate::sandbox::{Sandbox, StateHost, read_sealed, sealed_file};
use crate::stores::{Failure, Operation, Outcome};
use crate::tls::AskedTooMuch;
use crate::wake::poll_until;

/// A value on its way to another process.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Packed {
    Here(Vec<u8>),
    /// In a sealed file beside it: it is more than a message has room for.
    Beside,
}

/// The most that a message has room for beside what else is in it.
const HERE_MAX: usize = 64 << 10;

impl Packed {
    /// A value, and the file that has to go beside it.
    fn pack(value: &impl Serialize) -> io::Result<(Self, Option<OwnedFd>)> {
        let bytes = postcard::to_stdvec(value).map_err(io::Error::other)?;
        match bytes.len() <= HERE_MAX {
            true => Ok((Self::Here(bytes), None)),
            false => Ok((Self::Beside, Some(sealed_file("state", &bytes)?))),
        }
    }

    /// The value, if it is no more than `max` bytes.
    fn unpack<T: DeserializeOwned>(self, file: Option<OwnedFd>, max: u64) -> io::Result<T> {
        let bytes = match (self, file) {
            (Self::Here(bytes), _) => bytes,
            (Self::Beside, Some(file)) => read_sealed(file, max)?,
            (Self::Beside, None) => return Err(io::Error::other("there is no file beside it")),
        };
        match postcard::take_from_bytes(&bytes).map_err(io::Error::other)? {
            (value, []) => Ok(value),
            _ => Err(io::Error::other("more than a value has come")),
        }
    }
}

/// A child's way to the stores of its host.
#[derive(Debug)]
pub(super) struct RemoteState {
    status: Arc<OwnedFd>,
    /// How long it may take for an answer: the host has a limit of its own.
    patience: Duration,
    /// When it has once: an answer that came too late would be taken for the next one's.
    has_failed: Mutex<bool>,
}

/// What the host gets for an answer beyond the time of the operation.
const GRACE: Duration = Duration::from_secs(5);

impl RemoteState {
    pub(super) fn new(status: &Arc<OwnedFd>, time: Duration) -> Self {
        Self { status: status.clone(), patience: time.saturating_add(GRACE), has_failed: Mutex::default() }
    }

    fn ask(&self, store: &str, operation: &Operation, deadline: Option<Instant>) -> io::Result<Outcome> {
        let (asked, file) = Packed::pack(&(store, operation))?;
        let fds: Vec<_> = file.iter().map(AsFd::as_fd).collect();
        send(&self.status, &Report::State(asked), &fds)?;
        let mut fds = [PollFd::new(&*self.status, PollFlags::IN)];
        let patience = Instant::now().checked_add(self.patience);
        if !poll_until(&mut fds, [patience, deadline].into_iter().flatten().min())? {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let answered = recv::<Packed>(&self.status, &mut message_buffer(), RecvFlags::empty())?;
        let (answer, fds) = answered.ok_or_else(|| io::Error::other("it has gone"))?;
        answer.unpack(fds.into_iter().next(), u64::MAX)
    }
}

impl StateHost for RemoteState {
    fn run(&self, store: &str, operation: Operation, deadline: Option<Instant>) -> Outcome {
        let mut has_failed = self.has_failed.lock().unwrap_or_else(PoisonError::into_inner);
        let failed = |reason: String| Err(Failure::Other(format!("the host gives no answer: {reason}")));
        if *has_failed {
            return failed("it gave none before".to_owned());
        }
        self.ask(store, &operation, deadline).unwrap_or_else(|error| {
            *has_failed = true;
            failed(error.to_string())
        })
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stores::Answer;

    #[test]
    fn what_is_packed_is_unpacked() {
        for length in [0, 100, HERE_MAX, HERE_MAX + 1, 1 << 20] {
            let asked = ("counts".to_owned(), Operation::Set("a".to_owned(), vec![7; length]));
            let (packed, file) = Packed::pack(&asked).unwrap();
            assert_eq!(file.is_some(), length >= HERE_MAX, "{length}");
            assert_eq!(packed.unpack::<(String, Operation)>(file, 2 << 20).unwrap(), asked);
        }
    }

    /// A child that was broken out of says what it likes.
    #[test]
    fn what_is_no_operation_is_refused() {
        let refused = |packed: Packed, file| packed.unpack::<(String, Operation)>(file, 1000).is_err();
        assert!(refused(Packed::Beside, None));
        assert!(refused(Packed::Here(Vec::new()), None));
        for byte in 0..=255 {
            // Lengths that nothing follows, and kinds that there are not.
            assert!(refused(Packed::Here(vec![byte; 3]), None), "{byte}");
        }
        // It says that it has 2^60 entries.
        let many = [&[1, b'a', 9][..], &[0xff; 8], &[0x0f]].concat();
        assert!(refused(Packed::Here(many), None));
        let large = sealed_file("large", &[0; 1001]).unwrap();
        assert!(refused(Packed::Beside, Some(large)));
        let (pipe, _writer) = rustix::pipe::pipe().unwrap();
        assert!(refused(Packed::Beside, Some(pipe)));
    }

    #[test]
    fn an_answer_is_what_was_answered() {
        let outcome: Outcome = Ok(Answer::Value(Some(vec![1, 2, 3])));
        let (packed, file) = Packed::pack(&outcome).unwrap();
        assert_eq!(packed.unpack::<Outcome>(file, 100).unwrap(), outcome);
    }
}
