"""Request handlers for Plugsock in Python: socketserver's handler classes.

    class Echo(StreamRequestHandler):
        def handle(self):
            for line in self.rfile:
                self.wfile.write(line)

    RequestHandler = export(Echo)

A handler that has a say in how its server runs has a class of hooks, too: `ServerHooks = export_hooks(MyHooks)`.

One instance of the component serves one request. After an error in `setup` neither `handle` nor `finish` runs,
after one in `handle` only `finish`. An error is reported in words, and its traceback goes to the log.
"""

import io
import ipaddress
import traceback
from typing import NamedTuple

from componentize_py_types import Err
from wit_world.imports import monotonic_clock, network, streams, types
from wit_world.imports.poll import Pollable, poll
from wit_world.imports.types import ServerType, ShutdownHow, TlsInfo

__all__ = [
    "BaseRequestHandler",
    "BaseServerHooks",
    "DatagramRequestHandler",
    "Failure",
    "InputStream",
    "OutputStream",
    "Pollable",
    "Request",
    "ServerType",
    "ShutdownHow",
    "StreamRequestHandler",
    "TlsEOFError",
    "TlsError",
    "TlsInfo",
    "export",
    "export_hooks",
    "poll",
    "timer",
]

# The most that one `recv` is asked for, however much a reader wants: the host has to hold it, too.
MOST = 1024 * 1024


class BaseRequestHandler:
    """Serves one request through `self.request`, a `Request`."""

    def __init__(self, request):
        self.request = request
        self.client_address = request.client_address

    def setup(self):
        """Prepares."""

    def handle(self):
        """Serves the request."""

    def finish(self):
        """Cleans up; runs after `handle` has failed, too."""


class StreamRequestHandler(BaseRequestHandler):
    """Serves one request through `self.rfile` and `self.wfile`.

    The same handler serves datagrams: `rfile` is the packet, and what is written to `wfile` is the reply."""

    rbufsize = -1
    wbufsize = 0
    timeout = None
    disable_nagle_algorithm = False

    def __init__(self, request):
        super().__init__(request)
        self.connection = request
        if self.timeout is not None:
            request.settimeout(self.timeout)
        if self.disable_nagle_algorithm:
            request.disable_nagle_algorithm()
        rfile = _Rfile(request)
        self.rfile = io.BufferedReader(rfile, self.rbufsize) if self.rbufsize > 0 else io.BufferedReader(rfile)
        self.wfile = io.BytesIO() if request.is_datagram else _Wfile(request)
        if self.wbufsize > 0 and not request.is_datagram:
            self.wfile = io.BufferedWriter(self.wfile, self.wbufsize)
        request._files = rfile, self.rfile, self.wfile

    def _close(self):
        if self.request.is_datagram:
            if self.wfile.getvalue():
                self.request.sendall(self.wfile.getvalue())
            return
        try:
            self.wfile.flush()
        except (BrokenPipeError, ConnectionResetError):
            # The client has gone, as clients do.
            pass


class DatagramRequestHandler(StreamRequestHandler):
    """Serves one packet: `self.packet`, or `self.rfile`; what is written to `self.wfile` is the reply."""

    def __init__(self, request):
        if not request.is_datagram:
            raise TypeError(f"this handler serves datagrams only, not {request.server.server_type.name.lower()}")
        super().__init__(request)
        self.packet = self.rfile.read()
        self.rfile = io.BytesIO(self.packet)


