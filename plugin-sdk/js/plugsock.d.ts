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

export interface ServerInfo {
  name: string;
  serverType: ServerType;
  serverAddress: Address;
  concurrency: string;
  handlerDigest: string;
  generation: bigint;
}

export declare class Request {
  readonly id: bigint;
  readonly server: ServerInfo;
  readonly isDatagram: boolean;
  readonly clientAddress: Address;
  recv(max?: number): Uint8Array;
  send(data: Uint8Array | string): void;
  shutdown(how?: "read" | "write" | "both"): void;
  setTimeout(milliseconds?: number): void;
  disableNagleAlgorithm(): void;
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

/** What the component exports. */
export interface Exported {
  setup(request: unknown): void;
  handle(request: unknown): void;
  finish(request: unknown): void;
}

export declare function serve(handler: new (request: Request) => BaseRequestHandler): Exported;
