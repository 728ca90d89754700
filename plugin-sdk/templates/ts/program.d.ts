// The types of what program.wit imports.

/** What may be waited for. */
interface Pollable {
  ready(): boolean;
  block(): void;
}

declare module "wasi:cli/stdin@0.2.6" {
  /** Reading throws an error with a `payload`: `{ tag: "closed" }` at the end. */
  interface InputStream {
    read(length: bigint): Uint8Array;
    blockingRead(length: bigint): Uint8Array;
    subscribe(): Pollable;
  }
  export function getStdin(): InputStream;
}

declare module "wasi:cli/stdout@0.2.6" {
  interface OutputStream {
    checkWrite(): bigint;
    write(contents: Uint8Array): void;
    blockingWriteAndFlush(contents: Uint8Array): void;
    blockingFlush(): void;
    subscribe(): Pollable;
  }
  export function getStdout(): OutputStream;
}

declare module "wasi:cli/stderr@0.2.6" {
  export function getStderr(): ReturnType<typeof import("wasi:cli/stdout@0.2.6").getStdout>;
}
