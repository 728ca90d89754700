//! Request handlers for Plugsock in Zig: socketserver's handler class as a struct.
//!
//! A handler has `handle`, and `setup` and `finish` where it needs them, each
//! `fn (*Handler, *plugsock.Request) !void`; `plugsock.serve(Handler)` makes it the component's. One instance
//! of the component serves one request. After an error in `setup` nothing runs any more, after one in
//! `handle` only `finish`.
//!
//! It may have a say in how its server runs, by any of these, each called in an instance of its own:
//! `verifyRequest(*plugsock.Request) bool`, whether to serve a request, of which a datagram can be read here;
//! `handleError(plugsock.ServerInfo, plugsock.Failure) void`, after a request has failed;
//! `handleTimeout(plugsock.ServerInfo) void`, when none has come for the server's `timeout`; and
//! `serviceActions(plugsock.ServerInfo) void`, between requests and at least about twice a second.

const std = @import("std");
const contract = @import("contract.zig");
const state = @import("state.zig");
const streams = @import("streams.zig");

pub const InputStream = streams.InputStream;
pub const OutputStream = streams.OutputStream;
pub const Pollable = streams.Pollable;
pub const poll = streams.poll;
pub const timer = streams.timer;
pub const log = streams.log;

pub const Store = state.Store;
pub const StateError = state.StateError;

/// For all that a handler wants to allocate; an instance's memory is gone with its request.
pub const allocator = std.heap.wasm_allocator;

pub const ServerType = enum(u8) { tcp, udp, unix_stream, unix_datagram };

/// Where a request came from or came to.
pub const Address = union(enum) {
    ip: std.Io.net.IpAddress,
    /// A Unix socket that has no name, or a path, or a name in Linux's abstract namespace.
    unnamed,
    pathname: []const u8,
    abstract_name: []const u8,

    /// Of an IP address with its port; anything else is a path.
    pub fn parse(text: []const u8) Address {
        return if (std.Io.net.IpAddress.parseLiteral(text)) |ip| .{ .ip = ip } else |_| .{ .pathname = text };
    }

    pub fn format(address: Address, writer: *std.Io.Writer) std.Io.Writer.Error!void {
        switch (address) {
            .ip => |ip| try ip.format(writer),
            .unnamed => try writer.writeAll("(unnamed)"),
            .pathname => |path| try writer.writeAll(path),
            .abstract_name => |name| try writer.print("@{s}", .{name}),
        }
    }
};

/// What serves a request.
pub const ServerInfo = struct {
    /// The server's name, as in its log.
    name: []const u8,
    server_type: ServerType,
    /// The address that the server is bound to.
    server_address: Address,
    /// `sync`, `threading`, `forking`, `pool` or `async`.
    concurrency: []const u8,
    /// SHA-256 of the component that serves.
    handler_digest: []const u8,
    /// Counts the versions of the handler.
    generation: u64,
};

/// Who is at the other end of a Unix socket, as the kernel attests it.
pub const UnixCredentials = struct { pid: ?u32, uid: u32, gid: u32 };

/// The phase of a request in which it failed.
pub const Phase = enum(u8) { verify, setup, handle, finish };

/// A request that failed.
pub const Failure = struct {
    /// The request's id.
    id: u64,
    client_address: Address,
    phase: Phase,
    /// What went wrong, in words.
    message: []const u8,
};

pub const ShutdownHow = enum(u8) { read, write, both };

/// Why an operation on a request failed.
pub const Error = error{
    Closed,
    TimedOut,
    Reset,
    MessageTooLarge,
    NoReplyAddress,
    NotPermitted,
    Unsupported,
    Other,
} || TlsError;

/// Why a connection could not be protected, or is protected no more.
pub const TlsError = error{
    /// The client and the server did not come to terms.
    HandshakeFailed,
    /// The client's certificate is missing or not good.
    CertificateRefused,
    /// The client's end of the connection came without notice, so that what it sent may be cut short.
    ClosedWithoutNotice,
    /// The client had sent bytes in the clear that nobody has read.
    UnprotectedBytes,
    /// The server has no such certificate; the connection is as it was.
    NoIdentity,
    /// The connection is protected already, and stays so.
    AlreadyProtected,
};

/// What an error of TLS has besides its name.
pub const TlsFailure = struct {
    @"error": Error,
    /// The alert that ended the handshake, by its name in RFC 8446.
    alert: ?[]const u8 = null,
    /// What was wrong, in words.
    message: []const u8,
};

