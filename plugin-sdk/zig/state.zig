//! State that outlives a request: the stores that the server grants (`--state`).

const std = @import("std");
const plugsock = @import("plugsock.zig");
const contract = @import("contract.zig");

const allocator = plugsock.allocator;

/// Why an operation on a store failed; of `error.Other`, `Store.failure` has the words.
pub const StateError = error{
    /// The server grants no store of this name.
    NoSuchStore,
    /// The server grants the store for reading only.
    AccessDenied,
    Other,
};

/// Values by their keys, which all requests of all handlers share that are granted the store.
pub const Store = struct {
    handle: u32,

    /// What the last `error.Other` of any store was, in words; valid until the next.
    pub var failure: ?[]const u8 = null;

    /// Opens the store that the server grants under this name.
    pub fn open(name: []const u8) StateError!Store {
        var result: HandleResult = undefined;
        contractOpen(name.ptr, name.len, &result);
        return if (result.is_error) fail(result.payload.@"error") else .{ .handle = result.payload.handle };
    }

    /// The value of a key; `null` if it has none. The caller frees it.
    pub fn get(store: Store, key: []const u8) StateError!?[]u8 {
        var result: ValueResult = undefined;
        @"[method]bucket.get"(store.handle, key.ptr, key.len, &result);
        return if (result.is_error) fail(result.payload.@"error") else result.payload.value.get();
    }

    /// Sets the value of a key, whether it had one or not.
    pub fn set(store: Store, key: []const u8, value: []const u8) StateError!void {
        var result: VoidResult = undefined;
        @"[method]bucket.set"(store.handle, key.ptr, key.len, value.ptr, value.len, &result);
        if (result.is_error) return fail(result.@"error");
    }

    /// Deletes a key; nothing happens if it has no value.
    pub fn delete(store: Store, key: []const u8) StateError!void {
        var result: VoidResult = undefined;
        @"[method]bucket.delete"(store.handle, key.ptr, key.len, &result);
        if (result.is_error) return fail(result.@"error");
    }

    /// Whether a key has a value.
    pub fn exists(store: Store, key: []const u8) StateError!bool {
        var result: BoolResult = undefined;
        @"[method]bucket.exists"(store.handle, key.ptr, key.len, &result);
        return if (result.is_error) fail(result.payload.@"error") else result.payload.exists;
    }

    /// Adds to the number that a key has, and returns the sum, whoever else adds to it at once. A key without a value has 0;
    /// the value is the number as decimal text.
    pub fn increment(store: Store, key: []const u8, delta: i64) StateError!i64 {
        var result: NumberResult = undefined;
        contractIncrement(store.handle, key.ptr, key.len, delta, &result);
        return if (result.is_error) fail(result.payload.@"error") else result.payload.number;
    }

    /// Replaces the value of a key if it is the one expected, `null` for none; whether it was.
    pub fn compareAndSwap(store: Store, key: []const u8, expected: ?[]const u8, value: []const u8) StateError!bool {
        var opened: HandleResult = undefined;
        @"[static]cas.new"(store.handle, key.ptr, key.len, &opened);
        if (opened.is_error) return fail(opened.payload.@"error");
        const seen = opened.payload.handle;
        const is_expected = isCurrent(seen, expected) catch |why| {
            @"[resource-drop]cas"(seen);
            return why;
        };
        if (!is_expected) {
            @"[resource-drop]cas"(seen);
            return false;
        }
        var result: SwapResult = undefined;
        contractSwap(seen, value.ptr, value.len, &result);
        if (!result.is_error) return true;
        switch (result.@"error".tag) {
            .store_error => return fail(result.@"error".payload.store_error),
            .cas_failed => @"[resource-drop]cas"(result.@"error".payload.cas_failed),
        }
        return false;
    }

    /// All keys that begin with `prefix`, in order. It has the whole store looked through. The caller frees them.
    pub fn keys(store: Store, prefix: []const u8) StateError![]const []const u8 {
        var all: std.ArrayList([]const u8) = .empty;
        var cursor: contract.OptionText = .{ .is_some = false, .text = .{ .ptr = "", .len = 0 } };
        while (true) {
            var result: KeysResult = undefined;
            const text = cursor.text;
            @"[method]bucket.list-keys"(store.handle, @intFromBool(cursor.is_some), text.ptr, text.len, &result);
            if (cursor.is_some) allocator.free(text.get());
            if (result.is_error) return fail(result.payload.@"error");
            const page = result.payload.page.keys.get();
            defer allocator.free(page);
            for (page) |key| {
                if (std.mem.startsWith(u8, key, prefix)) {
                    all.append(allocator, key) catch @trap();
                } else {
                    allocator.free(key);
                }
            }
            cursor = result.payload.page.cursor;
            if (!cursor.is_some) return sorted(&all);
        }
    }

    /// Lets go of the store, which stays as it is.
    pub fn deinit(store: Store) void {
        @"[resource-drop]bucket"(store.handle);
    }

    fn isCurrent(seen: u32, expected: ?[]const u8) StateError!bool {
        var result: ValueResult = undefined;
        @"[method]cas.current"(seen, &result);
        if (result.is_error) return fail(result.payload.@"error");
        const value = result.payload.value.get() orelse return expected == null;
        defer allocator.free(value);
        return if (expected) |bytes| std.mem.eql(u8, value, bytes) else false;
    }

    fn fail(told: Failure) StateError {
        switch (told.tag) {
            .no_such_store => return error.NoSuchStore,
            .access_denied => return error.AccessDenied,
            .other => {
                if (failure) |words| allocator.free(words);
                failure = told.words.get();
                return error.Other;
            },
        }
    }
};