class Request:
    """The request being served, with a socket's methods."""

    def __init__(self, request):
        # The contract's own, lent anew to each of the handler's methods.
        self.raw = request
        self.id = request.id()
        self.server = request.server()
        self.is_datagram = self.server.server_type in (ServerType.UDP, ServerType.UNIX_DATAGRAM)
        self.client_address = _address(request.client_address())
        # What a handler reads and writes by, if it has files: the unbuffered one below `rfile`, `rfile`, `wfile`.
        self._files = None

    def recv(self, size):
        """Blocks until data arrive: up to `size` bytes, or the packet; empty at the end."""
        return self._call(self.raw.recv, min(size, MOST))

    def sendall(self, data):
        """Blocks until all is sent; where there are datagrams, as one of its own."""
        self._call(self.raw.send, bytes(data))

    def sendto(self, data, address):
        """Sends one datagram to another address, where the server was granted this. Addresses are those of `socket`."""
        self._call(self.raw.send_to, bytes(data), _contract_address(address))

    def input_stream(self):
        """The same bytes as `recv`, as an `InputStream`. What `rfile` holds is not in it."""
        return InputStream(self._call(self.raw.rfile))

    def output_stream(self):
        """The same bytes as `sendall`, as an `OutputStream`."""
        return OutputStream(self._call(self.raw.wfile))

    def is_draining(self):
        """Whether a newer version of the handler has replaced this one, so that the request should end at the next good
        point. Always false unless the server was told to say so (`--drain-signal`)."""
        return self.raw.is_draining()

    def subscribe_drain(self):
        """Ready once `is_draining()` is true."""
        return self.raw.subscribe_drain()

    def shutdown(self, how):
        """Half-closes or closes the connection."""
        self._call(self.raw.shutdown, how)

    def settimeout(self, seconds):
        """How long one `recv` or `sendall` may wait; `None` restores the server's own limit."""
        self._call(self.raw.set_timeout, None if seconds is None else int(seconds * 1e9))

    def disable_nagle_algorithm(self):
        """Sends small segments at once; without effect where there is no such algorithm."""
        try:
            self.raw.set_nodelay(True)
        except Err as error:
            if not isinstance(error.value, types.Error_Unsupported):
                raise _exception(error.value) from None

    def start_tls(self, identity=None, alpn=()):
        """Protects the connection by TLS, as its server: from here on `rfile` and `wfile` are of the protected connection.

        `identity` names one of the server's certificates; with `None` it is the one for the name that the client
        asks for. `alpn` are the application protocols that the handler speaks, the preferred first. Raises a
        `TlsError`, or what a connection without TLS fails with. The connection is over then, unless the error's code
        is "no-identity" or "already-protected"."""
        if self._files is not None and not self.is_datagram:
            rfile, buffered, wfile = self._files
            wfile.flush()
            if rfile.has_unread(buffered):
                if self.raw.tls() is not None:
                    raise TlsError("already-protected")
                # Nothing that the client said in the clear may count as protected.
                buffered.read(len(buffered.peek()))
                try:
                    self.raw.shutdown(ShutdownHow.BOTH)
                except Err:
                    pass
                raise TlsError("unprotected-bytes")
        try:
            return self.raw.start_tls(identity, list(alpn))
        except Err as error:
            raise _tls_error(error.value) from None

    def tls(self):
        """How the connection is protected, a `TlsInfo`; `None` if it is not."""
        return self.raw.tls()

    def _call(self, function, *arguments):
        try:
            return function(*arguments)
        except Err as error:
            failure = self.raw.tls_error()
            raise (_exception(error.value) if failure is None else _tls_error(failure)) from None


class InputStream:
    """What the client sends, to be waited for together with others: `poll([stream.subscribe(), timer(0.5)])` waits until
    one of them is ready at least, and returns which of them are, by their places."""

    def __init__(self, raw):
        self.raw = raw

    def try_read(self, size):
        """What is there, up to `size` bytes: `None` if nothing has come yet, empty at the end."""
        return self._read(self.raw.read, size) or (b"" if self.is_at_end else None)

    def read(self, size):
        """Waits for data, up to `size` bytes; empty at the end."""
        return self._read(self.raw.blocking_read, size)

    is_at_end = False

    def subscribe(self):
        """Ready when there is something to read, or the end."""
        return self.raw.subscribe()

    def _read(self, function, size):
        try:
            return function(size)
        except Err as error:
            if isinstance(error.value, streams.StreamError_Closed):
                self.is_at_end = True
                return b""
            raise _stream_error(error.value) from None


