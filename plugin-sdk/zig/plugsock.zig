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

/// Why an operation on a request failed; the order is the contract's.
pub const Error = error{
    Closed,
    TimedOut,
    Reset,
    MessageTooLarge,
    NoReplyAddress,
    NotPermitted,
    Unsupported,
    Other,
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
    pub fn recv(request: *const Request, max: u32) Error![]u8 {
        var result: contract.ListResult = undefined;
        contract.@"[method]request.recv"(request.handle, max, &result);
        if (result.is_error) return result.payload.@"error".toError();
        return result.payload.list.ptr[0..result.payload.list.len];
    }

    /// Blocks until all is sent. Datagram: one datagram to the client.
    pub fn send(request: *const Request, data: []const u8) Error!void {
        var result: contract.VoidResult = undefined;
        contract.@"[method]request.send"(request.handle, data.ptr, data.len, &result);
        return result.get();
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

        /// A borrowed request must be dropped before the component's function returns.
        fn run(handle: u32, comptime function: anytype) *const contract.Outcome {
            request.handle = handle;
            request.message = null;
            request.failure = null;
            defer contract.@"[resource-drop]request"(handle);
            result = .{ .is_error = false, .message = .{ .ptr = &.{}, .len = 0 } };
            @as(anyerror!void, function(&handler, &request)) catch |failure| {
                const message = request.message orelse @errorName(request.failure orelse failure);
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
    const Text = extern struct { ptr: [*]const u8, len: usize };

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
};
