// State that outlives a request: the stores that the server grants (`--state`).
//
//     const visits = openStore("counts").increment("visits");
//
// A handler that imports this imports the stores; builds see it by the import.

import { Cas, increment, swap } from "wasi:keyvalue/atomics@0.2.0-draft2";
import { open } from "wasi:keyvalue/store@0.2.0-draft2";

/** Opens the store that the server grants under this name. */
export function openStore(name) {
  return new Store(call(() => open(name)));
}

/** Values by their keys, which all requests of all handlers share that are granted the store. */
export class Store {
  constructor(raw) {
    this.raw = raw;
  }

  /** The value of a key; `undefined` if it has none. */
  get(key) {
    return call(() => this.raw.get(key));
  }

  /** Sets the value of a key to bytes, or text, whether it had one or not. */
  set(key, value) {
    call(() => this.raw.set(key, bytes(value)));
  }

  /** Deletes a key; nothing happens if it has no value. */
  delete(key) {
    call(() => this.raw.delete(key));
  }

  /** Whether a key has a value. */
  exists(key) {
    return call(() => this.raw.exists(key));
  }

  /**
   * Adds to the number that a key has, and returns the sum, a bigint, whoever else adds to it at once. A key without a value
   * has 0; the value is the number as decimal text.
   */
  increment(key, delta = 1n) {
    const number = BigInt(delta);
    return number < 0n ? this.#subtract(key, number) : call(() => increment(this.raw, key, number));
  }

  /** The compiler's bindings trap where they are to pass a negative number. */
  #subtract(key, delta) {
    for (;;) {
      const number = this.increment(key, 0n);
      const sum = number + delta;
      if (sum < -(2n ** 63n)) throw new StateError({ tag: "other", val: "the sum would be beyond what 64 bits hold" });
      if (this.compareAndSwap(key, `${number}`, `${sum}`)) return sum;
    }
  }

  /** Replaces the value of a key if it is the one expected, `undefined` for none; whether it was. */
  compareAndSwap(key, expected, value) {
    const seen = call(() => Cas.new(this.raw, key));
    if (!isSame(call(() => seen.current()), expected)) {
      seen[DISPOSE]();
      return false;
    }
    try {
      swap(seen, bytes(value));
      return true;
    } catch (error) {
      const { tag, val } = error.payload ?? {};
      if (tag !== "cas-failed") throw tag === "store-error" ? new StateError(val) : error;
      // Somebody else was faster; it is what the value is now.
      val[DISPOSE]();
      return false;
    }
  }

  /** All keys that begin with `prefix`, in order. It has the whole store looked through. */
  keys(prefix = "") {
    // A store may show a key twice that others work on meanwhile.
    const keys = new Set();
    let cursor;
    do {
      const page = call(() => this.raw.listKeys(cursor));
      for (const key of page.keys) if (key.startsWith(prefix)) keys.add(key);
      cursor = page.cursor;
    } while (cursor !== undefined);
    return [...keys].sort();
  }

  /** Lets go of the store, which stays as it is. */
  close() {
    this.raw[DISPOSE]();
  }
}

/** Why an operation on a store failed; `code` is the contract's. */
export class StateError extends Error {
  constructor(error) {
    super(WORDS[error.tag] ?? error.val);
    this.name = "StateError";
    this.code = error.tag;
  }
}

const DISPOSE = Symbol.dispose ?? Symbol.for("dispose");

const WORDS = {
  "no-such-store": "the server grants no store of this name",
  "access-denied": "the server grants the store for reading only",
};

/** Calls the contract; the errors it names become exceptions that name themselves. */
function call(operation) {
  try {
    return operation();
  } catch (error) {
    throw error.payload?.tag ? new StateError(error.payload) : error;
  }
}

function bytes(data) {
  return typeof data === "string" ? new TextEncoder().encode(data) : data;
}

function isSame(value, expected) {
  if (value === undefined || expected === undefined) return value === expected;
  const wanted = bytes(expected);
  return value.length === wanted.length && value.every((byte, i) => byte === wanted[i]);
}
