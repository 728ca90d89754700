// The contract's functions as the canonical ABI has them. An operation returns `null`, or why it failed.

import { Address, AddressKind, ServerInfo, UnixCredentials } from "./address";
import * as lifted from "./memory";
import { bytes, optionalText, text } from "./memory";
import { TlsError, TlsErrorKind, TlsInfo } from "./tls";

// @ts-ignore: decorator
@external("plugsock:handler/types@0.1.1", "[resource-drop]request")
export declare function drop(request: u32): void;

// @ts-ignore: decorator
@external("plugsock:handler/types@0.1.1", "[method]request.id")
export declare function id(request: u32): u64;

// @ts-ignore: decorator
@external("plugsock:handler/types@0.1.1", "[method]request.server")
declare function _server(request: u32, result: usize): void;

// @ts-ignore: decorator
@external("plugsock:handler/types@0.1.1", "[method]request.worker")
declare function _worker(request: u32, result: usize): void;

// @ts-ignore: decorator
@external("plugsock:handler/types@0.1.1", "[method]request.client-address")
declare function _clientAddress(request: u32, result: usize): void;

// @ts-ignore: decorator
@external("plugsock:handler/types@0.1.1", "[method]request.unix-credentials")
declare function _unixCredentials(request: u32, result: usize): void;

// @ts-ignore: decorator
@external("plugsock:handler/types@0.1.1", "[method]request.send-to")
// prettier-ignore
declare function _sendTo(
  request: u32, data: usize, length: i32,
  a0: u32, a1: u32, a2: u32, a3: u32, a4: u32, a5: u32, a6: u32, a7: u32, a8: u32, a9: u32,
  a10: u32, a11: u32, a12: u32, result: usize,
): void;

// @ts-ignore: decorator
@external("plugsock:handler/types@0.1.1", "[method]request.rfile")
declare function _rfile(request: u32, result: usize): void;

// @ts-ignore: decorator
@external("plugsock:handler/types@0.1.1", "[method]request.wfile")
declare function _wfile(request: u32, result: usize): void;

// @ts-ignore: decorator
@external("plugsock:handler/types@0.1.1", "[method]request.is-draining")
export declare function isDraining(request: u32): bool;

// @ts-ignore: decorator
@external("plugsock:handler/types@0.1.1", "[method]request.subscribe-drain")
export declare function subscribeDrain(request: u32): u32;

// @ts-ignore: decorator
@external("plugsock:handler/types@0.1.1", "[method]request.recv")
declare function _recv(request: u32, max: u32, result: usize): void;

// @ts-ignore: decorator
@external("plugsock:handler/types@0.1.1", "[method]request.send")
declare function _send(request: u32, data: usize, length: i32, result: usize): void;

// @ts-ignore: decorator
@external("plugsock:handler/types@0.1.1", "[method]request.shutdown")
declare function _shutdown(request: u32, how: i32, result: usize): void;

// @ts-ignore: decorator
@external("plugsock:handler/types@0.1.1", "[method]request.set-timeout")
declare function _setTimeout(request: u32, isSome: i32, nanoseconds: u64, result: usize): void;

// @ts-ignore: decorator
@external("plugsock:handler/types@0.1.1", "[method]request.set-nodelay")
declare function _setNodelay(request: u32, on: i32, result: usize): void;

// @ts-ignore: decorator
@external("plugsock:handler/types@0.1.1", "[method]request.start-tls")
declare function _startTls(
  request: u32,
  isSome: i32,
  identity: usize,
  identityLength: i32,
  alpn: usize,
  alpnLength: i32,
  result: usize,
): void;

// @ts-ignore: decorator
@external("plugsock:handler/types@0.1.1", "[method]request.tls")
declare function _tls(request: u32, result: usize): void;

// @ts-ignore: decorator
@external("plugsock:handler/types@0.1.1", "[method]request.tls-error")
declare function _tlsError(request: u32, result: usize): void;

// Where the host puts results; the largest is what `server` says.
const result: usize = memory.data(72, 8);

export function serverInfo(request: u32): ServerInfo {
  _server(request, result);
  return lifted.serverInfo(result);
}

/** The least of it, for those who need no more. */
export function serverType(request: u32): i32 {
  _server(request, result);
  const type = load<u8>(result, 8);
  // The name, the concurrency, the digest; an address of a Unix socket is the rest.
  heap.free(load<usize>(result));
  heap.free(load<usize>(result, 48));
  heap.free(load<usize>(result, 56));
  return type;
}

export function worker(request: u32): string {
  _worker(request, result);
  return text(result);
}

export function clientAddress(request: u32): Address {
  _clientAddress(request, result);
  return lifted.address(result);
}

export function unixCredentials(request: u32): UnixCredentials | null {
  _unixCredentials(request, result);
  if (load<u8>(result) == 0) return null;
  const credentials = new UnixCredentials();
  if (load<u8>(result, 4) != 0) credentials.pid = load<u32>(result, 8);
  credentials.uid = load<u32>(result, 12);
  credentials.gid = load<u32>(result, 16);
  return credentials;
}

