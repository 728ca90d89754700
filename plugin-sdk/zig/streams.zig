//! What can be waited for together: streams, timers, the drain; and the log.

const std = @import("std");
const plugsock = @import("plugsock.zig");
const contract = @import("contract.zig");

const allocator = plugsock.allocator;

/// Why a stream failed; `error.Other` has words in `failure`.
pub const Error = error{ Closed, Other };

/// What the client sends.
pub const InputStream = struct {
    handle: u32,
    /// What was wrong, in words.
    failure: ?[]const u8 = null,

    /// What is there, up to `max` bytes: empty if nothing has come yet, `null` at the end. The caller frees it.
    pub fn tryRead(stream: *InputStream, max: u64) Error!?[]u8 {
        var result: ReadResult = undefined;
        @"[method]input-stream.read"(stream.handle, max, &result);
        return stream.received(result);
    }

    /// Waits for data, up to `max` bytes; `null` at the end. The caller frees it.
    pub fn read(stream: *InputStream, max: u64) Error!?[]u8 {
        var result: ReadResult = undefined;
        @"[method]input-stream.blocking-read"(stream.handle, max, &result);
        return stream.received(result);
    }

    /// Ready when there is something to read, or the end.
    pub fn subscribe(stream: InputStream) Pollable {
        return .{ .handle = @"[method]input-stream.subscribe"(stream.handle) };
    }

    pub fn deinit(stream: InputStream) void {
        @"[resource-drop]input-stream"(stream.handle);
    }

    fn received(stream: *InputStream, result: ReadResult) Error!?[]u8 {
        if (!result.is_error) return result.payload.list.ptr[0..result.payload.list.len];
        const failure = result.payload.@"error".toError(&stream.failure);
        return if (failure == error.Closed) null else failure;
    }
};

/// What the client gets.
pub const OutputStream = struct {
    handle: u32,
    /// What was wrong, in words.
    failure: ?[]const u8 = null,

    /// Writes as much as there is room for, without waiting; how much that was.
    pub fn tryWrite(stream: *OutputStream, data: []const u8) Error!usize {
        var room: RoomResult = undefined;
        @"[method]output-stream.check-write"(stream.handle, &room);
        if (room.is_error) return room.payload.@"error".toError(&stream.failure);
        const length: usize = @min(data.len, room.payload.room);
        if (length == 0) return 0;
        var result: StreamResult = undefined;
        @"[method]output-stream.write"(stream.handle, data.ptr, length, &result);
        if (result.is_error) return result.@"error".toError(&stream.failure);
        return length;
    }

    /// Waits until all is written and sent.
    pub fn writeAll(stream: *OutputStream, data: []const u8) Error!void {
        var rest = data;
        while (rest.len > 0) {
            const written = try stream.tryWrite(rest);
            rest = rest[written..];
            if (written == 0) {
                const room = stream.subscribe();
                defer room.deinit();
                room.block();
            }
        }
        return stream.flush();
    }

    /// Waits until what was written is sent.
    pub fn flush(stream: *OutputStream) Error!void {
        var result: StreamResult = undefined;
        @"[method]output-stream.blocking-flush"(stream.handle, &result);
        if (result.is_error) return result.@"error".toError(&stream.failure);
    }

    /// Ready when there is room to write.
    pub fn subscribe(stream: OutputStream) Pollable {
        return .{ .handle = @"[method]output-stream.subscribe"(stream.handle) };
    }

    pub fn deinit(stream: OutputStream) void {
        @"[resource-drop]output-stream"(stream.handle);
    }
};

/// Something that can be waited for.
pub const Pollable = struct {
    handle: u32,

    pub fn isReady(pollable: Pollable) bool {
        return @"[method]pollable.ready"(pollable.handle) != 0;
    }

    /// Waits until it is ready.
    pub fn block(pollable: Pollable) void {
        @"[method]pollable.block"(pollable.handle);
    }

    pub fn deinit(pollable: Pollable) void {
        @"[resource-drop]pollable"(pollable.handle);
    }
};

