//! Fails in the phase that the first line names, or starts TLS and answers with the same bytes.

const std = @import("std");
const plugsock = @import("plugsock");

const Phases = struct {
    phase: [32]u8 = undefined,
    length: usize = 0,

    pub fn setup(self: *Phases, request: *plugsock.Request) !void {
        const line = (try request.rfile.takeDelimiter('\n')).?;
        @memcpy(self.phase[0..line.len], line);
        self.length = line.len;
        try self.failIn("setup", request);
    }

    pub fn handle(self: *Phases, request: *plugsock.Request) !void {
        var words = std.mem.tokenizeScalar(u8, self.phase[0..self.length], ' ');
        if (std.mem.eql(u8, words.next() orelse "", "STARTTLS")) return startTls(request, words.next());
        try request.wfile.writeAll("handle\n");
        try self.failIn("handle", request);
    }

    pub fn finish(self: *Phases, request: *plugsock.Request) !void {
        try request.wfile.writeAll("finish\n");
        try self.failIn("finish", request);
    }

    fn startTls(request: *plugsock.Request, identity: ?[]const u8) !void {
        try request.wfile.writeAll("go ahead\n");
        const tls = try request.startTls(.{ .identity = identity, .alpn = &.{"echo"} });
        defer tls.deinit();
        const names = .{ tls.protocol, tls.cipher_suite, tls.server_name orelse "-", tls.alpn orelse "-" };
        try request.wfile.print("tls {s} {s} {s} {s}\n", names);
        if (tls.client_names.len > 0) {
            var length: usize = 0;
            for (tls.client_certificates) |certificate| length += certificate.len;
            const client = .{ tls.client_certificates.len, length, tls.client_names[tls.client_names.len - 1] };
            try request.wfile.print("client {d} {d} {s}\n", client);
        }
        _ = try request.rfile.streamRemaining(&request.wfile);
    }

    fn failIn(self: *Phases, phase: []const u8, request: *plugsock.Request) !void {
        if (!std.mem.eql(u8, self.phase[0..self.length], phase)) return;
        request.message = "as asked";
        return error.Asked;
    }
};

comptime {
    plugsock.serve(Phases);
}
