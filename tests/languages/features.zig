//! Does what the first words of its client ask for, by all that the contract has besides reading and writing, and
//! answers with the same bytes otherwise. The hooks say that they were called.

const std = @import("std");
const plugsock = @import("plugsock");

const Features = struct {
    pub fn handle(_: *Features, request: *plugsock.Request) !void {
        const data = try request.recv(8192);
        var words = std.mem.tokenizeAny(u8, data, " \n");
        const command = words.next() orelse "";
        if (std.mem.eql(u8, command, "fail")) {
            request.message = "as the client wished";
            return error.Asked;
        }
        if (std.mem.eql(u8, command, "tick")) return tick(request);
        if (std.mem.eql(u8, command, "wait")) return wait(request);
        if (std.mem.eql(u8, command, "who")) return who(request);
        if (std.mem.eql(u8, command, "send-to")) {
            request.sendTo("hello", .parse(words.rest())) catch |failure| return request.send(@errorName(failure));
            return request.send("sent");
        }
        try request.send(data);
    }

    /// Waits for the client and a timer at once, until the client's end.
    fn tick(request: *plugsock.Request) !void {
        var input = try request.inputStream();
        defer input.deinit();
        var output = try request.outputStream();
        defer output.deinit();
        while (true) {
            const client, const timer = .{ input.subscribe(), plugsock.timer(20 * std.time.ns_per_ms) };
            defer for ([_]plugsock.Pollable{ client, timer }) |pollable| pollable.deinit();
            const ready = plugsock.poll(&.{ client, timer });
            if (ready[0] == 1) {
                try output.writeAll("tick\n");
            } else {
                const data = try input.tryRead(4096) orelse return;
                try output.writeAll(data);
            }
        }
    }

    /// Waits for the drain and the client at once.
    fn wait(request: *plugsock.Request) !void {
        try request.send(if (request.isDraining()) "draining\n" else "serving\n");
        const input = try request.inputStream();
        defer input.deinit();
        const client, const drain = .{ input.subscribe(), request.subscribeDrain() };
        defer for ([_]plugsock.Pollable{ client, drain }) |pollable| pollable.deinit();
        _ = plugsock.poll(&.{ client, drain });
        try request.send(if (drain.isReady() and request.isDraining()) "bye\n" else "hello\n");
    }

    fn who(request: *plugsock.Request) !void {
        const server = request.server();
        const names = .{ server.server_address, server.concurrency, server.generation, request.clientAddress() };
        try request.wfile.print("{f} {s} {d} {f}", names);
        if (request.unixCredentials()) |credentials| try request.wfile.print(" {d}", .{credentials.uid});
    }

    pub fn verifyRequest(request: *plugsock.Request) bool {
        const is_datagram = switch (request.serverType()) {
            .udp, .unix_datagram => true,
            .tcp, .unix_stream => false,
        };
        return !is_datagram or !std.mem.eql(u8, request.recv(6) catch return true, "refuse");
    }

    pub fn handleError(server: plugsock.ServerInfo, failure: plugsock.Failure) void {
        const names = .{ failure.phase, failure.client_address, server.generation, failure.message };
        plugsock.log("handle_error: {t} {f} {d}: {s}", names);
    }

    pub fn handleTimeout(server: plugsock.ServerInfo) void {
        plugsock.log("handle_timeout: {s}", .{server.concurrency});
    }

    pub fn serviceActions(server: plugsock.ServerInfo) void {
        plugsock.log("service_actions: {s}", .{server.concurrency});
    }
};

comptime {
    plugsock.serve(Features);
}
