// Works on stores, a line an operation, first on the store `counts`; says of an error of what kind it is.

import { StreamRequestHandler, serve } from "./build/sdk/plugsock.js";
import { StateError, openStore } from "./build/sdk/state.js";

class State extends StreamRequestHandler {
  handle() {
    let store = openStore("counts");
    for (const line of this.rfile.lines()) {
      const [operation, ...words] = line.trim().split(" ");
      this.wfile.write(`${told(() => (operation === "open" ? open(words[0]) : operate(store, operation, ...words)))}\n`);
    }

    function open(name) {
      const opened = openStore(name);
      store.close();
      store = opened;
      return "opened";
    }
  }
}

function told(operation) {
  try {
    return operation();
  } catch (error) {
    if (!(error instanceof StateError)) throw error;
    return error.code === "other" ? `other: ${error.message}` : error.code;
  }
}

function operate(store, operation, key, one, other) {
  switch (operation) {
    case "get": {
      const value = store.get(key);
      return value === undefined ? "none" : text(value);
    }
    case "length":
      return store.get(key).length;
    case "set":
      store.set(key, one);
      return "set";
    case "repeat":
      store.set(key, "v".repeat(Number(one)));
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

function text(data) {
  return new TextDecoder().decode(data);
}

export const requestHandler = serve(State);