class OutputStream:
    """What the client gets. Of a datagram server, what is written goes out as one datagram when the request ends."""

    def __init__(self, raw):
        self.raw = raw

    def try_write(self, data):
        """Writes as much as there is room for, without waiting; how much that was."""
        try:
            length = min(len(data), self.raw.check_write())
            if length > 0:
                self.raw.write(bytes(data[:length]))
            return length
        except Err as error:
            raise _stream_error(error.value) from None

    def write(self, data):
        """Waits until all is written and sent."""
        written = 0
        while written < len(data):
            length = self.try_write(data[written:])
            written += length
            if length == 0:
                self.subscribe().block()
        try:
            self.raw.blocking_flush()
        except Err as error:
            raise _stream_error(error.value) from None

    def subscribe(self):
        """Ready when there is room to write."""
        return self.raw.subscribe()


def timer(seconds):
    """Ready after that long."""
    return monotonic_clock.subscribe_duration(int(seconds * 1e9))


class Failure(NamedTuple):
    """A request that failed."""

    id: int
    client_address: object
    # "verify", "setup", "handle" or "finish".
    phase: str
    # What went wrong, in words.
    message: str


class BaseServerHooks:
    """A say in how the server runs: the methods of `socketserver.BaseServer` that a subclass overrides.

    Each call gets an instance of the component of its own."""

    def verify_request(self, request):
        """Whether to serve the request. A datagram can be read here, and will be read again by the handler; a stream
        cannot be read or written yet."""
        return True

    def handle_error(self, server, failure):
        """A request failed."""

    def handle_timeout(self, server):
        """The server's `timeout` passed without a request."""

    def service_actions(self, server):
        """Runs between requests, at least about twice a second."""


class TlsError(OSError):
    """Why a connection could not be protected, or is protected no more."""

    def __init__(self, code, message=None, alert=None):
        words = _TLS_WORDS[code] if message is None else f"{_TLS_WORDS[code]}: {message}"
        super().__init__(words if alert is None else f"{words} ({alert})")
        # The contract's: "handshake-failed" and the like.
        self.code = code
        # The alert that ended the handshake, by its name in RFC 8446.
        self.alert = alert


class TlsEOFError(TlsError, ConnectionResetError):
    """The client's end came without notice, so that what it sent may be cut short."""


class _Rfile(io.RawIOBase):
    def __init__(self, request):
        self.request = request
        self.is_paused = False

    def readable(self):
        return True

    def has_unread(self, buffered):
        """Whether its buffer holds something; `peek` alone would wait for more if it does not."""
        self.is_paused = True
        try:
            return bool(buffered.peek())
        finally:
            self.is_paused = False

    def readinto(self, buffer):
        if self.is_paused:
            return None
        data = self.request.recv(len(buffer))
        buffer[: len(data)] = data
        return len(data)


class _Wfile(io.RawIOBase):
    """Writes all of it, always: a short write would surprise who has no buffer."""

    def __init__(self, request):
        self.request = request

    def writable(self):
        return True

    def write(self, data):
        with memoryview(data) as view:
            if view.nbytes:
                self.request.sendall(view)
            return view.nbytes


def export(handler_class):
    """Makes a handler class the component's: `RequestHandler = export(Echo)`."""
    request = handler = None

    class RequestHandler:
        # Each call gets an object of its own, so what is to last lies outside.

        def setup(self, raw):
            _run(begin, raw)

        def handle(self, raw):
            request.raw = raw
            _run(handler.handle)

        def finish(self, raw):
            request.raw = raw
            _run(end)

    def begin(raw):
        nonlocal request, handler
        request = Request(raw)
        handler = handler_class(request)
        handler.setup()

    def end():
        try:
            handler.finish()
        finally:
            if isinstance(handler, StreamRequestHandler):
                handler._close()

    return RequestHandler


