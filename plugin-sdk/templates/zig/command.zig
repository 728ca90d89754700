//! Answers with the same bytes: standard input and output are the connection.

const std = @import("std");

pub fn main(init: std.process.Init) !void {
    var received: [4096]u8 = undefined;
    var unsent: [4096]u8 = undefined;
    var input = std.Io.File.stdin().readerStreaming(init.io, &received);
    var output = std.Io.File.stdout().writerStreaming(init.io, &unsent);
    const reader, const writer = .{ &input.interface, &output.interface };
    while (true) {
        reader.fillMore() catch |err| switch (err) {
            error.EndOfStream => return,
            else => return err,
        };
        try writer.writeAll(reader.buffered());
        reader.tossBuffered();
        try writer.flush();
    }
}
