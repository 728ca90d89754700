// The types of plugsock.js, which says what they are for.

export type ServerType = "tcp" | "udp" | "unix-stream" | "unix-datagram";

export type IpAddress =
  | { tag: "ipv4"; val: { port: number; address: [number, number, number, number] } }
  | {
      tag: "ipv6";
      val: { port: number; flowInfo: number; address: number[]; scopeId: number };
    };

export type UnixAddress =
  | { tag: "unnamed" }
  | { tag: "pathname"; val: string }
  | { tag: "abstract-name"; val: Uint8Array };

export type Address = { tag: "ip"; val: IpAddress } | { tag: "unix"; val: UnixAddress };

export interface UnixCredentials {
  pid?: number;
  uid: number;
  gid: number;
}

export interface ServerInfo {
  name: string;
  serverType: ServerType;
  serverAddress: Address;
  concurrency: string;
  handlerDigest: string;
  generation: bigint;
}

/** How a connection is protected. */
export interface TlsInfo {
  /** `TLSv1.2` or `TLSv1.3`. */
  protocol: string;
  /** The cipher suite, by its name at IANA. */
  cipherSuite: string;
  /** The name that the client asked for (SNI). */
  serverName?: string;
  /** The application protocol that both agreed on (ALPN). */
  alpn?: string;
  /** Whether an earlier session was resumed. */
  resumed: boolean;
  /** The client's certificate, which was verified, and what it sent to verify it by, in DER. */
  clientCertificates: Uint8Array[];
  /** Whom the client's certificate is for. */
  clientNames: string[];
}

export interface TlsOptions {
  /** One of the server's certificates; without it is the one for the name that the client asks for. */
  identity?: string | undefined;
  /** The application protocols that the handler speaks, the preferred first. */
  alpn?: readonly string[] | undefined;
}

export declare class Request {
  readonly id: bigint;
  readonly server: ServerInfo;
  readonly isDatagram: boolean;
  readonly clientAddress: Address;
  recv(max?: number): Uint8Array;
  send(data: Uint8Array | string): void;
  sendTo(data: Uint8Array | string, address: Address): void;
  unixCredentials(): UnixCredentials | undefined;
  inputStream(): InputStream;
  outputStream(): OutputStream;
  isDraining(): boolean;
  subscribeDrain(): Pollable;
  shutdown(how?: "read" | "write" | "both"): void;
  setTimeout(milliseconds?: number): void;
  disableNagleAlgorithm(): void;
  startTls(options?: TlsOptions): TlsInfo;
  tls(): TlsInfo | undefined;
}

export interface Rfile extends Iterable<Uint8Array> {
  read(max?: number): Uint8Array;
  readLine(): string | undefined;
  lines(): Iterable<string>;
}

export interface Wfile {
  write(data: Uint8Array | string): void;
}

export declare class BaseRequestHandler {
  constructor(request: Request);
  readonly request: Request;
  setup(): void;
  handle(): void;
  finish(): void;
}

export declare class StreamRequestHandler extends BaseRequestHandler {
  readonly rfile: Rfile;
  readonly wfile: Wfile;
}

export declare class RequestError extends Error {
  readonly code: string;
}

/** What a connection is not protected for: the contract's, or "connection" if it failed otherwise. */
export type TlsErrorCode =
  | "handshake-failed"
  | "certificate-refused"
  | "closed-without-notice"
  | "unprotected-bytes"
  | "no-identity"
  | "already-protected"
  | "connection";

export declare class TlsError extends RequestError {
  readonly code: TlsErrorCode;
  readonly alert?: string;
}

/** Something that can be waited for. */
export declare class Pollable {
  isReady(): boolean;
  block(): void;
  close(): void;
}

export declare class InputStream {
  readonly isAtEnd: boolean;
  tryRead(max?: number): Uint8Array;
  read(max?: number): Uint8Array;
  subscribe(): Pollable;
  close(): void;
}

export declare class OutputStream {
  tryWrite(data: Uint8Array): number;
  write(data: Uint8Array | string): void;
  subscribe(): Pollable;
  close(): void;
}

export declare function poll(pollables: Pollable[]): number[];
export declare function timer(milliseconds: number): Pollable;
export declare function log(line: string): void;

/** A request that failed. */
export interface Failure {
  id: bigint;
  clientAddress: Address;
  phase: "verify" | "setup" | "handle" | "finish";
  message: string;
}

export declare class BaseServerHooks {
  verifyRequest(request: Request): boolean;
  handleError(server: ServerInfo, failure: Failure): void;
  handleTimeout(server: ServerInfo): void;
  serviceActions(server: ServerInfo): void;
}

export declare function serveHooks(hooks: new () => BaseServerHooks): unknown;

/** What the component exports. */
export interface Exported {
  setup(request: unknown): void;
  handle(request: unknown): void;
  finish(request: unknown): void;
}

export declare function serve(handler: new (request: Request) => BaseRequestHandler): Exported;