/// What `startTls` is asked for.
pub const TlsOptions = struct {
    /// One of the server's certificates; with `null` it is the one for the name that the client asks for.
    identity: ?[]const u8 = null,
    /// The application protocols that the handler speaks (ALPN), the preferred first.
    alpn: []const []const u8 = &.{},
};

/// How a connection is protected.
pub const TlsInfo = struct {
    /// `TLSv1.2` or `TLSv1.3`.
    protocol: []const u8,
    /// The cipher suite, by its name at IANA.
    cipher_suite: []const u8,
    /// The name that the client asked for (SNI).
    server_name: ?[]const u8,
    /// The application protocol that both agreed on.
    alpn: ?[]const u8,
    /// Whether an earlier session was resumed.
    resumed: bool,
    /// The client's certificate, which was verified, and what it sent to verify it by, in DER.
    client_certificates: []const []const u8,
    /// Whom the client's certificate is for.
    client_names: []const []const u8,

    /// Frees all of it.
    pub fn deinit(info: TlsInfo) void {
        allocator.free(info.protocol);
        allocator.free(info.cipher_suite);
        if (info.server_name) |name| allocator.free(name);
        if (info.alpn) |protocol| allocator.free(protocol);
        for ([_][]const []const u8{ info.client_certificates, info.client_names }) |list| {
            for (list) |item| allocator.free(item);
            allocator.free(list);
        }
    }
};

