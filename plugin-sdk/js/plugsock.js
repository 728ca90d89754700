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
// A handler that has a say in how its server runs has a class of hooks, too:
// `export const serverHooks = serveHooks(MyHooks)`.
//
// One instance of the component serves one request. Nothing is asynchronous: reading and writing block. After
// an error in `setup` neither `handle` nor `finish` runs, after one in `handle` only `finish`.

import { getStderr } from "wasi:cli/stderr@0.2.6";
import { subscribeDuration } from "wasi:clocks/monotonic-clock@0.2.6";
import { poll as pollRaw } from "wasi:io/poll@0.2.6";

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

  /** Sends one datagram to another address, where the server was granted this. */
  sendTo(data, address) {
    this.#call(() => this.raw.sendTo(bytes(data), address));
  }

  /** The client's process and user, on a Unix socket. */
  unixCredentials() {
    return this.raw.unixCredentials();
  }

  /** The same bytes as `recv`, as a stream to be waited for together with others. What `rfile` holds is not in it. */
  inputStream() {
    return new InputStream(this.#call(() => this.raw.rfile()));
  }

  /**
   * The same bytes as `send`, as a stream. Where there are datagrams, what is written goes out as one when the request
   * ends.
   */
  outputStream() {
    return new OutputStream(this.#call(() => this.raw.wfile()));
  }

  /**
   * Whether a newer version of the handler has replaced this one, so that the request should end at the next good point.
   * Always false unless the server was told to say so (`--drain-signal`).
   */
  isDraining() {
    return this.raw.isDraining();
  }

  /** Ready once `isDraining()` is true. */
  subscribeDrain() {
    return new Pollable(this.raw.subscribeDrain());
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

/** What the client sends. */
export class InputStream {
  constructor(raw) {
    this.raw = raw;
    this.isAtEnd = false;
  }

  /** What is there, up to `max` bytes: empty if nothing has come yet, and at the end, which `isAtEnd` tells. */
  tryRead(max = 64 * 1024) {
    return this.#read(() => this.raw.read(BigInt(max)));
  }

  /** Waits for data, up to `max` bytes; empty at the end. */
  read(max = 64 * 1024) {
    return this.#read(() => this.raw.blockingRead(BigInt(max)));
  }

  /** Ready when there is something to read, or the end. */
  subscribe() {
    return new Pollable(this.raw.subscribe());
  }

  /** Lets go of the stream, and not of the connection. */
  close() {
    this.raw[DISPOSE]();
  }

  #read(operation) {
    try {
      return operation();
    } catch (error) {
      if (error.payload?.tag !== "closed") throw streamError(error);
      this.isAtEnd = true;
      return new Uint8Array(0);
    }
  }
}

/** What the client gets. */
export class OutputStream {
  constructor(raw) {
    this.raw = raw;
  }

  /** Writes as much as there is room for, without waiting; how much that was. */
  tryWrite(data) {
    try {
      const length = Math.min(data.length, Number(this.raw.checkWrite()));
      if (length > 0) this.raw.write(data.subarray(0, length));
      return length;
    } catch (error) {
      throw streamError(error);
    }
  }

  /** Writes bytes, or text, and waits until all is sent. */
  write(data) {
    for (let rest = bytes(data); rest.length > 0; ) {
      const length = this.tryWrite(rest);
      rest = rest.subarray(length);
      if (length > 0) continue;
      const room = this.subscribe();
      room.block();
      room.close();
    }
    try {
      this.raw.blockingFlush();
    } catch (error) {
      throw streamError(error);
    }
  }

  /** Ready when there is room to write. */
  subscribe() {
    return new Pollable(this.raw.subscribe());
  }

  /** Lets go of the stream, and not of the connection. */
  close() {
    this.raw[DISPOSE]();
  }
}

/** Something that can be waited for. */
export class Pollable {
  constructor(raw) {
    this.raw = raw;
  }

  isReady() {
    return this.raw.ready();
  }

  /** Waits until it is ready. */
  block() {
    this.raw.block();
  }

  /** Lets go of it. */
  close() {
    this.raw[DISPOSE]();
  }
}

/** Waits until one of them is ready at least; which of them are, by their places. */
export function poll(pollables) {
  return [...pollRaw(pollables.map((pollable) => pollable.raw))];
}

/** Ready after that long. */
export function timer(milliseconds) {
  return new Pollable(subscribeDuration(BigInt(Math.round(milliseconds * 1e6))));
}

/** Writes a line to the handler's log. */
export function log(line) {
  const stderr = new OutputStream(getStderr());
  stderr.write(`${line}\n`);
  stderr.close();
}

/**
 * A say in how the server runs: the methods of socketserver.BaseServer that a subclass overrides. Each call gets an
 * instance of the component of its own.
 */
export class BaseServerHooks {
  /**
   * Whether to serve the request. A datagram can be read here, and will be read again by the handler; a stream cannot be
   * read or written yet.
   */
  verifyRequest(request) {
    return true;
  }

  /** A request failed. */
  handleError(server, failure) {}

  /** The server's `timeout` passed without a request. */
  handleTimeout(server) {}

  /** Runs between requests, at least about twice a second. */
  serviceActions(server) {}
}

/** Makes a class of hooks the component's: `export const serverHooks = serveHooks(MyHooks)`. */
export function serveHooks(Hooks) {
  return {
    verifyRequest: (raw) => new Hooks().verifyRequest(new Request(raw)),
    handleError: (server, failure) => new Hooks().handleError(server, failure),
    handleTimeout: (server) => new Hooks().handleTimeout(server),
    serviceActions: (server) => new Hooks().serviceActions(server),
  };
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

const DISPOSE = Symbol.dispose ?? Symbol.for("dispose");

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

/** What a stream failed of, as an exception that names itself. */
function streamError(error) {
  const { tag, val } = error.payload ?? {};
  if (tag === undefined) return error;
  return new RequestError(tag === "closed" ? { tag } : { tag: "other", val: val.toDebugString() });
}

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
