//! The protection of a connection by TLS: its beginning, what is known of it, and its end.

use std::io;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use rustix::net::Shutdown;
use tokio::io::Interest;

use super::super::protection::{Handshake, Protection, Step, no_tls, plain_beginning};
use super::super::wait::Patience;
use super::{ClientFault, Stream};
use crate::tls::{Keeper, TlsError, TlsInfo, Wanted};

/// What a connection may be protected with.
#[derive(Clone, Debug)]
pub(crate) struct StreamTls {
    pub(crate) keeper: Arc<dyn Keeper>,
    /// Whether it is protected before its handler sees it.
    pub(crate) is_first: bool,
}

/// What is known of the TLS of a connection that may have it.
#[derive(Debug)]
pub(super) struct MayBeProtected {
    with: StreamTls,
    /// What another process has made of it there.
    elsewhere: OnceLock<TlsInfo>,
    /// What the handshake came to, if it went beyond the operator's own matters.
    here: OnceLock<Result<Protection, TlsError>>,
}

impl MayBeProtected {
    pub(super) fn new(with: StreamTls) -> Box<Self> {
        Box::new(Self { with, elsewhere: OnceLock::new(), here: OnceLock::new() })
    }
}

impl Stream {
    /// What may protect it.
    pub(crate) fn tls(&self) -> Option<&StreamTls> {
        self.tls.as_ref().map(|tls| &tls.with)
    }

    /// How it is protected, here or in the process that serves it.
    pub(crate) fn tls_info(&self) -> Option<&TlsInfo> {
        let here = self.shaken().and_then(|protection| Some(protection.as_ref().ok()?.info()));
        here.or_else(|| self.tls.as_ref()?.elsewhere.get())
    }

    pub(crate) fn note_protection(&self, info: TlsInfo) {
        if let Some(tls) = &self.tls {
            let _ = tls.elsewhere.set(info);
        }
    }

    /// Why it could not be protected, or is so no more.
    pub(crate) fn tls_error(&self) -> Option<&TlsError> {
        match self.shaken()? {
            Ok(protection) => protection.failure(),
            Err(error) => Some(error),
        }
    }

    /// What the handshake came to, if there was one.
    fn shaken(&self) -> Option<&Result<Protection, TlsError>> {
        self.tls.as_ref()?.here.get()
    }

    pub(super) fn is_protected(&self) -> bool {
        self.shaken().is_some()
    }

    /// What everything goes through; an error where a handshake has failed, after which nothing goes at all.
    pub(super) fn protection(&self) -> io::Result<Option<&Protection>> {
        match self.shaken() {
            None => Ok(None),
            Some(Ok(protection)) => Ok(Some(protection)),
            Some(Err(error)) => Err(error.clone().into()),
        }
    }

    /// Does the handshake, as its server.
    pub(in crate::request) async fn start_tls(
        &self,
        wanted: Wanted,
        patience: Patience,
    ) -> Result<&TlsInfo, TlsError> {
        let tls = self.tls.as_ref().ok_or_else(TlsError::no_certificates)?;
        match tls.here.get() {
            None => {}
            Some(Ok(_)) => return Err(TlsError::AlreadyProtected),
            Some(Err(error)) => return Err(error.clone()),
        }
        let timeout = tls.with.keeper.handshake_timeout();
        let deadline = [patience.deadline, Instant::now().checked_add(timeout)].into_iter().flatten().min();
        let shaken = self.handshake(&tls.with, wanted, Patience { deadline, ..patience }).await;
        tls.with.keeper.ended(&shaken.as_ref().map(|it| it.info().clone()).map_err(TlsError::clone));
        match &shaken {
            // Nothing was said of it.
            Err(error @ TlsError::NoIdentity(_)) => return Err(error.clone()),
            Ok(_) | Err(TlsError::Host(_)) => {}
            Err(TlsError::TimedOut) if self.is_too_slow() => self.note_fault(ClientFault::Slow),
            Err(TlsError::TimedOut) => self.note_fault(ClientFault::Unprotected(timeout)),
            Err(_) => self.note_fault(ClientFault::Tls),
        }
        tls.here.get_or_init(|| shaken).as_ref().map(Protection::info).map_err(TlsError::clone)
    }

    async fn handshake(
        &self,
        StreamTls { keeper, is_first }: &StreamTls,
        wanted: Wanted,
        patience: Patience,
    ) -> Result<Protection, TlsError> {
        let mut handshake = Handshake::new(&**keeper, wanted)?;
        // A record that is not full would wait until the client has acknowledged the one before, which it may put off for 40 ms.
        let _ = self.socket().set_tcp_nodelay(true);
        // What `wfile` holds was written before.
        self.drain(patience).await.map_err(tls_error)?;
        let beginning = |may_block| plain_beginning(self.socket(), may_block);
        let beginning = self.until_done(Interest::READABLE, patience, beginning).await.map_err(tls_error)?;
        if let Some(beginning) = beginning {
            let error = no_tls(self.socket(), &beginning);
            return Err(if *is_first { error } else { TlsError::UnprotectedBytes });
        }
        loop {
            // A client that always has another byte ready never makes anybody wait.
            if patience.deadline.is_some_and(|at| Instant::now() >= at) {
                return Err(TlsError::TimedOut);
            }
            let socket = self.socket();
            let stepped = match handshake.step() {
                Step::Done => break,
                Step::Read => {
                    let read = |may_block| handshake.read(socket, may_block);
                    self.until_done(Interest::READABLE, patience, read).await
                }
                Step::Write => {
                    let write = |may_block| handshake.write(socket, may_block);
                    self.until_done(Interest::WRITABLE, patience, write).await
                }
            };
            stepped.map_err(tls_error)?;
        }
        Ok(handshake.protection().expect("it is done"))
    }

    /// Has the socket take what TLS has made of what was sent.
    pub(super) async fn flush(&self, patience: Patience) -> io::Result<()> {
        match self.protection()? {
            Some(protection) if !protection.is_flushed() => {
                let flush = |may_block| protection.flush(self.socket(), may_block);
                self.until_done(Interest::WRITABLE, patience, flush).await
            }
            _ => Ok(()),
        }
    }

    /// What a guest asks for: a client of TLS is told of the end first.
    pub(crate) async fn end(&self, how: Shutdown, patience: Patience) -> io::Result<()> {
        if let (Shutdown::Read | Shutdown::Both, Ok(Some(protection))) = (how, self.protection()) {
            protection.end_reading();
        }
        let said = if how == Shutdown::Read { Ok(()) } else { self.say_end(patience).await };
        self.shutdown(how).and(said)
    }

    /// Tells the client of a protected connection that nothing more comes. It waits like any send: a client that takes its
    /// time would else find the end of all that it got cut short.
    pub(in crate::request) async fn say_end(&self, patience: Patience) -> io::Result<()> {
        match self.shaken() {
            Some(Ok(protection)) => {
                protection.say_end();
                self.flush(patience).await
            }
            _ => Ok(()),
        }
    }
}

/// What a failed operation of a handshake is.
fn tls_error(error: io::Error) -> TlsError {
    match error.kind() {
        io::ErrorKind::TimedOut => TlsError::TimedOut,
        _ => match error.downcast::<TlsError>() {
            Ok(error) => error,
            Err(error) => TlsError::Connection(error.to_string()),
        },
    }
}
