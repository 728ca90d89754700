// Answers with a packet's length.

import { StreamRequestHandler, serve } from "./sdk/plugsock.js";

class Length extends StreamRequestHandler {
  override handle(): void {
    const packet = this.rfile.read(65535);
    this.wfile.write(`${packet.length} bytes`);
  }
}

export const requestHandler = serve(Length);
