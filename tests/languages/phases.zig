//! Fails in the phase that the first line names.

const std = @import("std");
const plugsock = @import("plugsock");

const Phases = struct {
    phase: [32]u8 = undefined,
    length: usize = 0,

    pub fn setup(self: *Phases, request: *plugsock.Request) !void {
        const line = try request.rfile.takeDelimiterExclusive('\n');
        @memcpy(self.phase[0..line.len], line);
        self.length = line.len;
        try self.failIn("setup", request);
    }

    pub fn handle(self: *Phases, request: *plugsock.Request) !void {
        try request.wfile.writeAll("handle\n");
        try self.failIn("handle", request);
    }

    pub fn finish(self: *Phases, request: *plugsock.Request) !void {
        try request.wfile.writeAll("finish\n");
        try self.failIn("finish", request);
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