def export_hooks(hooks_class):
    """Makes a class of hooks the component's: `ServerHooks = export_hooks(MyHooks)`."""

    class ServerHooks:
        def verify_request(self, raw):
            return hooks_class().verify_request(Request(raw))

        def handle_error(self, server, failure):
            address = _address(failure.client_address)
            told = Failure(failure.id, address, failure.phase.name.lower(), failure.message)
            hooks_class().handle_error(server, told)

        def handle_timeout(self, server):
            hooks_class().handle_timeout(server)

        def service_actions(self, server):
            hooks_class().service_actions(server)

    return ServerHooks


def _run(method, *arguments):
    try:
        method(*arguments)
    except Exception as error:
        traceback.print_exc()
        raise Err(f"{type(error).__name__}: {error}") from None


def _exception(error):
    match error:
        case types.Error_Closed():
            return BrokenPipeError("the connection is closed")
        case types.Error_TimedOut():
            return TimeoutError("timed out")
        case types.Error_Reset():
            return ConnectionResetError("the client reset the connection")
        case types.Error_MessageTooLarge():
            return OSError("the datagram is too large for its transport")
        case types.Error_NoReplyAddress():
            return OSError("the client's socket has no name, so it cannot be answered")
        case types.Error_NotPermitted():
            return PermissionError("the server was not granted this")
        case types.Error_Unsupported():
            return OSError("this server type has no such operation")
        case types.Error_Other(words):
            return OSError(words)


_TLS_WORDS = {
    "handshake-failed": "the TLS handshake failed",
    "certificate-refused": "the client's certificate is refused",
    "closed-without-notice": (
        "the client closed the connection without notice, so that its data may be cut short"
    ),
    "unprotected-bytes": "the client sent data in the clear where TLS was to begin",
    "no-identity": "the server has no certificate for this",
    "already-protected": "the connection is protected already",
}


def _tls_error(error):
    match error:
        case types.TlsError_HandshakeFailed(failure):
            return TlsError("handshake-failed", failure.message, failure.alert)
        case types.TlsError_CertificateRefused(why):
            return TlsError("certificate-refused", why)
        case types.TlsError_ClosedWithoutNotice():
            return TlsEOFError("closed-without-notice")
        case types.TlsError_UnprotectedBytes():
            return TlsError("unprotected-bytes")
        case types.TlsError_NoIdentity(why):
            return TlsError("no-identity", why)
        case types.TlsError_AlreadyProtected():
            return TlsError("already-protected")
        case types.TlsError_Connection(error):
            return _exception(error)


def _stream_error(error):
    match error:
        case streams.StreamError_Closed():
            return BrokenPipeError("the connection is closed")
        case streams.StreamError_LastOperationFailed(failure):
            return OSError(failure.to_debug_string())


def _contract_address(address):
    """From what the module `socket` has."""
    match address:
        case (host, port, *more):
            ip = ipaddress.ip_address(host)
            if ip.version == 4:
                v4 = network.Ipv4SocketAddress(port, tuple(ip.packed))
                return types.Address_Ip(network.IpSocketAddress_Ipv4(v4))
            flow_info, scope_id = (*more, 0, 0)[:2]
            groups = tuple(int.from_bytes(ip.packed[i : i + 2]) for i in range(0, 16, 2))
            v6 = network.Ipv6SocketAddress(port, flow_info, groups, scope_id)
            return types.Address_Ip(network.IpSocketAddress_Ipv6(v6))
        case bytes() if address.startswith(b"\0"):
            return types.Address_Unix(types.UnixAddress_AbstractName(address[1:]))
        case _:
            return types.Address_Unix(types.UnixAddress_Pathname(str(address)))


def _address(address):
    """As the module `socket` has it."""
    match address.value:
        case network.IpSocketAddress_Ipv4(v4):
            return ".".join(map(str, v4.address)), v4.port
        case network.IpSocketAddress_Ipv6(v6):
            host = ":".join(f"{group:x}" for group in v6.address)
            return host, v6.port, v6.flow_info, v6.scope_id
        case types.UnixAddress_Pathname(path):
            return path
        case types.UnixAddress_AbstractName(name):
            return b"\0" + name
        case _:
            return ""
