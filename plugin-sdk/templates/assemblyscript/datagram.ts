// Answers with a packet's length.

import { Request, RequestHandler, serve } from "./build/sdk/plugsock";

class Length extends RequestHandler {
  handle(request: Request): string | null {
    const packet = request.rfile.read(65535);
    request.wfile.writeString(`${packet.length} bytes`);
    return request.error;
  }
}

serve(new Length());
