// The contract's functions as the canonical ABI has them. An operation returns `null`, or why it failed.

// @ts-ignore: decorator
@external("plugsock:handler/types@0.1.1", "[resource-drop]request")
export declare function drop(request: u32): void;

// @ts-ignore: decorator
@external("plugsock:handler/types@0.1.1", "[method]request.id")
export declare function id(request: u32): u64;

// @ts-ignore: decorator
@external("plugsock:handler/types@0.1.1", "[method]request.server")
declare function _server(request: u32, result: usize): void;

// @ts-ignore: decorator
@external("plugsock:handler/types@0.1.1", "[method]request.recv")
declare function _recv(request: u32, max: u32, result: usize): void;

// @ts-ignore: decorator
@external("plugsock:handler/types@0.1.1", "[method]request.send")
declare function _send(request: u32, data: usize, length: i32, result: usize): void;

// @ts-ignore: decorator
@external("plugsock:handler/types@0.1.1", "[method]request.shutdown")
declare function _shutdown(request: u32, how: i32, result: usize): void;

// @ts-ignore: decorator
@external("plugsock:handler/types@0.1.1", "[method]request.set-timeout")
declare function _setTimeout(request: u32, isSome: i32, nanoseconds: u64, result: usize): void;

// @ts-ignore: decorator
@external("plugsock:handler/types@0.1.1", "[method]request.set-nodelay")
declare function _setNodelay(request: u32, on: i32, result: usize): void;

// Where the host puts results; the largest is what `server` says.
const result: usize = memory.data(72, 8);

export function serverType(request: u32): i32 {
  _server(request, result);
  const type = load<u8>(result, 8);
  // The name, the concurrency, the digest; an address of a Unix socket is the rest.
  heap.free(load<usize>(result));
  heap.free(load<usize>(result, 48));
  heap.free(load<usize>(result, 56));
  return type;
}

export function recv(request: u32, max: u32): string | null {
  _recv(request, max, result);
  return outcome();
}

/** What `recv` received. */
export function received(): Uint8Array {
  const pointer = load<usize>(result, 4);
  const data = new Uint8Array(load<i32>(result, 8));
  if (data.length > 0) {
    memory.copy(data.dataStart, pointer, data.length);
    heap.free(pointer);
  }
  return data;
}

export function send(request: u32, data: Uint8Array): string | null {
  _send(request, data.dataStart, data.length, result);
  return outcome();
}

export function shutdown(request: u32, how: i32): string | null {
  _shutdown(request, how, result);
  return outcome();
}

export function setTimeout(request: u32, nanoseconds: u64): string | null {
  _setTimeout(request, 1, nanoseconds, result);
  return outcome();
}

export function setNodelay(request: u32, on: bool): string | null {
  _setNodelay(request, on, result);
  return outcome();
}

function outcome(): string | null {
  if (load<u8>(result) == 0) return null;
  switch (load<u8>(result, 4)) {
    case 0:
      return "the connection is closed";
    case 1:
      return "timed out";
    case 2:
      return "the client reset the connection";
    case 3:
      return "the datagram is too large for its transport";
    case 4:
      return "the client's socket has no name, so it cannot be answered";
    case 5:
      return "the server was not granted this";
    case 6:
      return "this server type has no such operation";
    default:
      return String.UTF8.decodeUnsafe(load<usize>(result, 8), load<i32>(result, 12));
  }
}
