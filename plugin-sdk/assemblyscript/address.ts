// Where a request came from or came to, and what serves it.

export const enum AddressKind {
  IPV4,
  IPV6,
  /** A Unix socket that has no name. */
  UNNAMED,
  PATHNAME,
  /** A name in Linux's abstract namespace. */
  ABSTRACT_NAME,
}

export class Address {
  port: u16 = 0;
  /** The 4 bytes of an IPv4 address, or the 8 groups of an IPv6 one. */
  ip: u16[] = [];
  flowInfo: u32 = 0;
  scopeId: u32 = 0;
  /** A Unix socket's. */
  name: string = "";

  constructor(public kind: AddressKind) {}

  /** Of an IP address with its port, `127.0.0.1:53` or `[::1]:53`; anything else is a path. */
  static parse(text: string): Address {
    const colon = text.lastIndexOf(":");
    const host = text.substring(0, max(colon, 0));
    const isIpv6 = host.startsWith("[") && host.endsWith("]");
    const address = new Address(isIpv6 ? AddressKind.IPV6 : AddressKind.IPV4);
    const ip = isIpv6 ? groups(host.substring(1, host.length - 1)) : numbers(host, ".", 10, 255);
    const port = numbers(text.substring(colon + 1), ":", 10, 65535);
    if (ip && port && port.length == 1 && ip.length == (isIpv6 ? 8 : 4)) {
      address.ip = ip;
      address.port = port[0];
      return address;
    }
    const path = new Address(AddressKind.PATHNAME);
    path.name = text;
    return path;
  }

  toString(): string {
    switch (this.kind) {
      case AddressKind.IPV4:
        return this.ip.join(".") + ":" + this.port.toString();
      case AddressKind.IPV6: {
        const groups = new Array<string>();
        for (let i = 0; i < this.ip.length; i++) groups.push(this.ip[i].toString(16));
        return "[" + groups.join(":") + "]:" + this.port.toString();
      }
      case AddressKind.UNNAMED:
        return "(unnamed)";
      case AddressKind.PATHNAME:
        return this.name;
      default:
        return "@" + this.name;
    }
  }
}

/** The numbers between separators; `null` if something else is among them. */
function numbers(text: string, separator: string, radix: i32, most: i32): u16[] | null {
  const numbers = new Array<u16>();
  const parts = text.split(separator);
  for (let i = 0; i < parts.length; i++) {
    const part = parts[i];
    for (let j = 0; j < part.length; j++) {
      const digit = part.charCodeAt(j);
      const isLetter = radix == 16 && (digit | 32) >= 97 && (digit | 32) <= 102;
      if (!isLetter && (digit < 48 || digit > 57)) return null;
    }
    if (part.length == 0 || part.length > 5) return null;
    const number = <i32>parseInt(part, radix);
    if (number > most) return null;
    numbers.push(<u16>number);
  }
  return numbers;
}

function groups(text: string): u16[] | null {
  const gap = text.indexOf("::");
  if (gap < 0) return numbers(text, ":", 16, 65535);
  const before = gap == 0 ? new Array<u16>() : numbers(text.substring(0, gap), ":", 16, 65535);
  const after = gap + 2 == text.length ? new Array<u16>() : numbers(text.substring(gap + 2), ":", 16, 65535);
  if (!before || !after || before.length + after.length > 7) return null;
  while (before.length + after.length < 8) before.push(0);
  return before.concat(after);
}

export const enum ServerType {
  TCP,
  UDP,
  UNIX_STREAM,
  UNIX_DATAGRAM,
}

/** What serves a request. */
export class ServerInfo {
  /** The server's name, as in its log. */
  name: string = "";
  serverType: ServerType = ServerType.TCP;
  /** The address that the server is bound to. */
  serverAddress: Address = new Address(AddressKind.UNNAMED);
  /** `sync`, `threading`, `forking`, `pool` or `async`. */
  concurrency: string = "";
  /** SHA-256 of the component that serves. */
  handlerDigest: string = "";
  /** Counts the versions of the handler. */
  generation: u64 = 0;
}

/** Who is at the other end of a Unix socket, as the kernel attests it. */
export class UnixCredentials {
  /** 0 if it is not known. */
  pid: u32 = 0;
  uid: u32 = 0;
  gid: u32 = 0;
}
