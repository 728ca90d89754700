//! Works on stores, a line an operation, first on the store `counts`; says of an error of what kind it is.

const std = @import("std");
const plugsock = @import("plugsock");

const allocator = plugsock.allocator;

const State = struct {
    store: plugsock.Store = undefined,

    pub fn handle(state: *State, request: *plugsock.Request) !void {
        state.store = try plugsock.Store.open("counts");
        while (try request.rfile.takeDelimiter('\n')) |line| {
            var words = std.mem.tokenizeScalar(u8, line, ' ');
            const operation = std.meta.stringToEnum(Operation, words.next() orelse "") orelse return error.What;
            const answer = state.operate(operation, .{
                words.next() orelse "",
                words.next() orelse "",
                words.next() orelse "",
            }) catch |failure| switch (failure) {
                error.NoSuchStore => "no-such-store",
                error.AccessDenied => "access-denied",
                error.Other => try std.fmt.allocPrint(allocator, "other: {s}", .{plugsock.Store.failure.?}),
                else => return failure,
            };
            try request.wfile.print("{s}\n", .{answer});
        }
    }

    const Operation = enum { open, get, length, set, repeat, fill, del, has, incr, cas, add, list, count };

    fn operate(state: *State, operation: Operation, words: [3][]const u8) ![]const u8 {
        const store = state.store;
        const key, const one, const other = words;
        switch (operation) {
            .open => {
                state.store = try plugsock.Store.open(key);
                store.deinit();
                return "opened";
            },
            .get => return try store.get(key) orelse "none",
            .length => return printed("{d}", .{if (try store.get(key)) |value| value.len else 0}),
            .set => try store.set(key, one),
            .repeat => {
                const value = try allocator.alloc(u8, try std.fmt.parseInt(usize, one, 10));
                defer allocator.free(value);
                @memset(value, 'v');
                try store.set(key, value);
            },
            .fill => {
                for (0..try std.fmt.parseInt(usize, key, 10)) |number| {
                    try store.set(try printed("fill:{d}", .{number}), "x");
                }
                return "filled";
            },
            .del => {
                try store.delete(key);
                return "deleted";
            },
            .has => return printed("{}", .{try store.exists(key)}),
            .incr => return printed("{d}", .{try store.increment(key, try std.fmt.parseInt(i64, one, 10))}),
            .cas => {
                const old = if (std.mem.eql(u8, one, "none")) null else one;
                return printed("{}", .{try store.compareAndSwap(key, old, other)});
            },
            .add => while (true) {
                const seen = try store.get(key);
                const number = if (seen) |value| try std.fmt.parseInt(u32, value, 10) else 0;
                if (try store.compareAndSwap(key, seen, try printed("{d}", .{number + 1}))) return "added";
            },
            .list => return std.mem.join(allocator, " ", try store.keys(key)),
            .count => return printed("{d}", .{(try store.keys(key)).len}),
        }
        return "set";
    }

    fn printed(comptime format: []const u8, arguments: anytype) ![]const u8 {
        return std.fmt.allocPrint(allocator, format, arguments);
    }
};

comptime {
    plugsock.serve(State);
}
