// Fails in the phase that the first line names.

import { Request, RequestHandler, serve } from "./build/sdk/plugsock";

class Phases extends RequestHandler {
  private line: string | null = null;

  setup(request: Request): string | null {
    this.line = request.rfile.readLine();
    return this.failIn("setup\n");
  }

  handle(request: Request): string | null {
    request.wfile.writeString("handle\n");
    return this.failIn("handle\n");
  }

  finish(request: Request): string | null {
    request.wfile.writeString("finish\n");
    return this.failIn("finish\n");
  }

  private failIn(phase: string): string | null {
    return this.line == phase ? "as asked" : null;
  }
}

serve(new Phases());