export function sendTo(request: u32, data: Uint8Array, address: Address): string | null {
  const words = new StaticArray<u32>(13);
  const name = String.UTF8.encode(address.name);
  if (address.kind >= AddressKind.UNNAMED) {
    words[0] = 1;
    words[1] = address.kind - AddressKind.UNNAMED;
    words[2] = <u32>changetype<usize>(name);
    words[3] = name.byteLength;
  } else {
    words[1] = address.kind;
    words[2] = address.port;
    const isIpv6 = address.kind == AddressKind.IPV6;
    if (isIpv6) words[3] = address.flowInfo;
    if (isIpv6) words[12] = address.scopeId;
    const start = isIpv6 ? 4 : 3;
    for (let i = 0; i < address.ip.length; i++) words[start + i] = address.ip[i];
  }
  // prettier-ignore
  _sendTo(
    request, data.dataStart, data.length,
    words[0], words[1], words[2], words[3], words[4], words[5], words[6], words[7], words[8], words[9],
    words[10], words[11], words[12], result,
  );
  return outcome();
}

/** Why there is no such stream; `handle` is the one there is. */
export function rfile(request: u32): string | null {
  _rfile(request, result);
  return outcome();
}

/** Why there is no such stream; `handle` is the one there is. */
export function wfile(request: u32): string | null {
  _wfile(request, result);
  return outcome();
}

/** What `rfile` or `wfile` made. */
export function handle(): u32 {
  return load<u32>(result, 4);
}

export function recv(request: u32, max: u32): string | null {
  _recv(request, max, result);
  return outcome();
}

/** What `recv` received. */
export function received(): Uint8Array {
  const pointer = load<usize>(result, 4);
  const data = new Uint8Array(load<i32>(result, 8));
  if (data.length > 0) {
    memory.copy(data.dataStart, pointer, data.length);
    heap.free(pointer);
  }
  return data;
}

export function send(request: u32, data: Uint8Array): string | null {
  _send(request, data.dataStart, data.length, result);
  return outcome();
}

export function shutdown(request: u32, how: i32): string | null {
  _shutdown(request, how, result);
  return outcome();
}

export function setTimeout(request: u32, nanoseconds: u64): string | null {
  _setTimeout(request, 1, nanoseconds, result);
  return outcome();
}

export function setNodelay(request: u32, on: bool): string | null {
  _setNodelay(request, on, result);
  return outcome();
}

/** Whether the connection is protected now; `tlsInfo` says how, and `tlsError` why not. */
export function startTls(request: u32, identity: string | null, alpn: string[]): bool {
  const name = String.UTF8.encode(identity ? identity : "");
  const protocols = new Array<ArrayBuffer>();
  const list = new StaticArray<usize>(2 * alpn.length);
  for (let i = 0; i < alpn.length; i++) {
    const protocol = String.UTF8.encode(alpn[i]);
    // It must not be collected before the call.
    protocols.push(protocol);
    list[2 * i] = changetype<usize>(protocol);
    list[2 * i + 1] = protocol.byteLength;
  }
  const isSome = identity === null ? 0 : 1;
  const items = changetype<usize>(list);
  _startTls(request, isSome, changetype<usize>(name), name.byteLength, items, alpn.length, result);
  return load<u8>(result) == 0;
}

/** Whether the connection is protected; `tlsInfo` says how. */
export function isProtected(request: u32): bool {
  _tls(request, result);
  return load<u8>(result) != 0;
}

/** Whether its protection ended by an error, which `tlsError` has. */
export function hasTlsError(request: u32): bool {
  _tlsError(request, result);
  return load<u8>(result) != 0;
}

/** What `startTls` or `isProtected` found. */
export function tlsInfo(): TlsInfo {
  const info = new TlsInfo();
  info.protocol = text(result + 4);
  info.cipherSuite = text(result + 12);
  info.serverName = optionalText(result + 20);
  info.alpn = optionalText(result + 32);
  info.resumed = load<u8>(result, 44) != 0;
  const certificates = load<usize>(result, 48);
  for (let i = 0, count = load<i32>(result, 52); i < count; i++) {
    info.clientCertificates.push(bytes(certificates + 8 * i));
  }
  if (info.clientCertificates.length > 0) heap.free(certificates);
  const names = load<usize>(result, 56);
  for (let i = 0, count = load<i32>(result, 60); i < count; i++) {
    info.clientNames.push(text(names + 8 * i));
  }
  if (info.clientNames.length > 0) heap.free(names);
  return info;
}

/** What `startTls` or `hasTlsError` found. */
export function tlsError(): TlsError {
  const failure = new TlsError(load<u8>(result, 4) as TlsErrorKind);
  switch (failure.kind) {
    case TlsErrorKind.HANDSHAKE_FAILED: {
      const alert = optionalText(result + 8);
      failure.alert = alert;
      failure.message += text(result + 20);
      if (alert) failure.message += " (" + alert + ")";
      break;
    }
    case TlsErrorKind.CERTIFICATE_REFUSED:
    case TlsErrorKind.NO_IDENTITY:
      failure.message += text(result + 8);
      break;
    case TlsErrorKind.CONNECTION:
      failure.message = words(result + 8);
  }
  return failure;
}

function outcome(): string | null {
  return load<u8>(result) == 0 ? null : words(result + 4);
}

/** The error there in words. */
function words(at: usize): string {
  switch (load<u8>(at)) {
    case 0:
      return "the connection is closed";
    case 1:
      return "timed out";
    case 2:
      return "the client reset the connection";
    case 3:
      return "the datagram is too large for its transport";
    case 4:
      return "the client's socket has no name, so it cannot be answered";
    case 5:
      return "the server was not granted this";
    case 6:
      return "this server type has no such operation";
    default:
      return String.UTF8.decodeUnsafe(load<usize>(at, 4), load<i32>(at, 8));
  }
}
