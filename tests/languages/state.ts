// Works on stores, a line an operation, first on the store `counts`; says of an error of what kind it is.

import { StreamRequestHandler, serve } from "./sdk/plugsock.js";
import { StateError, openStore, type Store } from "./sdk/state.js";

class State extends StreamRequestHandler {
  private store = openStore("counts");

  override handle(): void {
    for (const line of this.rfile.lines()) this.wfile.write(`${this.answer(line.trim().split(" "))}\n`);
  }

  private answer([operation = "", key = "", one = "", other = ""]: string[]): unknown {
    try {
      if (operation !== "open") return operate(this.store, operation, key, one, other);
      const opened = openStore(key);
      this.store.close();
      this.store = opened;
      return "opened";
    } catch (error) {
      if (!(error instanceof StateError)) throw error;
      return error.code === "other" ? `other: ${error.message}` : error.code;
    }
  }
}

function operate(store: Store, operation: string, key: string, one: string, other: string): unknown {
  switch (operation) {
    case "get": {
      const value = store.get(key);
      return value === undefined ? "none" : text(value);
    }
    case "length":
      return store.get(key)?.length;
    case "set":
      store.set(key, one);
      return "set";
    case "repeat":
      store.set(key, new Uint8Array(Number(one)).fill(118));
      return "set";
    case "fill":
      for (let i = 0; i < Number(key); i++) store.set(`fill:${i}`, "x");
      return "filled";
    case "del":
      store.delete(key);
      return "deleted";
    case "has":
      return store.exists(key);
    case "incr":
      return store.increment(key, BigInt(one));
    case "cas":
      return store.compareAndSwap(key, one === "none" ? undefined : one, other);
    case "add":
      for (;;) {
        const seen = store.get(key);
        const number = seen === undefined ? 0 : Number(text(seen));
        if (store.compareAndSwap(key, seen, `${number + 1}`)) return "added";
      }
    case "list":
      return store.keys(key).join(" ");
    default:
      return store.keys(key).length;
  }
}

/** Of ASCII; there are no types for `TextDecoder`. */
function text(data: Uint8Array): string {
  return String.fromCharCode(...data);
}

export const requestHandler = serve(State);
