// What can be waited for together: streams, timers, the drain; and the log.

import { text } from "./memory";

/** Something that can be waited for. */
export class Pollable {
  constructor(public handle: u32) {}

  get isReady(): bool {
    return _ready(this.handle) != 0;
  }

  /** Waits until it is ready. */
  block(): void {
    _block(this.handle);
  }

  /** Lets go of it. */
  close(): void {
    _dropPollable(this.handle);
  }
}

/** Waits until one of them is ready at least; which of them are, by their places. */
export function poll(pollables: Pollable[]): u32[] {
  const handles = new StaticArray<u32>(pollables.length);
  for (let i = 0; i < pollables.length; i++) handles[i] = pollables[i].handle;
  _poll(changetype<usize>(handles), handles.length, result);
  const ready = new Array<u32>();
  const list = load<usize>(result);
  for (let i = 0, length = load<i32>(result, 4); i < length; i++) ready.push(load<u32>(list + 4 * i));
  heap.free(list);
  return ready;
}

/** Ready after that long. */
export function timer(nanoseconds: u64): Pollable {
  return new Pollable(_subscribeDuration(nanoseconds));
}

/** Writes a line to the handler's log. */
export function log(line: string): void {
  const stderr = new OutputStream(_getStderr());
  stderr.write(Uint8Array.wrap(String.UTF8.encode(line + "\n")));
  stderr.close();
}

/** What the client sends. */
export class InputStream {
  /** Whether the end has come. */
  isAtEnd: bool = false;
  /** Why it failed, in words. */
  error: string | null = null;

  constructor(private handle: u32) {}

  /** What is there, up to `max` bytes: empty if nothing has come yet, at the end, and after an error. */
  tryRead(max: u64): Uint8Array {
    _read(this.handle, max, result);
    return this.received();
  }

  /** Waits for data, up to `max` bytes; empty at the end and after an error. */
  read(max: u64): Uint8Array {
    _blockingRead(this.handle, max, result);
    return this.received();
  }

  /** Ready when there is something to read, or the end. */
  subscribe(): Pollable {
    return new Pollable(_subscribeInput(this.handle));
  }

  /** Lets go of the stream, and not of the connection. */
  close(): void {
    _dropInput(this.handle);
  }

  private received(): Uint8Array {
    const data = new Uint8Array(load<u8>(result) == 0 ? load<i32>(result, 8) : 0);
    if (load<u8>(result) != 0) {
      this.isAtEnd = isClosed(result + 4);
      this.error = this.isAtEnd ? null : words(result + 4);
    } else if (data.length > 0) {
      memory.copy(data.dataStart, load<usize>(result, 4), data.length);
      heap.free(load<usize>(result, 4));
    }
    return data;
  }
}

/** What the client gets. */
export class OutputStream {
  /** Why it failed, in words. */
  error: string | null = null;

  constructor(private handle: u32) {}

  /** Writes as much as there is room for, without waiting; how much that was, or -1 after an error. */
  tryWrite(data: Uint8Array): i32 {
    _checkWrite(this.handle, result);
    if (load<u8>(result) != 0) return this.fail(result + 8);
    const length = <i32>min(<u64>data.length, load<u64>(result, 8));
    if (length == 0) return 0;
    _write(this.handle, data.dataStart, length, result);
    return load<u8>(result) == 0 ? length : this.fail(result + 4);
  }

  /** Waits until all is written and sent. */
  write(data: Uint8Array): bool {
    for (let written = 0; written < data.length; ) {
      const length = this.tryWrite(data.subarray(written));
      if (length < 0) return false;
      written += length;
      if (length == 0) {
        const room = this.subscribe();
        room.block();
        room.close();
      }
    }
    return this.flush();
  }

  writeString(text: string): bool {
    return this.write(Uint8Array.wrap(String.UTF8.encode(text)));
  }

  /** Waits until what was written is sent. */
  flush(): bool {
    _blockingFlush(this.handle, result);
    return load<u8>(result) == 0 || this.fail(result + 4) >= 0;
  }

  /** Ready when there is room to write. */
  subscribe(): Pollable {
    return new Pollable(_subscribeOutput(this.handle));
  }

  /** Lets go of the stream, and not of the connection. */
  close(): void {
    _dropOutput(this.handle);
  }

  private fail(at: usize): i32 {
    this.error = isClosed(at) ? "the connection is closed" : words(at);
    return -1;
  }
}

// Where the host puts results.
const result: usize = memory.data(16, 8);

function isClosed(at: usize): bool {
  return load<u8>(at) != 0;
}

/** An error of a stream in words; lets go of it. */
function words(at: usize): string {
  const error = load<u32>(at, 4);
  _toDebugString(error, result);
  _dropError(error);
  return text(result);
}

// @ts-ignore: decorator
@external("wasi:io/poll@0.2.6", "poll")
declare function _poll(pollables: usize, length: i32, result: usize): void;

// @ts-ignore: decorator
@external("wasi:io/poll@0.2.6", "[method]pollable.ready")
declare function _ready(pollable: u32): i32;

// @ts-ignore: decorator
@external("wasi:io/poll@0.2.6", "[method]pollable.block")
declare function _block(pollable: u32): void;

// @ts-ignore: decorator
@external("wasi:io/poll@0.2.6", "[resource-drop]pollable")
declare function _dropPollable(pollable: u32): void;

// @ts-ignore: decorator
@external("wasi:io/error@0.2.6", "[method]error.to-debug-string")
declare function _toDebugString(error: u32, result: usize): void;

// @ts-ignore: decorator
@external("wasi:io/error@0.2.6", "[resource-drop]error")
declare function _dropError(error: u32): void;

// @ts-ignore: decorator
@external("wasi:io/streams@0.2.6", "[method]input-stream.read")
declare function _read(stream: u32, max: u64, result: usize): void;

// @ts-ignore: decorator
@external("wasi:io/streams@0.2.6", "[method]input-stream.blocking-read")
declare function _blockingRead(stream: u32, max: u64, result: usize): void;

// @ts-ignore: decorator
@external("wasi:io/streams@0.2.6", "[method]input-stream.subscribe")
declare function _subscribeInput(stream: u32): u32;

// @ts-ignore: decorator
@external("wasi:io/streams@0.2.6", "[resource-drop]input-stream")
declare function _dropInput(stream: u32): void;

// @ts-ignore: decorator
@external("wasi:io/streams@0.2.6", "[method]output-stream.check-write")
declare function _checkWrite(stream: u32, result: usize): void;

// @ts-ignore: decorator
@external("wasi:io/streams@0.2.6", "[method]output-stream.write")
declare function _write(stream: u32, data: usize, length: i32, result: usize): void;

// @ts-ignore: decorator
@external("wasi:io/streams@0.2.6", "[method]output-stream.blocking-flush")
declare function _blockingFlush(stream: u32, result: usize): void;

// @ts-ignore: decorator
@external("wasi:io/streams@0.2.6", "[method]output-stream.subscribe")
declare function _subscribeOutput(stream: u32): u32;

// @ts-ignore: decorator
@external("wasi:io/streams@0.2.6", "[resource-drop]output-stream")
declare function _dropOutput(stream: u32): void;

// @ts-ignore: decorator
@external("wasi:clocks/monotonic-clock@0.2.6", "subscribe-duration")
declare function _subscribeDuration(nanoseconds: u64): u32;

// @ts-ignore: decorator
@external("wasi:cli/stderr@0.2.6", "get-stderr")
declare function _getStderr(): u32;
