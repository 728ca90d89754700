//! HTTP handlers, which export `wasi:http/incoming-handler`. A connection is what a server accepts and a strategy places;
//! hyper speaks the protocol on it, and each request that comes by it gets an instance of its own, of the version that serves
//! when it begins.

mod access;
mod answer;
mod connection;
mod exchange;
mod fixed;
mod handover;
mod head;
mod incoming;
mod outgoing;
mod serving;
mod traffic;
mod wire;

use std::any::Any;
use std::pin::Pin;
use std::sync::Arc;

pub(crate) use connection::serve;
pub(super) use exchange::HttpRequest;
pub(crate) use fixed::Fixed;
pub(crate) use handover::Handover;
pub(super) use outgoing::Http;

use wasmtime::Store;
use wasmtime_wasi_http::WasiHttpView;
use wasmtime_wasi_http::p2::bindings::exports::wasi::http::incoming_handler;

use super::handler::failed;
use super::state::State;
use super::watch::Watch;
use super::{Handler, VersionInfo};
use crate::error::{Cause, Phase, RequestError};
use crate::traces::{Came, Recorded};

/// What a TLS client is offered.
pub(super) const ALPN: [&str; 2] = ["h2", "http/1.1"];

/// Has an instance answer one request.
pub(super) async fn run(
    handler: &incoming_handler::Guest,
    store: &mut Store<State>,
    HttpRequest { scheme, request, answering, .. }: HttpRequest,
) -> Result<(), Cause> {
    let unless_done = answering.break_off();
    store.data().watch.enter(Phase::Handle);
    let mut http = store.data_mut().http();
    let resources = http.new_incoming_request(scheme, request).and_then(|request| {
        let give = move |answer| answering.give_guests(answer);
        Ok((request, http.new_response_outparam_from_callback(give)?))
    });
    let handled = match resources {
        Ok((request, answer)) => handler.call_handle(&mut *store, request, answer).await,
        Err(error) => Err(error),
    };
    handled.map_err(|error| failed(store, error))?;
    unless_done.disarm();
    Ok(())
}

/// What a connection asks of whoever it is served for.
pub(crate) trait Exchanges: Send + Sync {
    /// Takes the version for a request that begins, and that came like this if that is to be known; `None` if what serves now is no HTTP handler.
    fn begin(&self, id: u64, came: Option<Came>) -> Option<Begun>;

    /// Room for one request more than the connection has for itself, if there is some.
    fn more_room(&self) -> Option<Room>;

    /// A request has ended like this.
    fn end(&self, id: u64, begun: Begun, served: Result<(), RequestError>) -> Pending<'_>;

    /// A request was answered with this status, whoever answered it.
    fn answered(&self, status: http::StatusCode);

    /// A request was answered in the place of a guest, and is told of.
    fn refused(&self, trace: Recorded);

    /// Comes when the connection is to end as soon as that loses nothing.
    fn closing(&self) -> Pending<'static>;

    /// Whether others wait for the place of this connection, so that it is not to be kept for further requests.
    fn is_crowded(&self) -> bool;

    /// How it goes to another version, where all of its requests get the same here.
    fn handover(&self) -> Option<Arc<Handover>> {
        None
    }
}

/// Room for an instance, until it is dropped.
pub(crate) type Room = Box<dyn Any + Send>;

pub(crate) type Pending<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// A request's version, and what is kept until the request ends.
pub(crate) struct Begun {
    pub(crate) handler: Handler,
    pub(crate) version: VersionInfo,
    pub(crate) watch: Arc<Watch>,
    pub(crate) kept: Box<dyn Any + Send>,
}
