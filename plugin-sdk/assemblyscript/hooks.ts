// A say in how the server runs: the methods of socketserver.BaseServer that a subclass overrides. Who imports this
// exports them all. Each call gets an instance of the component of its own.

import { Address, ServerInfo } from "./address";
import { Request } from "./plugsock";

export { Address, ServerInfo } from "./address";

/** The phase of a request in which it failed. */
export const enum Phase {
  VERIFY,
  SETUP,
  HANDLE,
  FINISH,
}

/** A request that failed. */
export class Failure {
  constructor(
    /** The request's id. */
    public id: u64,
    public clientAddress: Address,
    public phase: Phase,
    /** What went wrong, in words. */
    public message: string,
  ) {}
}

export class ServerHooks {
  /** Whether to serve the request. A datagram can be read here, and will be read again by the handler; a stream cannot
   * be read or written yet. */
  verifyRequest(request: Request): bool {
    return true;
  }

  /** A request failed. */
  handleError(server: ServerInfo, failure: Failure): void {}

  /** The server's `timeout` passed without a request. */
  handleTimeout(server: ServerInfo): void {}

  /** Runs between requests, at least about twice a second. */
  serviceActions(server: ServerInfo): void {}
}

let served: ServerHooks | null = null;

/** Makes these the component's hooks. */
export function serveHooks(hooks: ServerHooks): void {
  served = hooks;
}

/** The hooks; they were given while the module started. */
export function hooks(): ServerHooks {
  return served!;
}
