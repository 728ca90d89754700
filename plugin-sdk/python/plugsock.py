"""Request handlers for Plugsock in Python: socketserver's handler classes.

    class Echo(StreamRequestHandler):
        def handle(self):
            for line in self.rfile:
                self.wfile.write(line)

    RequestHandler = export(Echo)

One instance of the component serves one request. After an error in `setup` neither `handle` nor `finish` runs,
after one in `handle` only `finish`. An error is reported in words, and its traceback goes to the log.
"""

import io
import traceback

from componentize_py_types import Err
from wit_world.imports import network, types
from wit_world.imports.types import ServerType, ShutdownHow, TlsInfo

__all__ = [
    "BaseRequestHandler",
    "DatagramRequestHandler",
    "Request",
    "ServerType",
    "ShutdownHow",
    "StreamRequestHandler",
    "TlsEOFError",
    "TlsError",
    "TlsInfo",
    "export",
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
