//! The host side of the contract's `request` resource.

use std::future::{Future, ready};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::Shutdown;
use wasmtime::component::{HasSelf, Linker, Resource, WasmList};
use wasmtime::{Result, StoreContextMut};
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream, DynPollable, subscribe};

use super::contract::types::{self, Address, Error, Host, HostRequest, ServerInfo, ShutdownHow};
use super::contract::{IpSocketAddress, Ipv4SocketAddress, Ipv6SocketAddress};
use super::state::State;
use super::streams::{Connection, DrainWatch, Rfile, Wfile};
use super::tls;
use crate::address::{ServerType, SocketAddress, UnixAddress};
use crate::block_on::poll_once;
use crate::request::{Request, Transport};
use crate::tls::Wanted;
use crate::traces::Call;

/// What the guest's handle stands for. A store serves one request, so it need not say which.
pub struct RequestResource;

impl RequestResource {
    /// A handle to lend to the guest.
    pub(super) fn borrowed() -> Resource<Self> {
        Resource::new_borrow(0)
    }
}

type Outcome<T> = Result<std::result::Result<T, Error>>;

impl State {
    /// The guest has a handle only while there is a request.
    fn request(&self) -> &Request {
        self.watch.goes_on();
        self.request.as_ref().expect("a handle was lent for it")
    }

    pub(super) fn request_handle(&self) -> Arc<Request> {
        self.request.clone().expect("a handle was lent for it")
    }

    fn may_use_connection(&self) -> std::result::Result<(), Error> {
        match self.request().transport {
            Transport::Stream(_) if self.is_verifying => Err(Error::Unsupported),
            _ => Ok(()),
        }
    }

    /// An operation's result as the guest sees it; a trap if the request's time is over.
    fn outcome<T>(&self, result: io::Result<T>) -> Outcome<T> {
        // What a cut makes of the connection must not pass for what the client said.
        if let Some(cut) = self.watch.cut_off() {
            return Err(cut.into());
        }
        match result {
            Ok(value) => Ok(Ok(value)),
            Err(error) => match self.watch.reached() {
                Some(limit) => Err(limit.into()),
                None => Ok(Err(contract_error(&error))),
            },
        }
    }
}

impl Host for State {}

/// Defines the contract's functions for handlers.
pub(super) fn add_to_linker(linker: &mut Linker<State>) -> Result<()> {
    types::add_to_linker::<State, HasSelf<State>>(linker, |state| state)?;
    // The generated binding copies all that is sent out of the guest's memory first.
    linker.allow_shadowing(true);
    linker.instance("plugsock:handler/types@0.1.1")?.func_wrap_async("[method]request.send", send)?;
    linker.allow_shadowing(false);
    Ok(())
}

type Sent = (std::result::Result<(), Error>,);

/// Sends the guest's bytes from where they lie, and copies only what has to wait in a task.
fn send(
    store: StoreContextMut<'_, State>,
    (_, data): (Resource<RequestResource>, WasmList<u8>),
) -> Box<dyn Future<Output = Result<Sent>> + Send + '_> {
    let state = store.data();
    if let Err(error) = state.may_use_connection() {
        return Box::new(ready(Ok((Err(error),))));
    }
    let (patience, waiting) = (state.patience(), state.watch.waiting(|| Call::Send));
    let data = data.as_le_slice(&store);
    let mut sent = 0;
    // On a thread of its own it is never found pending.
    match poll_once(state.request().send_rest(data, &mut sent, patience)) {
        Poll::Ready(result) => Box::new(ready(state.outcome(result).map(|outcome| (outcome,)))),
        Poll::Pending => {
            let (request, rest) = (state.request_handle(), data[sent..].to_vec());
            Box::new(async move {
                let result = request.send(&rest, patience).await;
                drop(waiting);
                store.data().outcome(result).map(|outcome| (outcome,))
            })
        }
    }
}

impl HostRequest for State {
    fn id(&mut self, _: Resource<RequestResource>) -> Result<u64> {
        Ok(self.request().id())
    }

    fn server(&mut self, _: Resource<RequestResource>) -> Result<ServerInfo> {
        Ok(self.server_info())
    }

    fn worker(&mut self, _: Resource<RequestResource>) -> Result<String> {
        Ok(rustix::thread::name()?.to_string_lossy().into_owned())
    }

