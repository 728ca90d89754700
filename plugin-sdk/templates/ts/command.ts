// Answers with the same bytes: standard input and output are the connection.

import { getStdin } from "wasi:cli/stdin@0.2.6";
import { getStdout } from "wasi:cli/stdout@0.2.6";

export const run = {
  run(): void {
    const stdin = getStdin();
    const stdout = getStdout();
    for (let data = read(); data !== undefined; data = read()) stdout.blockingWriteAndFlush(data);

    /** What comes next; `undefined` at the end. */
    function read(): Uint8Array | undefined {
      try {
        return stdin.blockingRead(4096n);
      } catch (error) {
        if ((error as { payload?: { tag?: string } }).payload?.tag === "closed") return undefined;
        throw error;
      }
    }
  },
};