/// The request being served.
pub const Request = struct {
    /// Valid until the handler's function returns.
    handle: u32 = 0,
    /// What the client sends. Of a datagram server it is the packet.
    rfile: std.Io.Reader,
    /// What the client gets, at once. Of a datagram server it goes out after `finish` as one datagram.
    wfile: std.Io.Writer,
    /// What the handler's error is reported as, if its name says too little.
    message: ?[]const u8 = null,
    /// Why `rfile` or `wfile` failed: they have no words for it.
    failure: ?Error = null,
    /// What the last error of TLS has besides its name; valid until the next.
    tls_failure: ?TlsFailure = null,
    reply: std.ArrayList(u8) = .empty,
    is_datagram: ?bool = null,

    /// Unique among the requests of the host.
    pub fn id(request: *const Request) u64 {
        return contract.@"[method]request.id"(request.handle);
    }

    /// The server that accepted the request.
    pub fn server(request: *const Request) ServerInfo {
        var info: contract.ServerInfo = undefined;
        contract.@"[method]request.server"(request.handle, &info);
        return info.get();
    }

    /// What kind of server accepted the request.
    pub fn serverType(request: *const Request) ServerType {
        var info: contract.ServerInfo = undefined;
        contract.@"[method]request.server"(request.handle, &info);
        return info.server_type;
    }

    /// The name of the thread or process that serves this request.
    pub fn worker(request: *const Request) []const u8 {
        var name: contract.Text = undefined;
        contract.@"[method]request.worker"(request.handle, &name);
        return name.get();
    }

    /// Who sent it.
    pub fn clientAddress(request: *const Request) Address {
        var address: contract.Address = undefined;
        contract.@"[method]request.client-address"(request.handle, &address);
        return address.get();
    }

    /// The client's process and user, on a Unix socket.
    pub fn unixCredentials(request: *const Request) ?UnixCredentials {
        var credentials: contract.Credentials = undefined;
        contract.@"[method]request.unix-credentials"(request.handle, &credentials);
        return credentials.get();
    }

    /// Blocks until data arrive. Stream: up to `max` bytes, empty at its end. Datagram: the packet once, then
    /// empty.
    pub fn recv(request: *Request, max: u32) Error![]u8 {
        var result: contract.ListResult = undefined;
        contract.@"[method]request.recv"(request.handle, max, &result);
        if (result.is_error) return request.explained(result.payload.@"error".toError());
        return result.payload.list.ptr[0..result.payload.list.len];
    }

    /// Blocks until all is sent. Datagram: one datagram to the client.
    pub fn send(request: *Request, data: []const u8) Error!void {
        var result: contract.VoidResult = undefined;
        contract.@"[method]request.send"(request.handle, data.ptr, data.len, &result);
        result.get() catch |failure| return request.explained(failure);
    }

    /// Sends one datagram to another address, where the server was granted this.
    pub fn sendTo(request: *const Request, data: []const u8, address: Address) Error!void {
        var result: contract.VoidResult = undefined;
        const send_to = contract.@"[method]request.send-to";
        var arguments: std.meta.ArgsTuple(@TypeOf(send_to)) = undefined;
        arguments[0], arguments[1], arguments[2] = .{ request.handle, data.ptr, data.len };
        inline for (contract.Address.flat(address), 3..) |word, i| arguments[i] = word;
        arguments[16] = &result;
        @call(.auto, send_to, arguments);
        return result.get();
    }

    /// The same bytes as `recv`, as a stream that can be waited for together with others. What `rfile` holds is not in it.
    pub fn inputStream(request: *const Request) Error!InputStream {
        var result: contract.StreamResult = undefined;
        contract.@"[method]request.rfile"(request.handle, &result);
        if (result.is_error) return result.payload.@"error".toError();
        return .{ .handle = result.payload.handle };
    }

    /// The same bytes as `send`, as a stream. Of a datagram server, what is written goes out as one datagram when the
    /// request ends.
    pub fn outputStream(request: *const Request) Error!OutputStream {
        var result: contract.StreamResult = undefined;
        contract.@"[method]request.wfile"(request.handle, &result);
        if (result.is_error) return result.payload.@"error".toError();
        return .{ .handle = result.payload.handle };
    }

    /// Whether a newer version of the handler has replaced this one, so that the request should end at the next good
    /// point. Always false unless the server was told to say so (`--drain-signal`).
    pub fn isDraining(request: *const Request) bool {
        return contract.@"[method]request.is-draining"(request.handle) != 0;
    }

    /// Ready once `isDraining` is true.
    pub fn subscribeDrain(request: *const Request) Pollable {
        return .{ .handle = contract.@"[method]request.subscribe-drain"(request.handle) };
    }

    /// Half-closes or closes the connection.
    pub fn shutdown(request: *const Request, how: ShutdownHow) Error!void {
        var result: contract.VoidResult = undefined;
        contract.@"[method]request.shutdown"(request.handle, @backingInt(how), &result);
        return result.get();
    }

    /// How long one `recv` or `send` may wait; `null` restores the server's own limit.
    pub fn setTimeout(request: *const Request, nanoseconds: ?u64) Error!void {
        var result: contract.VoidResult = undefined;
        const is_some = @intFromBool(nanoseconds != null);
        contract.@"[method]request.set-timeout"(request.handle, is_some, nanoseconds orelse 0, &result);
        return result.get();
    }

    /// Sends small segments at once.
    pub fn disableNagleAlgorithm(request: *const Request) Error!void {
        var result: contract.VoidResult = undefined;
        contract.@"[method]request.set-nodelay"(request.handle, 1, &result);
        return result.get();
    }

    /// Protects the connection by TLS, as its server: all that is read and written from here on is protected. After an
    /// error other than `NoIdentity` and `AlreadyProtected` the connection is over.
    pub fn startTls(request: *Request, options: TlsOptions) Error!TlsInfo {
        protection.is_used = true;
        if (request.rfile.bufferedLen() > 0) {
            if (request.tls()) |info| {
                info.deinit();
                return protection.fail(request, .{ .tag = .already_protected });
            }
            // Nothing that the client said in the clear may count as protected.
            request.rfile.tossBuffered();
            request.shutdown(.both) catch {};
            return protection.fail(request, .{ .tag = .unprotected_bytes });
        }
        const alpn = allocator.alloc(contract.Text, options.alpn.len) catch @trap();
        defer allocator.free(alpn);
        for (alpn, options.alpn) |*text, name| text.* = .{ .ptr = name.ptr, .len = name.len };
        const identity = options.identity orelse "";
        var result: contract.TlsResult = undefined;
        contract.@"[method]request.start-tls"(
            request.handle,
            @intFromBool(options.identity != null),
            identity.ptr,
            identity.len,
            alpn.ptr,
            alpn.len,
            &result,
        );
        if (result.is_error) return protection.fail(request, result.payload.@"error");
        return result.payload.info.get();
    }

    /// How the connection is protected, by `startTls` or by its server; `null` if it is not.
    pub fn tls(request: *const Request) ?TlsInfo {
        protection.is_used = true;
        var result: contract.TlsOption = undefined;
        contract.@"[method]request.tls"(request.handle, &result);
        return if (result.is_some) result.payload.info.get() else null;
    }

    /// What TLS says of an error.
    fn explained(request: *Request, failure: Error) Error {
        if (!protection.is_used) return failure;
        var result: contract.TlsOption = undefined;
        contract.@"[method]request.tls-error"(request.handle, &result);
        return if (result.is_some) protection.fail(request, result.payload.@"error") else failure;
    }

    fn init(input: []u8) Request {
        return .{
            .rfile = .{ .vtable = &.{ .stream = stream }, .buffer = input, .seek = 0, .end = 0 },
            .wfile = .{ .vtable = &.{ .drain = drain }, .buffer = &.{} },
        };
    }

    fn stream(rfile: *std.Io.Reader, to: *std.Io.Writer, limit: std.Io.Limit) std.Io.Reader.StreamError!usize {
        const request: *Request = @alignCast(@fieldParentPtr("rfile", rfile));
        const max = @min(limit.toInt() orelse most, most);
        const data = request.recv(@intCast(max)) catch |failure| {
            request.failure = failure;
            return error.ReadFailed;
        };
        if (data.len == 0) return error.EndOfStream;
        defer allocator.free(data);
        try to.writeAll(data);
        return data.len;
    }

    fn drain(wfile: *std.Io.Writer, data: []const []const u8, splat: usize) std.Io.Writer.Error!usize {
        const request: *Request = @alignCast(@fieldParentPtr("wfile", wfile));
        var written: usize = 0;
        for (data[0 .. data.len - 1]) |some| written += try request.write(some);
        for (0..splat) |_| written += try request.write(data[data.len - 1]);
        return written;
    }

    fn write(request: *Request, data: []const u8) std.Io.Writer.Error!usize {
        // Asked once: the host would have to make all of the server's names again.
        if (request.is_datagram == null) request.is_datagram = switch (request.serverType()) {
            .udp, .unix_datagram => true,
            .tcp, .unix_stream => false,
        };
        if (request.is_datagram.?) {
            request.reply.appendSlice(allocator, data) catch return error.WriteFailed;
        } else if (data.len > 0) {
            request.send(data) catch |failure| {
                request.failure = failure;
                return error.WriteFailed;
            };
        }
        return data.len;
    }

    fn sendReply(request: *Request) Error!void {
        if (request.reply.items.len > 0) try request.send(request.reply.items);
    }
};

