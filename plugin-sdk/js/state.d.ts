// The types of state.js, which says what they are for.

export declare function openStore(name: string): Store;

export declare class Store {
  get(key: string): Uint8Array | undefined;
  set(key: string, value: Uint8Array | string): void;
  delete(key: string): void;
  exists(key: string): boolean;
  increment(key: string, delta?: bigint | number): bigint;
  compareAndSwap(key: string, expected: Uint8Array | string | undefined, value: Uint8Array | string): boolean;
  keys(prefix?: string): string[];
  close(): void;
}

export declare class StateError extends Error {
  readonly code: "no-such-store" | "access-denied" | "other";
}
