// What the component exports; `names.mjs` gives it the contract's names.

import * as contract from "./contract";
import { handler, Request } from "./plugsock";

let request: Request | null = null;

export function setup(socket: u32): usize {
  const opened = new Request(socket);
  request = opened;
  return outcome(socket, handler().setup(opened));
}

export function handle(socket: u32): usize {
  const opened = request!;
  opened.bind(socket);
  return outcome(socket, handler().handle(opened));
}

export function finish(socket: u32): usize {
  const opened = request!;
  opened.bind(socket);
  const failure = handler().finish(opened);
  const isSent = opened.wfile.sendReply();
  return outcome(socket, failure || isSent ? failure : opened.error);
}

// A `result<_, string>`.
const result: usize = memory.data(12, 4);
let words: ArrayBuffer | null = null;

function outcome(socket: u32, failure: string | null): usize {
  // A borrowed request must be dropped before the component's function returns.
  contract.drop(socket);
  store<u8>(result, failure ? 1 : 0);
  if (failure) {
    const encoded = String.UTF8.encode(failure);
    words = encoded;
    store<usize>(result, changetype<usize>(encoded), 4);
    store<i32>(result, encoded.byteLength, 8);
  }
  return result;
}

// Where the host puts what it returns.
export function cabi_realloc(old: usize, oldSize: usize, alignment: usize, size: usize): usize {
  if (size == 0) return alignment;
  return old == 0 ? heap.alloc(size) : heap.realloc(old, size);
}
