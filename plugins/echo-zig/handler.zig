//! Answers with the same bytes.

const plugsock = @import("plugsock");

const Echo = struct {
    pub fn handle(_: *Echo, request: *plugsock.Request) !void {
        _ = try request.rfile.streamRemaining(&request.wfile);
    }
};

comptime {
    plugsock.serve(Echo);
}
