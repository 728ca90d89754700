//! Answers with a packet's length.

const plugsock = @import("plugsock");

const Length = struct {
    pub fn handle(_: *Length, request: *plugsock.Request) !void {
        try request.wfile.print("{d} bytes", .{try request.rfile.discardRemaining()});
    }
};

comptime {
    plugsock.serve(Length);
}
