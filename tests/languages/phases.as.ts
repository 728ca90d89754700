// Fails in the phase that the first line names, or starts TLS and answers with the same bytes.

import { Request, RequestHandler, serve } from "./build/sdk/plugsock";

class Phases extends RequestHandler {
  private line: string | null = null;

  setup(request: Request): string | null {
    this.line = request.rfile.readLine();
    return this.failIn("setup\n");
  }

  handle(request: Request): string | null {
    const line = this.line;
    if (line && line.startsWith("STARTTLS")) return this.startTls(request, line.trim().split(" "));
    request.wfile.writeString("handle\n");
    return this.failIn("handle\n");
  }

  finish(request: Request): string | null {
    request.wfile.writeString("finish\n");
    return this.failIn("finish\n");
  }

  private startTls(request: Request, words: string[]): string | null {
    request.wfile.writeString("go ahead\n");
    const tls = request.startTls(words.length > 1 ? words[1] : null, ["echo"]);
    if (!tls) return request.error;
    const serverName = tls.serverName || "-";
    const alpn = tls.alpn || "-";
    request.wfile.writeString(`tls ${tls.protocol} ${tls.cipherSuite} ${serverName} ${alpn}\n`);
    if (tls.clientNames.length > 0) {
      let length = 0;
      for (let i = 0; i < tls.clientCertificates.length; i++) length += tls.clientCertificates[i].length;
      const name = tls.clientNames[tls.clientNames.length - 1];
      request.wfile.writeString(`client ${tls.clientCertificates.length} ${length} ${name}\n`);
    }
    let data = request.rfile.read(64 * 1024);
    while (data.length > 0 && request.wfile.write(data)) data = request.rfile.read(64 * 1024);
    return request.error;
  }

  private failIn(phase: string): string | null {
    return this.line == phase ? "as asked" : null;
  }
}

serve(new Phases());
