// Answers with the same bytes.

import { StreamRequestHandler, serve } from "./sdk/plugsock.js";

class Echo extends StreamRequestHandler {
  override handle(): void {
    for (const chunk of this.rfile) this.wfile.write(chunk);
  }
}

export const requestHandler = serve(Echo);
