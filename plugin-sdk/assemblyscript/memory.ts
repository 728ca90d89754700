// What the host puts into memory, as the language has it; the memory is freed.

import { Address, AddressKind, ServerInfo, ServerType } from "./address";

/** A copy of the bytes, whose address and length are there. */
export function bytes(at: usize): Uint8Array {
  const data = new Uint8Array(load<i32>(at, 4));
  if (data.length > 0) {
    memory.copy(data.dataStart, load<usize>(at), data.length);
    heap.free(load<usize>(at));
  }
  return data;
}

/** The text, whose address and length are there. */
export function text(at: usize): string {
  const length = load<i32>(at, 4);
  const text = String.UTF8.decodeUnsafe(load<usize>(at), length);
  if (length > 0) heap.free(load<usize>(at));
  return text;
}

export function optionalText(at: usize): string | null {
  return load<u8>(at) == 0 ? null : text(at + 4);
}

export function address(at: usize): Address {
  const tag = load<u8>(at, 4);
  if (load<u8>(at) != 0) {
    const address = new Address((AddressKind.UNNAMED + tag) as AddressKind);
    if (address.kind != AddressKind.UNNAMED) address.name = text(at + 8);
    return address;
  }
  const address = new Address(tag as AddressKind);
  address.port = load<u16>(at, 8);
  if (address.kind == AddressKind.IPV4) {
    for (let i = 0; i < 4; i++) address.ip.push(load<u8>(at + i, 10));
    return address;
  }
  address.flowInfo = load<u32>(at, 12);
  for (let i = 0; i < 8; i++) address.ip.push(load<u16>(at + 2 * i, 16));
  address.scopeId = load<u32>(at, 32);
  return address;
}

export function serverInfo(at: usize): ServerInfo {
  const info = new ServerInfo();
  info.name = text(at);
  info.serverType = load<u8>(at, 8) as ServerType;
  info.serverAddress = address(at + 12);
  info.concurrency = text(at + 48);
  info.handlerDigest = text(at + 56);
  info.generation = load<u64>(at, 64);
  return info;
}