    fn client_address(&mut self, _: Resource<RequestResource>) -> Result<Address> {
        Ok(contract_address(self.request().client_address()))
    }

    fn unix_credentials(&mut self, _: Resource<RequestResource>) -> Result<Option<types::UnixCredentials>> {
        Ok(self.request().unix_credentials().map(|credentials| types::UnixCredentials {
            pid: credentials.pid,
            uid: credentials.uid,
            gid: credentials.gid,
        }))
    }

    async fn recv(&mut self, _: Resource<RequestResource>, max: u32) -> Outcome<Vec<u8>> {
        if let Err(error) = self.may_use_connection() {
            return Ok(Err(error));
        }
        let waiting = self.watch.waiting(|| Call::Recv);
        let received = self.request().recv(max as usize, self.patience()).await;
        drop(waiting);
        self.outcome(received)
    }

    async fn send(&mut self, _: Resource<RequestResource>, _: Vec<u8>) -> Outcome<()> {
        unreachable!("`add_to_linker` defines another")
    }

    async fn send_to(&mut self, _: Resource<RequestResource>, data: Vec<u8>, to: Address) -> Outcome<()> {
        if !self.sandbox.grants().send_to {
            return Ok(Err(Error::NotPermitted));
        }
        let waiting = self.watch.waiting(|| Call::Send);
        let sent = self.request().send_to(&data, &socket_address(to), self.patience()).await;
        drop(waiting);
        self.outcome(sent)
    }

    async fn shutdown(&mut self, _: Resource<RequestResource>, how: ShutdownHow) -> Outcome<()> {
        if let Err(error) = self.may_use_connection() {
            return Ok(Err(error));
        }
        let Transport::Stream(stream) = &self.request().transport else { return Ok(Ok(())) };
        let how = match how {
            ShutdownHow::Read => Shutdown::Read,
            ShutdownHow::Write => Shutdown::Write,
            ShutdownHow::Both => Shutdown::Both,
        };
        let done = stream.end(how, self.patience()).await;
        self.outcome(done)
    }

    fn set_timeout(&mut self, _: Resource<RequestResource>, nanoseconds: Option<u64>) -> Outcome<()> {
        self.deadlines.timeout = nanoseconds.map(Duration::from_nanos);
        Ok(Ok(()))
    }

    fn set_nodelay(&mut self, _: Resource<RequestResource>, on: bool) -> Outcome<()> {
        let (Transport::Stream(stream), ServerType::Tcp) =
            (&self.request().transport, self.server.server_type)
        else {
            return Ok(Err(Error::Unsupported));
        };
        let done = stream.socket().set_tcp_nodelay(on);
        self.outcome(done)
    }

    fn rfile(&mut self, _: Resource<RequestResource>) -> Outcome<Resource<DynInputStream>> {
        if let Err(error) = self.may_use_connection() {
            return Ok(Err(error));
        }
        crate::runtime::enter()?;
        let rfile = Rfile::new(Connection::of(self));
        Ok(Ok(self.table.push(Box::new(rfile) as DynInputStream)?))
    }

    fn wfile(&mut self, _: Resource<RequestResource>) -> Outcome<Resource<DynOutputStream>> {
        if let Err(error) = self.may_use_connection() {
            return Ok(Err(error));
        }
        crate::runtime::enter()?;
        let wfile = Wfile::new(Connection::of(self));
        Ok(Ok(self.table.push(Box::new(wfile) as DynOutputStream)?))
    }

    fn is_draining(&mut self, _: Resource<RequestResource>) -> Result<bool> {
        Ok(self.version.drain.as_ref().is_some_and(|drain| drain.is_begun()))
    }

    fn subscribe_drain(&mut self, _: Resource<RequestResource>) -> Result<Resource<DynPollable>> {
        crate::runtime::enter()?;
        let watch = self.table.push(DrainWatch(self.version.drain.clone()))?;
        subscribe(&mut self.table, watch)
    }

    async fn start_tls(
        &mut self,
        _: Resource<RequestResource>,
        identity: Option<String>,
        alpn: Vec<String>,
    ) -> Result<std::result::Result<types::TlsInfo, types::TlsError>> {
        if let Err(error) = self.may_use_connection() {
            return Ok(Err(types::TlsError::Connection(error)));
        }
        let wanted = Wanted { identity, alpn: Some(alpn), ..Wanted::default() };
        let waiting = self.watch.waiting(|| Call::StartTls);
        let shaken = self.request().start_tls(wanted, self.handshake_patience()).await;
        drop(waiting);
        if let Some(limit) = self.watch.reached() {
            return Err(limit.into());
        }
        Ok(shaken.map(tls::contract_info).map_err(|error| tls::contract_error(&error)))
    }

