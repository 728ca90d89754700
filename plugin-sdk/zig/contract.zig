//! The contract's functions and types, as the canonical ABI has them.

const std = @import("std");
const plugsock = @import("plugsock.zig");

const allocator = plugsock.allocator;
const Error = plugsock.Error;
const ServerType = plugsock.ServerType;
const TlsInfo = plugsock.TlsInfo;

pub const List = extern struct { ptr: [*]u8, len: usize };
pub const Text = extern struct {
    ptr: [*]const u8,
    len: usize,

    pub fn get(text: Text) []const u8 {
        return text.ptr[0..text.len];
    }
};

pub const Failure = extern struct {
    tag: u8,
    other: List,

    pub fn toError(failure: Failure) Error {
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

pub const ListResult = extern struct {
    is_error: bool,
    payload: extern union { list: List, @"error": Failure },
};

pub const VoidResult = extern struct {
    is_error: bool,
    @"error": Failure,

    pub fn get(result: VoidResult) Error!void {
        if (result.is_error) return result.@"error".toError();
    }
};

pub const OptionText = extern struct {
    is_some: bool,
    text: Text,

    pub fn get(option: OptionText) ?[]const u8 {
        return if (option.is_some) option.text.get() else null;
    }
};

pub const TextList = extern struct {
    ptr: [*]Text,
    len: usize,

    /// As the language has lists; takes the memory.
    pub fn get(list: TextList) []const []const u8 {
        const items = list.ptr[0..list.len];
        const all = allocator.alloc([]const u8, items.len) catch @trap();
        for (all, items) |*item, text| item.* = text.get();
        allocator.free(items);
        return all;
    }
};

pub const TlsDescription = extern struct {
    protocol: Text,
    cipher_suite: Text,
    server_name: OptionText,
    alpn: OptionText,
    resumed: bool,
    client_certificates: TextList,
    client_names: TextList,

    pub fn get(info: TlsDescription) TlsInfo {
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

pub const Unprotected = extern struct {
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

pub const TlsAnswer = extern union { info: TlsDescription, @"error": Unprotected };
pub const TlsResult = extern struct { is_error: bool, payload: TlsAnswer };
pub const TlsOption = extern struct { is_some: bool, payload: TlsAnswer };

pub const Outcome = extern struct { is_error: bool, message: Text };

pub const ServerInfo = extern struct {
    name: Text,
    server_type: ServerType,
    address: Address,
    concurrency: Text,
    handler_digest: Text,
    generation: u64,

    pub fn get(info: ServerInfo) plugsock.ServerInfo {
        return .{
            .name = info.name.get(),
            .server_type = info.server_type,
            .server_address = info.address.get(),
            .concurrency = info.concurrency.get(),
            .handler_digest = info.handler_digest.get(),
            .generation = info.generation,
        };
    }
};

pub const Address = extern struct {
    tag: enum(u8) { ip, unix },
    payload: extern union {
        ip: extern struct {
            tag: enum(u8) { ip4, ip6 },
            payload: extern union {
                ip4: extern struct { port: u16, bytes: [4]u8 },
                ip6: extern struct { port: u16, flow: u32, groups: [8]u16, scope: u32 },
            },
        },
        unix: extern struct { tag: enum(u8) { unnamed, pathname, abstract_name }, name: Text },
    },

    pub fn get(address: Address) plugsock.Address {
        switch (address.tag) {
            .ip => switch (address.payload.ip.tag) {
                .ip4 => {
                    const ip4 = address.payload.ip.payload.ip4;
                    return .{ .ip = .{ .ip4 = .{ .bytes = ip4.bytes, .port = ip4.port } } };
                },
                .ip6 => {
                    const ip6 = address.payload.ip.payload.ip6;
                    var bytes: [16]u8 = undefined;
                    for (ip6.groups, 0..) |group, i| std.mem.writeInt(u16, bytes[2 * i ..][0..2], group, .big);
                    return .{ .ip = .{ .ip6 = .{
                        .bytes = bytes,
                        .port = ip6.port,
                        .flow = ip6.flow,
                        .interface = .{ .index = ip6.scope },
                    } } };
                },
            },
            .unix => {
                const name = address.payload.unix.name.get();
                return switch (address.payload.unix.tag) {
                    .unnamed => .unnamed,
                    .pathname => .{ .pathname = name },
                    .abstract_name => .{ .abstract_name = name },
                };
            },
        }
    }

    /// As the arguments of a function.
    pub fn flat(address: plugsock.Address) [13]u32 {
        var words: [13]u32 = @splat(0);
        switch (address) {
            .ip => |ip| switch (ip) {
                .ip4 => |ip4| {
                    words[2] = ip4.port;
                    for (ip4.bytes, words[3..7]) |byte, *word| word.* = byte;
                },
                .ip6 => |ip6| {
                    words[1..4].* = .{ 1, ip6.port, ip6.flow };
                    for (words[4..12], 0..) |*word, i| word.* = std.mem.readInt(u16, ip6.bytes[2 * i ..][0..2], .big);
                    words[12] = ip6.interface.index;
                },
            },
            .unnamed => words[0] = 1,
            .pathname => |name| words[0..4].* = .{ 1, 1, @intFromPtr(name.ptr), name.len },
            .abstract_name => |name| words[0..4].* = .{ 1, 2, @intFromPtr(name.ptr), name.len },
        }
        return words;
    }
};

pub const Credentials = extern struct {
    is_some: bool,
    has_pid: bool align(4),
    pid: u32,
    uid: u32,
    gid: u32,

    pub fn get(option: Credentials) ?plugsock.UnixCredentials {
        if (!option.is_some) return null;
        return .{ .pid = if (option.has_pid) option.pid else null, .uid = option.uid, .gid = option.gid };
    }
};

pub const StreamResult = extern struct {
    is_error: bool,
    payload: extern union { handle: u32, @"error": Failure },
};

/// The arguments of `handle-error`.
pub const FailedRequest = extern struct {
    server: ServerInfo,
    id: u64,
    client_address: Address,
    phase: plugsock.Phase,
    message: Text,

    pub fn get(request: FailedRequest) plugsock.Failure {
        return .{
            .id = request.id,
            .client_address = request.client_address.get(),
            .phase = request.phase,
            .message = request.message.get(),
        };
    }
};

pub extern "plugsock:handler/types@0.1.1" fn @"[resource-drop]request"(u32) void;
pub extern "plugsock:handler/types@0.1.1" fn @"[method]request.id"(u32) u64;
pub extern "plugsock:handler/types@0.1.1" fn @"[method]request.server"(u32, *ServerInfo) void;
pub extern "plugsock:handler/types@0.1.1" fn @"[method]request.recv"(u32, u32, *ListResult) void;
pub extern "plugsock:handler/types@0.1.1" fn @"[method]request.send"(u32, [*]const u8, usize, *VoidResult) void;
pub extern "plugsock:handler/types@0.1.1" fn @"[method]request.shutdown"(u32, u32, *VoidResult) void;
pub extern "plugsock:handler/types@0.1.1" fn @"[method]request.set-timeout"(u32, u32, u64, *VoidResult) void;
pub extern "plugsock:handler/types@0.1.1" fn @"[method]request.set-nodelay"(u32, u32, *VoidResult) void;
pub extern "plugsock:handler/types@0.1.1" fn @"[method]request.start-tls"(
    u32,
    u32,
    [*]const u8,
    usize,
    [*]const Text,
    usize,
    *TlsResult,
) void;
pub extern "plugsock:handler/types@0.1.1" fn @"[method]request.tls"(u32, *TlsOption) void;
pub extern "plugsock:handler/types@0.1.1" fn @"[method]request.tls-error"(u32, *TlsOption) void;
pub extern "plugsock:handler/types@0.1.1" fn @"[method]request.worker"(u32, *Text) void;
pub extern "plugsock:handler/types@0.1.1" fn @"[method]request.client-address"(u32, *Address) void;
pub extern "plugsock:handler/types@0.1.1" fn @"[method]request.unix-credentials"(u32, *Credentials) void;
pub extern "plugsock:handler/types@0.1.1" fn @"[method]request.send-to"(
    u32,
    [*]const u8,
    usize,
    // The address.
    u32,
    u32,
    u32,
    u32,
    u32,
    u32,
    u32,
    u32,
    u32,
    u32,
    u32,
    u32,
    u32,
    *VoidResult,
) void;
pub extern "plugsock:handler/types@0.1.1" fn @"[method]request.rfile"(u32, *StreamResult) void;
pub extern "plugsock:handler/types@0.1.1" fn @"[method]request.wfile"(u32, *StreamResult) void;
pub extern "plugsock:handler/types@0.1.1" fn @"[method]request.is-draining"(u32) u32;
pub extern "plugsock:handler/types@0.1.1" fn @"[method]request.subscribe-drain"(u32) u32;
