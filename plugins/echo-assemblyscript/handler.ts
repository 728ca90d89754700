// Answers with the same bytes.

import { Request, RequestHandler, serve } from "./build/sdk/plugsock";

class Echo extends RequestHandler {
  handle(request: Request): string | null {
    let data = request.rfile.read(64 * 1024);
    while (data.length > 0 && request.wfile.write(data)) {
      data = request.rfile.read(64 * 1024);
    }
    return request.error;
  }
}

serve(new Echo());