    fn tls(&mut self, _: Resource<RequestResource>) -> Result<Option<types::TlsInfo>> {
        Ok(self.request().tls().map(tls::contract_info))
    }

    fn tls_error(&mut self, _: Resource<RequestResource>) -> Result<Option<types::TlsError>> {
        Ok(self.request().tls_error().map(tls::contract_error))
    }

    fn drop(&mut self, _: Resource<RequestResource>) -> Result<()> {
        Ok(())
    }
}

impl State {
    pub(super) fn server_info(&self) -> ServerInfo {
        ServerInfo {
            name: self.server.name.clone(),
            server_type: match self.server.server_type {
                ServerType::Tcp => types::ServerType::Tcp,
                ServerType::Udp => types::ServerType::Udp,
                ServerType::UnixStream => types::ServerType::UnixStream,
                ServerType::UnixDatagram => types::ServerType::UnixDatagram,
            },
            server_address: contract_address(&self.server.server_address),
            concurrency: self.server.concurrency.clone(),
            handler_digest: self.digest.to_string(),
            generation: self.version.generation,
        }
    }
}

fn contract_error(error: &io::Error) -> Error {
    use io::ErrorKind as Kind;
    match (error.kind(), Errno::from_io_error(error)) {
        (_, Some(Errno::MSGSIZE)) => Error::MessageTooLarge,
        (Kind::Unsupported, _) => Error::Unsupported,
        (Kind::TimedOut | Kind::WouldBlock, _) => Error::TimedOut,
        (Kind::ConnectionReset | Kind::ConnectionAborted, _) => Error::Reset,
        // `request::Datagram` says so of a client without a name; no system call fails in this way.
        (Kind::NotConnected, None) => Error::NoReplyAddress,
        (Kind::BrokenPipe | Kind::NotConnected | Kind::ConnectionRefused, _) => Error::Closed,
        _ => Error::Other(error.to_string()),
    }
}

pub(super) fn contract_address(address: &SocketAddress) -> Address {
    match address {
        SocketAddress::Inet(SocketAddr::V4(v4)) => {
            let [a, b, c, d] = v4.ip().octets();
            Address::Ip(IpSocketAddress::Ipv4(Ipv4SocketAddress { port: v4.port(), address: (a, b, c, d) }))
        }
        SocketAddress::Inet(SocketAddr::V6(v6)) => {
            let [a, b, c, d, e, f, g, h] = v6.ip().segments();
            Address::Ip(IpSocketAddress::Ipv6(Ipv6SocketAddress {
                port: v6.port(),
                flow_info: v6.flowinfo(),
                address: (a, b, c, d, e, f, g, h),
                scope_id: v6.scope_id(),
            }))
        }
        SocketAddress::Unix(name) => Address::Unix(match name {
            UnixAddress::Unnamed => types::UnixAddress::Unnamed,
            UnixAddress::Path(path) => types::UnixAddress::Pathname(path.to_string_lossy().into_owned()),
            UnixAddress::Abstract(name) => types::UnixAddress::AbstractName(name.clone()),
        }),
    }
}

fn socket_address(address: Address) -> SocketAddress {
    match address {
        Address::Ip(IpSocketAddress::Ipv4(v4)) => {
            let (a, b, c, d) = v4.address;
            SocketAddr::from(([a, b, c, d], v4.port)).into()
        }
        Address::Ip(IpSocketAddress::Ipv6(v6)) => {
            let (a, b, c, d, e, f, g, h) = v6.address;
            let ip = [a, b, c, d, e, f, g, h].into();
            SocketAddr::V6(std::net::SocketAddrV6::new(ip, v6.port, v6.flow_info, v6.scope_id)).into()
        }
        Address::Unix(name) => SocketAddress::Unix(match name {
            types::UnixAddress::Unnamed => UnixAddress::Unnamed,
            types::UnixAddress::Pathname(path) => UnixAddress::Path(path.into()),
            types::UnixAddress::AbstractName(name) => UnixAddress::Abstract(name),
        }),
    }
}
