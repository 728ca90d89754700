// Fails in the phase that the first line names.

import { StreamRequestHandler, serve } from "./sdk/plugsock.js";

class Phases extends StreamRequestHandler {
  private line?: string;

  override setup(): void {
    this.line = this.rfile.readLine();
    this.failIn("setup\n");
  }

  override handle(): void {
    this.wfile.write("handle\n");
    this.failIn("handle\n");
  }

  override finish(): void {
    this.wfile.write("finish\n");
    this.failIn("finish\n");
  }

  private failIn(phase: string): void {
    if (this.line === phase) throw new Error("as asked");
  }
}

export const requestHandler = serve(Phases);
