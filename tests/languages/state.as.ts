// Works on stores, a line an operation, first on the store `counts`; says of an error of what kind it is.

import { openStore, Request, RequestHandler, serve, StateErrorKind, Store } from "./build/sdk/plugsock";

class State extends RequestHandler {
  handle(request: Request): string | null {
    let store = openStore("counts");
    if (store.error) return store.error;
    let line = request.rfile.readLine();
    while (line !== null) {
      const words = line.trim().split(" ");
      while (words.length < 4) words.push("");
      let answer = "opened";
      let error = "";
      if (words[0] == "open") {
        const opened = openStore(words[1]);
        error = inWords(opened);
        if (error == "") {
          store.close();
          store = opened;
        }
      } else {
        answer = operate(store, words[0], words[1], words[2], words[3]);
        error = inWords(store);
      }
      request.wfile.writeString((error == "" ? answer : error) + "\n");
      line = request.rfile.readLine();
    }
    return request.error;
  }
}

function inWords(store: Store): string {
  const words = store.error;
  if (words === null) return "";
  switch (store.errorKind) {
    case StateErrorKind.NO_SUCH_STORE:
      return "no-such-store";
    case StateErrorKind.ACCESS_DENIED:
      return "access-denied";
    default:
      return "other: " + words;
  }
}

function operate(store: Store, operation: string, key: string, one: string, other: string): string {
  if (operation == "get") {
    const value = store.get(key);
    return value ? text(value) : "none";
  }
  if (operation == "length") return store.get(key)!.length.toString();
  if (operation == "set") {
    store.set(key, bytes(one));
    return "set";
  }
  if (operation == "repeat") {
    store.set(key, new Uint8Array(<i32>parseInt(one)).fill(118));
    return "set";
  }
  if (operation == "fill") {
    for (let i = 0; i < <i32>parseInt(key); i++) store.set(`fill:${i}`, bytes("x"));
    return "filled";
  }
  if (operation == "del") {
    store.delete(key);
    return "deleted";
  }
  if (operation == "has") return store.exists(key).toString();
  if (operation == "incr") return store.increment(key, I64.parseInt(one)).toString();
  if (operation == "cas") return store.compareAndSwap(key, one == "none" ? null : bytes(one), bytes(other)).toString();
  if (operation == "add") {
    while (!store.error) {
      const seen = store.get(key);
      const number = seen ? <i32>parseInt(text(seen)) : 0;
      if (store.compareAndSwap(key, seen, bytes((number + 1).toString()))) break;
    }
    return "added";
  }
  const keys = store.keys(key);
  return operation == "list" ? keys.join(" ") : keys.length.toString();
}

function bytes(text: string): Uint8Array {
  return Uint8Array.wrap(String.UTF8.encode(text));
}

function text(data: Uint8Array): string {
  return String.UTF8.decode(data.buffer);
}

serve(new State());
