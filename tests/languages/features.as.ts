// Does what the first words of its client ask for, by all that the contract has besides reading and writing, and
// answers with the same bytes otherwise. The hooks say that they were called.

import { Failure, ServerHooks, serveHooks } from "./build/sdk/hooks";
import { Address, log, poll, Request, RequestHandler, serve, ServerInfo, timer } from "./build/sdk/plugsock";

class Features extends RequestHandler {
  handle(request: Request): string | null {
    const data = request.recv(8192);
    const words = String.UTF8.decode(data.buffer).trim().split(" ");
    if (words[0] == "fail") return "as the client wished";
    if (words[0] == "tick") return this.tick(request);
    if (words[0] == "wait") return this.wait(request);
    if (words[0] == "who") return this.who(request);
    if (words[0] == "send-to") {
      const isSent = request.sendTo(bytes("hello"), Address.parse(words[1]));
      request.send(bytes(isSent ? "sent" : request.error!));
      return null;
    }
    request.send(data);
    return request.error;
  }

  /** Waits for the client and a timer at once, until the client's end. */
  private tick(request: Request): string | null {
    const input = request.inputStream();
    const output = request.outputStream();
    if (!input || !output) return request.error;
    while (true) {
      const client = input.subscribe();
      const ticks = timer(20_000_000);
      const ready = poll([client, ticks]);
      client.close();
      ticks.close();
      if (ready[0] == 1) {
        if (!output.writeString("tick\n")) return output.error;
      } else {
        const data = input.tryRead(4096);
        if (input.isAtEnd) return null;
        if (input.error || !output.write(data)) return input.error || output.error;
      }
    }
  }

  /** Waits for the drain and the client at once. */
  private wait(request: Request): string | null {
    request.send(bytes(request.isDraining ? "draining\n" : "serving\n"));
    const input = request.inputStream();
    if (!input) return request.error;
    const drain = request.subscribeDrain();
    poll([input.subscribe(), drain]);
    request.send(bytes(drain.isReady && request.isDraining ? "bye\n" : "hello\n"));
    return request.error;
  }

  private who(request: Request): string | null {
    const server = request.server;
    const address = server.serverAddress.toString();
    const client = request.clientAddress.toString();
    request.wfile.writeString(`${address} ${server.concurrency} ${server.generation} ${client}`);
    const credentials = request.unixCredentials;
    if (credentials) request.wfile.writeString(` ${credentials.uid}`);
    return request.error;
  }
}

class Hooks extends ServerHooks {
  verifyRequest(request: Request): bool {
    return !request.isDatagram || String.UTF8.decode(request.recv(6).buffer) != "refuse";
  }

  handleError(server: ServerInfo, failure: Failure): void {
    const phases: string[] = ["verify", "setup", "handle", "finish"];
    const client = failure.clientAddress.toString();
    log(`handle_error: ${phases[failure.phase]} ${client} ${server.generation}: ${failure.message}`);
  }

  handleTimeout(server: ServerInfo): void {
    log(`handle_timeout: ${server.concurrency}`);
  }

  serviceActions(server: ServerInfo): void {
    log(`service_actions: ${server.concurrency}`);
  }
}

function bytes(text: string): Uint8Array {
  return Uint8Array.wrap(String.UTF8.encode(text));
}

serve(new Features());
serveHooks(new Hooks());