const protection = struct {
    /// Only who uses TLS sets it, so that the compiler leaves TLS out of all other handlers.
    var is_used = false;
    var words: [512]u8 = undefined;

    /// Remembers what the error has besides its name.
    fn fail(request: *Request, failure: contract.Unprotected) Error {
        var text: std.Io.Writer = .fixed(&words);
        const found: Error, const beginning = switch (failure.tag) {
            .handshake_failed => .{ error.HandshakeFailed, "the TLS handshake failed: " },
            .certificate_refused => .{ error.CertificateRefused, "the client's certificate is refused: " },
            .closed_without_notice => .{
                error.ClosedWithoutNotice,
                "the client closed the connection without notice, so that its data may be cut short",
            },
            .unprotected_bytes => .{
                error.UnprotectedBytes,
                "the client sent data in the clear where TLS was to begin",
            },
            .no_identity => .{ error.NoIdentity, "the server has no certificate for this: " },
            .already_protected => .{ error.AlreadyProtected, "the connection is protected already" },
            .connection => .{ failure.payload.connection.toError(), "" },
        };
        request.tls_failure = null;
        if (failure.tag == .connection) return found;
        var alert: ?[]const u8 = null;
        // What there is no room for is left out.
        text.writeAll(beginning) catch {};
        switch (failure.tag) {
            .handshake_failed => {
                const handshake = failure.payload.handshake_failed;
                text.writeAll(handshake.message.get()) catch {};
                allocator.free(handshake.message.get());
                if (handshake.alert.is_some) {
                    const name = handshake.alert.text.get();
                    text.writeAll(" (") catch {};
                    const start = text.end;
                    text.writeAll(name) catch {};
                    alert = words[start..text.end];
                    text.writeAll(")") catch {};
                    allocator.free(name);
                }
            },
            .certificate_refused, .no_identity => {
                text.writeAll(failure.payload.message.get()) catch {};
                allocator.free(failure.payload.message.get());
            },
            else => {},
        }
        request.tls_failure = .{ .@"error" = found, .alert = alert, .message = text.buffered() };
        return found;
    }
};

