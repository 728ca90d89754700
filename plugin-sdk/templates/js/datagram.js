// Answers with a packet's length.

import { StreamRequestHandler, serve } from "./build/sdk/plugsock.js";

class Length extends StreamRequestHandler {
  handle() {
    const packet = this.rfile.read(65535);
    this.wfile.write(`${packet.length} bytes`);
  }
}

export const requestHandler = serve(Length);
