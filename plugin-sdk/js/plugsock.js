// Request handlers for Plugsock in JavaScript: socketserver's handler classes.
//
//     class Echo extends StreamRequestHandler {
//       handle() {
//         for (const chunk of this.rfile) this.wfile.write(chunk);
//       }
//     }
//
//     export const requestHandler = serve(Echo);
//
// One instance of the component serves one request. Nothing is asynchronous: reading and writing block. After
// an error in `setup` neither `handle` nor `finish` runs, after one in `handle` only `finish`.

/** Serves one request through `this.request`. */
export class BaseRequestHandler {
  constructor(request) {
    this.request = request;
  }

  /** Prepares. */
  setup() {}

  /** Serves the request. */
  handle() {}

  /** Cleans up; runs after `handle` has failed, too. */
  finish() {}
}

/**
 * Serves one request through `this.rfile` and `this.wfile`. The same handler serves datagrams: `rfile` is the
 * packet, and what is written to `wfile` is the reply.
 */
export class StreamRequestHandler extends BaseRequestHandler {
  constructor(request) {
    super(request);
    this.rfile = new Rfile(request);
    this.wfile = new Wfile(request);
  }
}

/** The request being served. */
export class Request {
  constructor(raw) {
    /** The contract's own, lent anew to each of the handler's methods. */
    this.raw = raw;
    this.id = raw.id();
    this.server = raw.server();
    this.isDatagram = ["udp", "unix-datagram"].includes(this.server.serverType);
    this.clientAddress = raw.clientAddress();
  }

  /** Blocks until data arrive: up to `max` bytes, or the packet; empty at the end. */
  recv(max = 64 * 1024) {
    return call(() => this.raw.recv(max));
  }

  /** Blocks until all is sent; where there are datagrams, as one of its own. */
  send(data) {
    call(() => this.raw.send(bytes(data)));
  }

  /** Half-closes or closes the connection: "read", "write" or "both". */
  shutdown(how = "both") {
    call(() => this.raw.shutdown(how));
  }

  /** How long one `recv` or `send` may wait; `undefined` restores the server's own limit. */
  setTimeout(milliseconds) {
    call(() => this.raw.setTimeout(milliseconds === undefined ? undefined : BigInt(milliseconds) * 1000000n));
  }

  /** Sends small segments at once. */
  disableNagleAlgorithm() {
    call(() => this.raw.setNodelay(true));
  }
}

/** What the client sends, buffered. Iterating yields it as it comes; `lines` yields it line by line. */
class Rfile {
  #request;
  #buffer = new Uint8Array(0);

  constructor(request) {
    this.#request = request;
  }

  /** What comes next, up to `max` bytes; empty at the end. */
  read(max = 64 * 1024) {
    const data = this.#fill(max).subarray(0, max);
    this.#buffer = this.#buffer.subarray(data.length);
    return data;
  }

  /** The next line with its newline, if it has one, as text; `undefined` at the end. */
  readLine() {
    const parts = [];
    while (parts.length === 0 || parts.at(-1).at(-1) !== NEWLINE) {
      const end = this.#fill(8192).indexOf(NEWLINE);
      const part = this.read(end < 0 ? this.#buffer.length : end + 1);
      if (part.length === 0) break;
      parts.push(part);
    }
    return parts.length === 0 ? undefined : new TextDecoder().decode(concatenated(parts));
  }

  *lines() {
    for (let line; (line = this.readLine()) !== undefined; ) yield line;
  }

  *[Symbol.iterator]() {
    for (let data; (data = this.read()).length > 0; ) yield data;
  }

  #fill(wanted) {
    if (this.#buffer.length === 0) this.#buffer = this.#request.recv(Math.max(wanted, 8192));
    return this.#buffer;
  }
}

/** What the client gets: at once, or where there are datagrams as one after `finish`. */
class Wfile {
  #request;
  #reply = [];

  constructor(request) {
    this.#request = request;
  }

  /** Writes all of it: bytes, or text. */
  write(data) {
    if (this.#request.isDatagram) this.#reply.push(bytes(data).slice());
    else if (data.length > 0) this.#request.send(data);
  }

  /** Sends the reply to a datagram. */
  close() {
    if (this.#reply.length > 0) this.#request.send(concatenated(this.#reply));
  }
}

/** An operation on a request that failed; `code` is the contract's. */
export class RequestError extends Error {
  constructor(error) {
    super(WORDS[error.tag] ?? error.val);
    this.name = "RequestError";
    this.code = error.tag;
  }
}

/** Makes a handler class the component's: `export const requestHandler = serve(Echo)`. */
export function serve(Handler) {
  let request;
  let handler;
  return {
    setup(raw) {
      report(() => {
        request = new Request(raw);
        handler = new Handler(request);
        handler.setup();
      });
    },
    handle(raw) {
      request.raw = raw;
      report(() => handler.handle());
    },
    finish(raw) {
      request.raw = raw;
      report(() => {
        try {
          handler.finish();
        } finally {
          handler.wfile?.close();
        }
      });
    },
  };
}

const NEWLINE = 10;

const WORDS = {
  closed: "the connection is closed",
  "timed-out": "timed out",
  reset: "the client reset the connection",
  "message-too-large": "the datagram is too large for its transport",
  "no-reply-address": "the client's socket has no name, so it cannot be answered",
  "not-permitted": "the server was not granted this",
  unsupported: "this server type has no such operation",
};

function bytes(data) {
  return typeof data === "string" ? new TextEncoder().encode(data) : data;
}

function concatenated(parts) {
  const all = new Uint8Array(parts.reduce((length, part) => length + part.length, 0));
  let length = 0;
  for (const part of parts) {
    all.set(part, length);
    length += part.length;
  }
  return all;
}

/** Calls the contract; the errors it names become exceptions that name themselves. */
function call(operation) {
  try {
    return operation();
  } catch (error) {
    throw error.payload?.tag ? new RequestError(error.payload) : error;
  }
}

/** Calls the handler; what it throws becomes the request's error in words. */
function report(method) {
  try {
    method();
  } catch (error) {
    // The contract's errors are strings, and are thrown as such.
    throw error instanceof Error ? `${error.name}: ${error.message}` : String(error);
  }
}
