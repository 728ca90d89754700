//! Lets a guest let go of its resources in any order.
//!
//! WASI lets a host trap where a stream goes before what waits for it, or a socket before its streams, and wasmtime's
//! does. A language with a collector lets go of them in the order that its collector finds. So what goes too early stays
//! until the last that was made of it has gone.

use std::future::Future;
use std::pin::Pin;

use wasmtime::Result;
use wasmtime::component::{Linker, Resource, ResourceTableError, ResourceType};
use wasmtime_wasi::p2::bindings::io::poll::HostPollable;
use wasmtime_wasi::p2::bindings::io::streams::{HostInputStream, HostOutputStream};
use wasmtime_wasi::p2::bindings::sockets::ip_name_lookup::ResolveAddressStream;
use wasmtime_wasi::p2::bindings::sockets::tcp::TcpSocket;
use wasmtime_wasi::p2::bindings::sockets::udp::{
    HostOutgoingDatagramStream, IncomingDatagramStream, OutgoingDatagramStream, UdpSocket,
};
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream, DynPollable};
use wasmtime_wasi::sockets::WasiSocketsView as _;
use wasmtime_wasi_tls::p2::{HostClientConnection, HostFutureClientStreams};

use super::state::State;

/// How a resource of one type is let go of.
type Dropping = for<'a> fn(&'a mut State, u32) -> Pin<Box<dyn Future<Output = Result<()>> + Send + 'a>>;

/// What the guest has let go of before what was made of it.
#[derive(Default)]
pub(super) struct Orphans(Vec<(u32, Dropping)>);

const POLL: &str = "wasi:io/poll@0.2.12";
const STREAMS: &str = "wasi:io/streams@0.2.12";
const TCP: &str = "wasi:sockets/tcp@0.2.12";
const UDP: &str = "wasi:sockets/udp@0.2.12";
const LOOKUP: &str = "wasi:sockets/ip-name-lookup@0.2.12";
const TLS: &str = "wasi:tls/types@0.2.0-draft";

/// Replaces WASI's own way to let go of what has others made of it, or is made of others.
pub(super) fn add_to_linker(linker: &mut Linker<State>) -> Result<()> {
    linker.allow_shadowing(true);
    define::<DynPollable>(linker, POLL, "pollable", |state, rep| {
        Box::pin(async move { HostPollable::drop(&mut state.table, Resource::new_own(rep)) })
    })?;
    define::<DynInputStream>(linker, STREAMS, "input-stream", |state, rep| {
        Box::pin(async move { HostInputStream::drop(&mut state.table, Resource::new_own(rep)).await })
    })?;
    define::<DynOutputStream>(linker, STREAMS, "output-stream", |state, rep| {
        Box::pin(async move { HostOutputStream::drop(&mut state.table, Resource::new_own(rep)).await })
    })?;
    define::<TcpSocket>(linker, TCP, "tcp-socket", delete::<TcpSocket>)?;
    define::<UdpSocket>(linker, UDP, "udp-socket", delete::<UdpSocket>)?;
    define::<IncomingDatagramStream>(
        linker,
        UDP,
        "incoming-datagram-stream",
        delete::<IncomingDatagramStream>,
    )?;
    define::<OutgoingDatagramStream>(linker, UDP, "outgoing-datagram-stream", |state, rep| {
        Box::pin(async move {
            HostOutgoingDatagramStream::drop(&mut state.sockets(), Resource::new_own(rep)).await
        })
    })?;
    define::<ResolveAddressStream>(linker, LOOKUP, "resolve-address-stream", delete::<ResolveAddressStream>)?;
    define::<HostFutureClientStreams>(
        linker,
        TLS,
        "future-client-streams",
        delete::<HostFutureClientStreams>,
    )?;
    define::<HostClientConnection>(linker, TLS, "client-connection", delete::<HostClientConnection>)?;
    linker.allow_shadowing(false);
    Ok(())
}

fn define<T: 'static>(
    linker: &mut Linker<State>,
    interface: &str,
    resource: &str,
    dropping: Dropping,
) -> Result<()> {
    linker.instance(interface)?.resource_async(resource, ResourceType::host::<T>(), move |mut store, rep| {
        Box::new(async move { let_go(store.data_mut(), rep, dropping).await })
    })
}

/// For what needs nothing else when it goes.
fn delete<T: Send + 'static>(
    state: &mut State,
    rep: u32,
) -> Pin<Box<dyn Future<Output = Result<()>> + Send + '_>> {
    Box::pin(async move { Ok(state.table.delete(Resource::<T>::new_own(rep)).map(drop)?) })
}

/// Lets go of it if nothing that was made of it is left, and of those that waited for this.
async fn let_go(state: &mut State, rep: u32, dropping: Dropping) -> Result<()> {
    if !is_gone(dropping(state, rep).await)? {
        state.orphans.0.push((rep, dropping));
        return Ok(());
    }
    let mut index = 0;
    while let Some((rep, dropping)) = state.orphans.0.get(index).copied() {
        if is_gone(dropping(state, rep).await)? {
            state.orphans.0.swap_remove(index);
            // It may have been the last of another.
            index = 0;
        } else {
            index += 1;
        }
    }
    Ok(())
}

/// Whether it could go; it could not if others are left that were made of it.
fn is_gone(dropped: Result<()>) -> Result<bool> {
    match dropped {
        Err(error) if matches!(error.downcast_ref(), Some(ResourceTableError::HasChildren)) => Ok(false),
        dropped => dropped.map(|()| true),
    }
}
