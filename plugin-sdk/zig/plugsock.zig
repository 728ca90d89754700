//! Request handlers for Plugsock in Zig: socketserver's handler class as a struct.
//!
//! A handler has `handle`, and `setup` and `finish` where it needs them, each
//! `fn (*Handler, *plugsock.Request) !void`; `plugsock.serve(Handler)` makes it the component's. One instance
//! of the component serves one request. After an error in `setup` nothing runs any more, after one in
//! `handle` only `finish`.

const std = @import("std");

/// For all that a handler wants to allocate; an instance's memory is gone with its request.
pub const allocator = std.heap.wasm_allocator;

pub const ServerType = enum(u8) { tcp, udp, unix_stream, unix_datagram };

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

    /// What kind of server accepted the request.
    pub fn serverType(request: *const Request) ServerType {
        var server: contract.ServerInfo = undefined;
        contract.@"[method]request.server"(request.handle, &server);
        return server.server_type;
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

    /// Half-closes or closes the connection.
    pub fn shutdown(request: *const Request, how: ShutdownHow) Error!void {
        var result: contract.VoidResult = undefined;
        contract.@"[method]request.shutdown"(request.handle, @intFromEnum(how), &result);
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
}

/// Where the host puts what it returns.
fn realloc(old: [*]u8, old_size: usize, alignment: usize, size: usize) callconv(.c) [*]u8 {
    if (size == 0) return @ptrFromInt(alignment);
    // The host asks for bytes, and for words at most; what is a word's multiple suits both.
    const memory = allocator.realloc(old[0..old_size], size) catch @trap();
    return memory.ptr;
}

/// The contract's functions as the canonical ABI has them.
const contract = struct {
    const List = extern struct { ptr: [*]u8, len: usize };
    const Text = extern struct {
        ptr: [*]const u8,
        len: usize,

        fn get(text: Text) []const u8 {
            return text.ptr[0..text.len];
        }
    };

    const Failure = extern struct {
        tag: u8,
        other: List,

        fn toError(failure: Failure) Error {
            return switch (failure.tag) {
                0 => error.Closed,
                1 => error.TimedOut,
                2 => error.Reset,
                3 => error.MessageTooLarge,
                4 => error.NoReplyAddress,
                5 => error.NotPermitted,
                6 => error.Unsupported,
                else => error.Other,
            };
        }
    };

    const ListResult = extern struct {
        is_error: bool,
        payload: extern union { list: List, @"error": Failure },
    };

    const VoidResult = extern struct {
        is_error: bool,
        @"error": Failure,

        fn get(result: VoidResult) Error!void {
            if (result.is_error) return result.@"error".toError();
        }
    };

    const OptionText = extern struct {
        is_some: bool,
        text: Text,

        fn get(option: OptionText) ?[]const u8 {
            return if (option.is_some) option.text.get() else null;
        }
    };

    const TextList = extern struct {
        ptr: [*]Text,
        len: usize,

        /// As the language has lists; takes the memory.
        fn get(list: TextList) []const []const u8 {
            const items = list.ptr[0..list.len];
            const all = allocator.alloc([]const u8, items.len) catch @trap();
            for (all, items) |*item, text| item.* = text.get();
            allocator.free(items);
            return all;
        }
    };

    const TlsDescription = extern struct {
        protocol: Text,
        cipher_suite: Text,
        server_name: OptionText,
        alpn: OptionText,
        resumed: bool,
        client_certificates: TextList,
        client_names: TextList,

        fn get(info: TlsDescription) TlsInfo {
            return .{
                .protocol = info.protocol.get(),
                .cipher_suite = info.cipher_suite.get(),
                .server_name = info.server_name.get(),
                .alpn = info.alpn.get(),
                .resumed = info.resumed,
                .client_certificates = info.client_certificates.get(),
                .client_names = info.client_names.get(),
            };
        }
    };

    const Unprotected = extern struct {
        tag: enum(u8) {
            handshake_failed,
            certificate_refused,
            closed_without_notice,
            unprotected_bytes,
            no_identity,
            already_protected,
            connection,
        },
        payload: extern union {
            handshake_failed: extern struct { alert: OptionText, message: Text },
            message: Text,
            connection: Failure,
        } = undefined,
    };

    const TlsAnswer = extern union { info: TlsDescription, @"error": Unprotected };
    const TlsResult = extern struct { is_error: bool, payload: TlsAnswer };
    const TlsOption = extern struct { is_some: bool, payload: TlsAnswer };

    const Outcome = extern struct { is_error: bool, message: Text };

    const ServerInfo = extern struct {
        name: List,
        server_type: ServerType,
        address: [9]u32,
        concurrency: List,
        handler_digest: List,
        generation: u64,
    };

    extern "plugsock:handler/types@0.1.1" fn @"[resource-drop]request"(u32) void;
    extern "plugsock:handler/types@0.1.1" fn @"[method]request.id"(u32) u64;
    extern "plugsock:handler/types@0.1.1" fn @"[method]request.server"(u32, *ServerInfo) void;
    extern "plugsock:handler/types@0.1.1" fn @"[method]request.recv"(u32, u32, *ListResult) void;
    extern "plugsock:handler/types@0.1.1" fn @"[method]request.send"(u32, [*]const u8, usize, *VoidResult) void;
    extern "plugsock:handler/types@0.1.1" fn @"[method]request.shutdown"(u32, u32, *VoidResult) void;
    extern "plugsock:handler/types@0.1.1" fn @"[method]request.set-timeout"(u32, u32, u64, *VoidResult) void;
    extern "plugsock:handler/types@0.1.1" fn @"[method]request.set-nodelay"(u32, u32, *VoidResult) void;
    extern "plugsock:handler/types@0.1.1" fn @"[method]request.start-tls"(
        u32,
        u32,
        [*]const u8,
        usize,
        [*]const Text,
        usize,
        *TlsResult,
    ) void;
    extern "plugsock:handler/types@0.1.1" fn @"[method]request.tls"(u32, *TlsOption) void;
    extern "plugsock:handler/types@0.1.1" fn @"[method]request.tls-error"(u32, *TlsOption) void;
};
