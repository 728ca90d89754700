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
    this.rfile = request.rfile = new Rfile(request);
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
    /** What may hold something that was received, if the handler reads by such a file. */
    this.rfile = undefined;
  }

  /** Blocks until data arrive: up to `max` bytes, or the packet; empty at the end. */
  recv(max = 64 * 1024) {
    return this.#call(() => this.raw.recv(max));
  }

  /** Blocks until all is sent; where there are datagrams, as one of its own. */
  send(data) {
    this.#call(() => this.raw.send(bytes(data)));
  }

  /** Half-closes or closes the connection: "read", "write" or "both". */
  shutdown(how = "both") {
    this.#call(() => this.raw.shutdown(how));
  }

  /** How long one `recv` or `send` may wait; `undefined` restores the server's own limit. */
  setTimeout(milliseconds) {
    this.#call(() => this.raw.setTimeout(milliseconds === undefined ? undefined : BigInt(milliseconds) * 1000000n));
  }

  /** Sends small segments at once. */
  disableNagleAlgorithm() {
    this.#call(() => this.raw.setNodelay(true));
  }

  /**
   * Protects the connection by TLS, as its server: all that is read and written from here on is protected. Returns how.
   * After an error the connection is over, unless its code is "no-identity" or "already-protected".
   *
   * `identity` names one of the server's certificates; without it is the one for the name that the client asks for.
   * `alpn` are the application protocols that the handler speaks, the preferred first.
   */
  startTls({ identity, alpn = [] } = {}) {
    if (this.rfile?.hasUnread()) {
      if (this.tls() !== undefined) throw new TlsError({ tag: "already-protected" });
      // Nothing that the client said in the clear may count as protected.
      this.rfile.discard();
      try {
        this.shutdown("both");
      } catch {
        // Over it is in any case.
      }
      throw new TlsError({ tag: "unprotected-bytes" });
    }
    try {
      return this.raw.startTls(identity, [...alpn]);
    } catch (error) {
      throw error.payload?.tag ? new TlsError(error.payload) : error;
    }
  }

  /** How the connection is protected; `undefined` if it is not. */
  tls() {
    return this.raw.tls();
  }

  /** Calls the contract; the errors it names become exceptions that name themselves. */
  #call(operation) {
    try {
      return operation();
    } catch (error) {
      if (!error.payload?.tag) throw error;
      const failure = this.raw.tlsError();
      const plain = new RequestError(error.payload);
      throw failure === undefined ? plain : new TlsError(failure, { cause: plain });
    }
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

  /** Whether something was received that nobody has read. */
  hasUnread() {
    return this.#buffer.length > 0;
  }

  /** Forgets what was received and not read. */
  discard() {
    this.#buffer = new Uint8Array(0);
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
  constructor(error, options) {
    super(WORDS[error.tag] ?? error.val, options);
    this.name = "RequestError";
    this.code = error.tag;
  }
}

/**
 * Why a connection could not be protected, or is protected no more. `code` is the contract's; `alert` is the one that
 * ended the handshake, by its name in RFC 8446, if there was one.
 */
export class TlsError extends RequestError {
  constructor(error, options) {
    super({ tag: error.tag, val: tlsWords(error) }, options);
    this.name = "TlsError";
    this.alert = error.tag === "handshake-failed" ? error.val.alert : undefined;
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

const TLS_WORDS = {
  "handshake-failed": "the TLS handshake failed",
  "certificate-refused": "the client's certificate is refused",
  "closed-without-notice":
    "the client closed the connection without notice, so that its data may be cut short",
  "unprotected-bytes": "the client sent data in the clear where TLS was to begin",
  "no-identity": "the server has no certificate for this",
  "already-protected": "the connection is protected already",
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

function tlsWords({ tag, val }) {
  switch (tag) {
    case "handshake-failed":
      return `${TLS_WORDS[tag]}: ${val.message}${val.alert === undefined ? "" : ` (${val.alert})`}`;
    case "certificate-refused":
    case "no-identity":
      return `${TLS_WORDS[tag]}: ${val}`;
    case "connection":
      return WORDS[val.tag] ?? val.val;
    default:
      return TLS_WORDS[tag];
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