/// The most that one `recv` is asked for, however much a reader wants: the host has to hold it, too.
const most = 64 * 1024;

/// Makes a struct the component's handler; call it in a `comptime` block.
pub fn serve(comptime Handler: type) void {
    const Exports = struct {
        var input: [8192]u8 = undefined;
        var request: Request = undefined;
        var handler: Handler = undefined;
        var result: contract.Outcome = undefined;

        fn setup(handle: u32) callconv(.c) *const contract.Outcome {
            request = .init(&input);
            handler = .{};
            return run(handle, if (@hasDecl(Handler, "setup")) Handler.setup else nothing);
        }

        fn handleRequest(handle: u32) callconv(.c) *const contract.Outcome {
            return run(handle, Handler.handle);
        }

        fn finish(handle: u32) callconv(.c) *const contract.Outcome {
            return run(handle, finishAndReply);
        }

        fn verifyRequest(handle: u32) callconv(.c) bool {
            defer contract.@"[resource-drop]request"(handle);
            if (!@hasDecl(Handler, "verifyRequest")) return true;
            request = .init(&input);
            request.handle = handle;
            return Handler.verifyRequest(&request);
        }

        fn handleError(failed: *const contract.FailedRequest) callconv(.c) void {
            if (@hasDecl(Handler, "handleError")) Handler.handleError(failed.server.get(), failed.get());
        }

        fn handleTimeout(server: *const contract.ServerInfo) callconv(.c) void {
            if (@hasDecl(Handler, "handleTimeout")) Handler.handleTimeout(server.get());
        }

        fn serviceActions(server: *const contract.ServerInfo) callconv(.c) void {
            if (@hasDecl(Handler, "serviceActions")) Handler.serviceActions(server.get());
        }

        fn nothing(_: *Handler, _: *Request) !void {}

        fn finishAndReply(self: *Handler, r: *Request) anyerror!void {
            const finished: anyerror!void = if (@hasDecl(Handler, "finish")) self.finish(r);
            const sent = r.sendReply();
            try finished;
            return sent;
        }

        fn words(failure: anyerror) []const u8 {
            if (protection.is_used) {
                if (request.tls_failure) |more| if (more.@"error" == failure) return more.message;
            }
            // Nobody sets it in a handler that keeps no state.
            if (failure == error.Other) if (Store.failure) |more| return more;
            return @errorName(failure);
        }

        /// A borrowed request must be dropped before the component's function returns.
        fn run(handle: u32, comptime function: anytype) *const contract.Outcome {
            request.handle = handle;
            request.message = null;
            request.failure = null;
            defer contract.@"[resource-drop]request"(handle);
            result = .{ .is_error = false, .message = .{ .ptr = &.{}, .len = 0 } };
            @as(anyerror!void, function(&handler, &request)) catch |failure| {
                const message = request.message orelse words(request.failure orelse failure);
                result = .{ .is_error = true, .message = .{ .ptr = message.ptr, .len = message.len } };
            };
            return &result;
        }
    };
    const name = "plugsock:handler/request-handler@0.1.1#";
    @export(&Exports.setup, .{ .name = name ++ "setup" });
    @export(&Exports.handleRequest, .{ .name = name ++ "handle" });
    @export(&Exports.finish, .{ .name = name ++ "finish" });
    @export(&realloc, .{ .name = "cabi_realloc" });
    // Who exports one of them exports them all.
    const has_hooks = for (.{ "verifyRequest", "handleError", "handleTimeout", "serviceActions" }) |hook| {
        if (@hasDecl(Handler, hook)) break true;
    } else false;
    if (has_hooks) {
        const hooks = "plugsock:handler/server-hooks@0.1.1#";
        @export(&Exports.verifyRequest, .{ .name = hooks ++ "verify-request" });
        @export(&Exports.handleError, .{ .name = hooks ++ "handle-error" });
        @export(&Exports.handleTimeout, .{ .name = hooks ++ "handle-timeout" });
        @export(&Exports.serviceActions, .{ .name = hooks ++ "service-actions" });
    }
}

/// Where the host puts what it returns.
fn realloc(old: [*]u8, old_size: usize, alignment: usize, size: usize) callconv(.c) [*]u8 {
    if (size == 0) return @ptrFromInt(alignment);
    // Blocks are as aligned as their size allows, which suits all that the host asks for.
    const memory = allocator.realloc(old[0..old_size], size) catch @trap();
    return memory.ptr;
}
