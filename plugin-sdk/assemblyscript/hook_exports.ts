// What the component exports of hooks; `names.mjs` gives it the contract's names.

import * as contract from "./contract";
import { Failure, hooks, Phase } from "./hooks";
import { address, serverInfo, text } from "./memory";
import { Request } from "./plugsock";

export function verifyRequest(socket: u32): bool {
  const isServed = hooks().verifyRequest(new Request(socket));
  contract.drop(socket);
  return isServed;
}

export function handleError(at: usize): void {
  const server = serverInfo(at);
  const failure = at + 72;
  const phase = load<u8>(failure, 44) as Phase;
  const told = new Failure(load<u64>(failure), address(failure + 8), phase, text(failure + 48));
  hooks().handleError(server, told);
}

export function handleTimeout(at: usize): void {
  hooks().handleTimeout(serverInfo(at));
}

export function serviceActions(at: usize): void {
  hooks().serviceActions(serverInfo(at));
}
