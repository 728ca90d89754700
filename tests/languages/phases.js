// Fails in the phase that the first line names.

import { StreamRequestHandler, serve } from "./build/sdk/plugsock.js";

class Phases extends StreamRequestHandler {
  setup() {
    this.line = this.rfile.readLine();
    this.failIn("setup\n");
  }

  handle() {
    this.wfile.write("handle\n");
    this.failIn("handle\n");
  }

  finish() {
    this.wfile.write("finish\n");
    this.failIn("finish\n");
  }

  failIn(phase) {
    if (this.line === phase) throw new Error("as asked");
  }
}

export const requestHandler = serve(Phases);