/// A store may show a key twice that others work on meanwhile.
fn sorted(all: *std.ArrayList([]const u8)) []const []const u8 {
    std.mem.sort([]const u8, all.items, {}, isBefore);
    var length: usize = 0;
    for (all.items) |key| {
        if (length > 0 and std.mem.eql(u8, key, all.items[length - 1])) {
            allocator.free(key);
        } else {
            all.items[length] = key;
            length += 1;
        }
    }
    all.shrinkRetainingCapacity(length);
    return all.toOwnedSlice(allocator) catch @trap();
}

fn isBefore(_: void, one: []const u8, other: []const u8) bool {
    return std.mem.lessThan(u8, one, other);
}

const Failure = extern struct { tag: enum(u8) { no_such_store, access_denied, other }, words: contract.Text };

const OptionList = extern struct {
    is_some: bool,
    list: contract.List,

    fn get(option: OptionList) ?[]u8 {
        return if (option.is_some) option.list.ptr[0..option.list.len] else null;
    }
};

const Page = extern struct { keys: contract.TextList, cursor: contract.OptionText };

const HandleResult = extern struct { is_error: bool, payload: extern union { handle: u32, @"error": Failure } };
const ValueResult = extern struct { is_error: bool, payload: extern union { value: OptionList, @"error": Failure } };
const BoolResult = extern struct { is_error: bool, payload: extern union { exists: bool, @"error": Failure } };
const KeysResult = extern struct { is_error: bool, payload: extern union { page: Page, @"error": Failure } };
const NumberResult = extern struct { is_error: bool, payload: extern union { number: i64, @"error": Failure } };
const VoidResult = extern struct { is_error: bool, @"error": Failure };
const SwapResult = extern struct {
    is_error: bool,
    @"error": extern struct {
        tag: enum(u8) { store_error, cas_failed },
        payload: extern union { store_error: Failure, cas_failed: u32 },
    },
};

const contractOpen = @extern(*const fn ([*]const u8, usize, *HandleResult) callconv(.c) void, .{
    .name = "open",
    .library_name = "wasi:keyvalue/store@0.2.0-draft2",
});
const contractIncrement = @extern(*const fn (u32, [*]const u8, usize, i64, *NumberResult) callconv(.c) void, .{
    .name = "increment",
    .library_name = "wasi:keyvalue/atomics@0.2.0-draft2",
});
const contractSwap = @extern(*const fn (u32, [*]const u8, usize, *SwapResult) callconv(.c) void, .{
    .name = "swap",
    .library_name = "wasi:keyvalue/atomics@0.2.0-draft2",
});

extern "wasi:keyvalue/store@0.2.0-draft2" fn @"[method]bucket.get"(u32, [*]const u8, usize, *ValueResult) void;
extern "wasi:keyvalue/store@0.2.0-draft2" fn @"[method]bucket.set"(
    u32,
    [*]const u8,
    usize,
    [*]const u8,
    usize,
    *VoidResult,
) void;
extern "wasi:keyvalue/store@0.2.0-draft2" fn @"[method]bucket.delete"(u32, [*]const u8, usize, *VoidResult) void;
extern "wasi:keyvalue/store@0.2.0-draft2" fn @"[method]bucket.exists"(u32, [*]const u8, usize, *BoolResult) void;
extern "wasi:keyvalue/store@0.2.0-draft2" fn @"[method]bucket.list-keys"(
    u32,
    u32,
    [*]const u8,
    usize,
    *KeysResult,
) void;
extern "wasi:keyvalue/store@0.2.0-draft2" fn @"[resource-drop]bucket"(u32) void;
extern "wasi:keyvalue/atomics@0.2.0-draft2" fn @"[static]cas.new"(u32, [*]const u8, usize, *HandleResult) void;
extern "wasi:keyvalue/atomics@0.2.0-draft2" fn @"[method]cas.current"(u32, *ValueResult) void;
extern "wasi:keyvalue/atomics@0.2.0-draft2" fn @"[resource-drop]cas"(u32) void;
