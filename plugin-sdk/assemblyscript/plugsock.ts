// Request handlers for Plugsock in AssemblyScript: socketserver's handler class as a class.
//
// The language has no exceptions: a handler's method returns `null`, or why it failed in words. What fails to
// be read or written ends the reading or writing, and leaves its reason in `request.error`.

import { Address, ServerInfo, ServerType, UnixCredentials } from "./address";
import * as contract from "./contract";
import { InputStream, OutputStream, Pollable } from "./streams";
import { TlsError, TlsErrorKind, TlsInfo } from "./tls";

export { Address, AddressKind, ServerInfo, ServerType, UnixCredentials } from "./address";
export { openStore, StateErrorKind, Store } from "./state";
export { InputStream, log, OutputStream, poll, Pollable, timer } from "./streams";
export { TlsError, TlsErrorKind, TlsInfo } from "./tls";

// Says more of a failure. Only who uses TLS sets it, so that TLS, which it alone names, is left out of all other handlers.
let explain: ((request: Request) => void) | null = null;

function explainByTls(request: Request): void {
  request.explainByTls();
}

export const enum ShutdownHow {
  READ,
  WRITE,
  BOTH,
}

/** Serves one request: one instance of the component does no more. */
export abstract class RequestHandler {
  /** Prepares; after an error neither `handle` nor `finish` runs. */
  setup(request: Request): string | null {
    return null;
  }

  /** Serves the request. */
  abstract handle(request: Request): string | null;

  /** Cleans up; runs after `handle` has failed, too. */
  finish(request: Request): string | null {
    return null;
  }
}

/** The request being served. */
export class Request {
  /** What the client sends. Of a datagram server it is the packet. */
  rfile: Rfile;
  /** What the client gets. */
  wfile: Wfile;
  /** Why the last operation failed, in words. */
  error: string | null = null;
  /** What TLS failed of last. */
  tlsError: TlsError | null = null;

  constructor(private socket: u32) {
    this.rfile = new Rfile();
    this.wfile = new Wfile();
    this.bind(socket);
  }

  /** The host lends the request anew to each of the handler's methods. */
  bind(socket: u32): void {
    this.socket = socket;
    this.error = null;
    this.rfile.request = this;
    this.wfile.request = this;
  }

  /** Unique among the requests of the host. */
  get id(): u64 {
    return contract.id(this.socket);
  }

  /** The server that accepted the request. */
  get server(): ServerInfo {
    return contract.serverInfo(this.socket);
  }

  get serverType(): ServerType {
    return contract.serverType(this.socket) as ServerType;
  }

  /** The name of the thread or process that serves this request. */
  get worker(): string {
    return contract.worker(this.socket);
  }

  /** Who sent it. */
  get clientAddress(): Address {
    return contract.clientAddress(this.socket);
  }

  /** The client's process and user, on a Unix socket. */
  get unixCredentials(): UnixCredentials | null {
    return contract.unixCredentials(this.socket);
  }

  get isDatagram(): bool {
    const type = this.serverType;
    return type == ServerType.UDP || type == ServerType.UNIX_DATAGRAM;
  }

  /** Blocks until data arrive: up to `max` bytes, or the packet; empty at the end and after an error. */
  recv(max: u32): Uint8Array {
    this.error = contract.recv(this.socket, max);
    if (this.error) {
      if (explain) explain(this);
      return new Uint8Array(0);
    }
    return contract.received();
  }

  /** Blocks until all is sent; where there are datagrams, as one of its own. */
  send(data: Uint8Array): bool {
    this.error = contract.send(this.socket, data);
    if (this.error && explain) explain(this);
    return !this.error;
  }

  /** Sends one datagram to another address, where the server was granted this. */
  sendTo(data: Uint8Array, address: Address): bool {
    this.error = contract.sendTo(this.socket, data, address);
    return !this.error;
  }

  /**
   * The same bytes as `recv`, as a stream that can be waited for together with others. What `rfile` holds is not in it.
   * `null` after an error.
   */
  inputStream(): InputStream | null {
    this.error = contract.rfile(this.socket);
    return this.error ? null : new InputStream(contract.handle());
  }

  /**
   * The same bytes as `send`, as a stream. Where there are datagrams, what is written goes out as one when the request
   * ends. `null` after an error.
   */
  outputStream(): OutputStream | null {
    this.error = contract.wfile(this.socket);
    return this.error ? null : new OutputStream(contract.handle());
  }

  /**
   * Whether a newer version of the handler has replaced this one, so that the request should end at the next good point.
   * Always false unless the server was told to say so (`--drain-signal`).
   */
  get isDraining(): bool {
    return contract.isDraining(this.socket);
  }

  /** Ready once `isDraining` is true. */
  subscribeDrain(): Pollable {
    return new Pollable(contract.subscribeDrain(this.socket));
  }

