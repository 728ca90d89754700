//! Answers with the same bytes: standard input and output are the connection.

const std = @import("std");

pub fn main(init: std.process.Init) !void {
    var input: [8192]u8 = undefined;
    var stdin = std.Io.File.stdin().readerStreaming(init.io, &input);
    var stdout = std.Io.File.stdout().writerStreaming(init.io, &.{});
    while (true) {
        const data = stdin.interface.peekGreedy(1) catch |failure| switch (failure) {
            error.EndOfStream => return,
            error.ReadFailed => return stdin.err.?,
        };
        try stdout.interface.writeAll(data);
        stdin.interface.toss(data.len);
    }
}
