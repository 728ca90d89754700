// Fails in the phase that the first line names, or starts TLS and answers with the same bytes.

import { StreamRequestHandler, serve } from "./build/sdk/plugsock.js";

class Phases extends StreamRequestHandler {
  setup() {
    this.line = this.rfile.readLine();
    this.failIn("setup\n");
  }

  handle() {
    const [command, identity] = (this.line ?? "").trim().split(" ");
    if (command === "STARTTLS") return this.startTls(identity);
    this.wfile.write("handle\n");
    this.failIn("handle\n");
  }

  finish() {
    this.wfile.write("finish\n");
    this.failIn("finish\n");
  }

  startTls(identity) {
    this.wfile.write("go ahead\n");
    const tls = this.request.startTls({ identity, alpn: ["echo"] });
    this.wfile.write(`tls ${tls.protocol} ${tls.cipherSuite} ${tls.serverName ?? "-"} ${tls.alpn ?? "-"}\n`);
    if (tls.clientNames.length > 0) {
      const length = tls.clientCertificates.reduce((length, certificate) => length + certificate.length, 0);
      this.wfile.write(`client ${tls.clientCertificates.length} ${length} ${tls.clientNames.at(-1)}\n`);
    }
    for (const data of this.rfile) this.wfile.write(data);
  }

  failIn(phase) {
    if (this.line === phase) throw new Error("as asked");
  }
}

export const requestHandler = serve(Phases);
