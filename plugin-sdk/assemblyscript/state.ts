// State that outlives a request: the stores that the server grants (`--state`).

import { bytes, optionalText, text } from "./memory";

/** The contract's, in its order. */
export const enum StateErrorKind {
  NO_SUCH_STORE,
  ACCESS_DENIED,
  OTHER,
}

/** Opens the store that the server grants under this name; if that fails, its `error` says why. */
export function openStore(name: string): Store {
  const encoded = String.UTF8.encode(name);
  _open(changetype<usize>(encoded), encoded.byteLength, result);
  const store = new Store(load<u32>(result, 4));
  store.outcome();
  return store;
}

/** Values by their keys, which all requests of all handlers share that are granted the store. */
export class Store {
  /** Why the last operation failed, in words. */
  error: string | null = null;
  /** What kind of error that was. */
  errorKind: StateErrorKind = StateErrorKind.OTHER;

  constructor(private handle: u32) {}

  /** The value of a key; `null` if it has none, and after an error. */
  get(key: string): Uint8Array | null {
    const name = String.UTF8.encode(key);
    _get(this.handle, changetype<usize>(name), name.byteLength, result);
    return this.value();
  }

  /** Sets the value of a key, whether it had one or not. */
  set(key: string, value: Uint8Array): bool {
    const name = String.UTF8.encode(key);
    _set(this.handle, changetype<usize>(name), name.byteLength, value.dataStart, value.length, result);
    return this.outcome();
  }

  /** Deletes a key; nothing happens if it has no value. */
  delete(key: string): bool {
    const name = String.UTF8.encode(key);
    _delete(this.handle, changetype<usize>(name), name.byteLength, result);
    return this.outcome();
  }

  /** Whether a key has a value; not after an error. */
  exists(key: string): bool {
    const name = String.UTF8.encode(key);
    _exists(this.handle, changetype<usize>(name), name.byteLength, result);
    return this.outcome() && load<u8>(result, 4) != 0;
  }

  /**
   * Adds to the number that a key has, and returns the sum, whoever else adds to it at once; 0 after an error. A key without
   * a value has 0; the value is the number as decimal text.
   */
  increment(key: string, delta: i64 = 1): i64 {
    const name = String.UTF8.encode(key);
    _increment(this.handle, changetype<usize>(name), name.byteLength, delta, result);
    return this.outcome(8) ? load<i64>(result, 8) : 0;
  }

  /** Replaces the value of a key if it is the one expected, `null` for none; whether it was. */
  compareAndSwap(key: string, expected: Uint8Array | null, value: Uint8Array): bool {
    const name = String.UTF8.encode(key);
    _newCas(this.handle, changetype<usize>(name), name.byteLength, result);
    if (!this.outcome()) return false;
    const seen = load<u32>(result, 4);
    _current(seen, result);
    const current = this.value();
    if (this.error || !isSame(current, expected)) {
      _dropCas(seen);
      return false;
    }
    _swap(seen, value.dataStart, value.length, result);
    if (load<u8>(result) != 0 && load<u8>(result, 4) != 0) {
      // Somebody else was faster; it is what the value is now.
      _dropCas(load<u32>(result, 8));
      return false;
    }
    return this.outcome(8);
  }

  /** All keys that begin with `prefix`, in order; none after an error. It has the whole store looked through. */
  keys(prefix: string = ""): string[] {
    // A store may show a key twice that others work on meanwhile.
    const keys = new Set<string>();
    let cursor: string | null = null;
    do {
      const from = String.UTF8.encode(cursor === null ? "" : cursor);
      _listKeys(this.handle, cursor === null ? 0 : 1, changetype<usize>(from), from.byteLength, result);
      if (!this.outcome()) return [];
      const page = load<usize>(result, 4);
      const length = load<i32>(result, 8);
      for (let i = 0; i < length; i++) {
        const key = text(page + 8 * i);
        if (key.startsWith(prefix)) keys.add(key);
      }
      if (length > 0) heap.free(page);
      cursor = optionalText(result + 12);
    } while (cursor !== null);
    return keys.values().sort();
  }

  /** Lets go of the store, which stays as it is. */
  close(): void {
    _dropBucket(this.handle);
  }

  private value(): Uint8Array | null {
    return this.outcome() && load<u8>(result, 4) != 0 ? bytes(result + 8) : null;
  }

  /** Whether the operation went well; if not, its error is at that place. */
  outcome(at: usize = 4): bool {
    this.error = null;
    if (load<u8>(result) == 0) return true;
    this.errorKind = load<u8>(result + at) as StateErrorKind;
    this.error = words(this.errorKind, result + at + 4);
    return false;
  }
}

function words(kind: StateErrorKind, at: usize): string {
  switch (kind) {
    case StateErrorKind.NO_SUCH_STORE:
      return "the server grants no store of this name";
    case StateErrorKind.ACCESS_DENIED:
      return "the server grants the store for reading only";
    default:
      return text(at);
  }
}

function isSame(value: Uint8Array | null, expected: Uint8Array | null): bool {
  if (!value || !expected) return !value && !expected;
  return value.length == expected.length && memory.compare(value.dataStart, expected.dataStart, value.length) == 0;
}

// Where the host puts results; the largest is a page of keys.
const result: usize = memory.data(24, 8);

// @ts-ignore: decorator
@external("wasi:keyvalue/store@0.2.0-draft2", "open")
declare function _open(name: usize, length: i32, result: usize): void;

// @ts-ignore: decorator
@external("wasi:keyvalue/store@0.2.0-draft2", "[method]bucket.get")
declare function _get(bucket: u32, key: usize, length: i32, result: usize): void;

// @ts-ignore: decorator
@external("wasi:keyvalue/store@0.2.0-draft2", "[method]bucket.set")
declare function _set(bucket: u32, key: usize, length: i32, value: usize, size: i32, result: usize): void;

// @ts-ignore: decorator
@external("wasi:keyvalue/store@0.2.0-draft2", "[method]bucket.delete")
declare function _delete(bucket: u32, key: usize, length: i32, result: usize): void;

// @ts-ignore: decorator
@external("wasi:keyvalue/store@0.2.0-draft2", "[method]bucket.exists")
declare function _exists(bucket: u32, key: usize, length: i32, result: usize): void;

// @ts-ignore: decorator
@external("wasi:keyvalue/store@0.2.0-draft2", "[method]bucket.list-keys")
declare function _listKeys(bucket: u32, isSome: i32, cursor: usize, length: i32, result: usize): void;

// @ts-ignore: decorator
@external("wasi:keyvalue/store@0.2.0-draft2", "[resource-drop]bucket")
declare function _dropBucket(bucket: u32): void;

// @ts-ignore: decorator
@external("wasi:keyvalue/atomics@0.2.0-draft2", "increment")
declare function _increment(bucket: u32, key: usize, length: i32, delta: i64, result: usize): void;

// @ts-ignore: decorator
@external("wasi:keyvalue/atomics@0.2.0-draft2", "[static]cas.new")
declare function _newCas(bucket: u32, key: usize, length: i32, result: usize): void;

// @ts-ignore: decorator
@external("wasi:keyvalue/atomics@0.2.0-draft2", "[method]cas.current")
declare function _current(cas: u32, result: usize): void;

// @ts-ignore: decorator
@external("wasi:keyvalue/atomics@0.2.0-draft2", "swap")
declare function _swap(cas: u32, value: usize, size: i32, result: usize): void;

// @ts-ignore: decorator
@external("wasi:keyvalue/atomics@0.2.0-draft2", "[resource-drop]cas")
declare function _dropCas(cas: u32): void;