  /** Half-closes or closes the connection. */
  shutdown(how: ShutdownHow): bool {
    this.error = contract.shutdown(this.socket, how);
    return !this.error;
  }

  /** How long one read or write may wait; the server's own limit bounds it, too. */
  setTimeout(nanoseconds: u64): bool {
    this.error = contract.setTimeout(this.socket, nanoseconds);
    return !this.error;
  }

  /** Sends small segments at once. */
  disableNagleAlgorithm(): bool {
    this.error = contract.setNodelay(this.socket, true);
    return !this.error;
  }
  /**
   * Protects the connection by TLS, as its server: all that is read and written from here on is protected. `null`, with
   * the reason in `error` and `tlsError`, if that failed: the connection is over then, except after `NO_IDENTITY` and
   * `ALREADY_PROTECTED`.
   *
   * `identity` names one of the server's certificates; with `null` it is the one for the name that the client asks for.
   * `alpn` are the application protocols that the handler speaks, the preferred first.
   */
  startTls(identity: string | null = null, alpn: string[] = []): TlsInfo | null {
    explain = explainByTls;
    this.error = null;
    if (this.rfile.isEmpty) {
      if (contract.startTls(this.socket, identity, alpn)) return contract.tlsInfo();
      return this.failTls(contract.tlsError());
    }
    if (this.tls()) return this.failTls(new TlsError(TlsErrorKind.ALREADY_PROTECTED));
    // Nothing that the client said in the clear may count as protected.
    this.rfile.discard();
    contract.shutdown(this.socket, ShutdownHow.BOTH);
    return this.failTls(new TlsError(TlsErrorKind.UNPROTECTED_BYTES));
  }

  /** How the connection is protected, by `startTls` or by its server; `null` if it is not. */
  tls(): TlsInfo | null {
    explain = explainByTls;
    return contract.isProtected(this.socket) ? contract.tlsInfo() : null;
  }

  private failTls(failure: TlsError): TlsInfo | null {
    this.error = failure.message;
    this.tlsError = failure;
    return null;
  }

  /** Has the contract say what ended the protection, if that is why something failed. */
  explainByTls(): void {
    if (contract.hasTlsError(this.socket)) this.failTls(contract.tlsError());
  }
}

/** What the client sends, buffered. */
export class Rfile {
  request!: Request;
  private buffer: Uint8Array = new Uint8Array(0);
  private position: i32 = 0;

  /** What comes next, up to `max` bytes; empty at the end and after an error. */
  read(max: i32): Uint8Array {
    if (!this.fill(max)) return new Uint8Array(0);
    const end = min(this.position + max, this.buffer.length);
    const data = this.buffer.subarray(this.position, end);
    this.position = end;
    return data;
  }

  /** The next line with its newline, if it has one; `null` at the end and after an error. */
  readLine(): string | null {
    let line = new Array<u8>();
    while (this.fill(1)) {
      const byte = this.buffer[this.position++];
      line.push(byte);
      if (byte == 10) break;
    }
    return line.length == 0 ? null : String.UTF8.decodeUnsafe(line.dataStart, line.length);
  }

  /** Whether all that was received has been read. */
  get isEmpty(): bool {
    return this.position == this.buffer.length;
  }

  /** Forgets what was received and not read. */
  discard(): void {
    this.position = this.buffer.length;
  }

  private fill(wanted: i32): bool {
    if (this.isEmpty) {
      this.buffer = this.request.recv(max(wanted, 8192));
      this.position = 0;
    }
    return this.buffer.length > 0;
  }
}

/** What the client gets: at once, or where there are datagrams as one after `finish`. */
export class Wfile {
  request!: Request;
  private reply: Array<u8> | null = null;
  private isStream: bool = false;

  write(data: Uint8Array): bool {
    let reply = this.reply;
    if (!reply && !this.isStream) {
      // Asked once: the host would have to make all of the server's names again.
      this.isStream = !this.request.isDatagram;
      if (!this.isStream) this.reply = reply = new Array<u8>();
    }
    if (!reply) return data.length == 0 || this.request.send(data);
    for (let i = 0; i < data.length; i++) reply.push(data[i]);
    return true;
  }

  writeString(text: string): bool {
    return this.write(Uint8Array.wrap(String.UTF8.encode(text)));
  }

  sendReply(): bool {
    if (!this.reply) return true;
    const reply = this.reply as Array<u8>;
    const data = new Uint8Array(reply.length);
    data.set(reply);
    return data.length == 0 || this.request.send(data);
  }
}

let served: RequestHandler | null = null;

/** Makes this the component's handler. */
export function serve(handler: RequestHandler): void {
  served = handler;
}

/** The handler; it was given while the module started. */
export function handler(): RequestHandler {
  return served!;
}