/// Waits until one of them is ready at least; which of them are, by their places. The caller frees it.
pub fn poll(pollables: []const Pollable) []const u32 {
    const handles = allocator.alloc(u32, pollables.len) catch @trap();
    defer allocator.free(handles);
    for (handles, pollables) |*handle, pollable| handle.* = pollable.handle;
    var ready: extern struct { ptr: [*]u32, len: usize } = undefined;
    contractPoll(handles.ptr, handles.len, &ready);
    return ready.ptr[0..ready.len];
}

/// Ready after that long.
pub fn timer(nanoseconds: u64) Pollable {
    return .{ .handle = @"subscribe-duration"(nanoseconds) };
}

/// Writes a line to the handler's log.
pub fn log(comptime format: []const u8, arguments: anytype) void {
    const line = std.fmt.allocPrint(allocator, format ++ "\n", arguments) catch @trap();
    defer allocator.free(line);
    var stderr: OutputStream = .{ .handle = @"get-stderr"() };
    defer stderr.deinit();
    stderr.writeAll(line) catch {};
}

const StreamError = extern struct {
    tag: enum(u8) { last_operation_failed, closed },
    handle: u32,

    fn toError(failed: StreamError, words: *?[]const u8) Error {
        if (failed.tag == .closed) return error.Closed;
        var text: contract.Text = undefined;
        @"[method]error.to-debug-string"(failed.handle, &text);
        @"[resource-drop]error"(failed.handle);
        words.* = text.get();
        return error.Other;
    }
};

const ReadResult = extern struct {
    is_error: bool,
    payload: extern union { list: contract.List, @"error": StreamError },
};

const StreamResult = extern struct { is_error: bool, @"error": StreamError };

const RoomResult = extern struct {
    is_error: bool,
    payload: extern union { room: u64, @"error": StreamError },
};

const contractPoll = @extern(*const fn ([*]const u32, usize, *anyopaque) callconv(.c) void, .{
    .name = "poll",
    .library_name = "wasi:io/poll@0.2.6",
});

extern "wasi:io/poll@0.2.6" fn @"[method]pollable.ready"(u32) u32;
extern "wasi:io/poll@0.2.6" fn @"[method]pollable.block"(u32) void;
extern "wasi:io/poll@0.2.6" fn @"[resource-drop]pollable"(u32) void;
extern "wasi:io/error@0.2.6" fn @"[method]error.to-debug-string"(u32, *contract.Text) void;
extern "wasi:io/error@0.2.6" fn @"[resource-drop]error"(u32) void;
extern "wasi:io/streams@0.2.6" fn @"[method]input-stream.read"(u32, u64, *ReadResult) void;
extern "wasi:io/streams@0.2.6" fn @"[method]input-stream.blocking-read"(u32, u64, *ReadResult) void;
extern "wasi:io/streams@0.2.6" fn @"[method]input-stream.subscribe"(u32) u32;
extern "wasi:io/streams@0.2.6" fn @"[resource-drop]input-stream"(u32) void;
extern "wasi:io/streams@0.2.6" fn @"[method]output-stream.check-write"(u32, *RoomResult) void;
extern "wasi:io/streams@0.2.6" fn @"[method]output-stream.write"(u32, [*]const u8, usize, *StreamResult) void;
extern "wasi:io/streams@0.2.6" fn @"[method]output-stream.blocking-flush"(u32, *StreamResult) void;
extern "wasi:io/streams@0.2.6" fn @"[method]output-stream.subscribe"(u32) u32;
extern "wasi:io/streams@0.2.6" fn @"[resource-drop]output-stream"(u32) void;
extern "wasi:clocks/monotonic-clock@0.2.6" fn @"subscribe-duration"(u64) u32;
extern "wasi:cli/stderr@0.2.6" fn @"get-stderr"() u32;
