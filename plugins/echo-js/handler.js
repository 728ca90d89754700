// Answers with the same bytes.

import { StreamRequestHandler, serve } from "./build/sdk/plugsock.js";

class Echo extends StreamRequestHandler {
  handle() {
    for (const chunk of this.rfile) this.wfile.write(chunk);
  }
}

export const requestHandler = serve(Echo);
