// Does what the first words of its client ask for, by all that the contract has besides reading and writing, and
// answers with the same bytes otherwise. The hooks say that they were called.

import {
  BaseRequestHandler,
  BaseServerHooks,
  log,
  poll,
  serve,
  serveHooks,
  timer,
} from "./build/sdk/plugsock.js";

class Features extends BaseRequestHandler {
  handle() {
    const data = this.request.recv(8192);
    const [command, address = ""] = new TextDecoder().decode(data).trim().split(" ");
    if (command === "fail") throw new Error("as the client wished");
    if (command === "tick") return this.tick();
    if (command === "wait") return this.wait();
    if (command === "who") return this.who();
    if (command === "send-to") return this.sendTo(address);
    this.request.send(data);
  }

  /** Waits for the client and a timer at once, until the client's end. */
  tick() {
    const input = this.request.inputStream();
    const output = this.request.outputStream();
    while (!input.isAtEnd) {
      const pollables = [input.subscribe(), timer(20)];
      const [ready] = poll(pollables);
      for (const pollable of pollables) pollable.close();
      if (ready === 1) output.write("tick\n");
      else output.write(input.tryRead(4096));
    }
  }

  /** Waits for the drain and the client at once. */
  wait() {
    this.request.send(this.request.isDraining() ? "draining\n" : "serving\n");
    const input = this.request.inputStream();
    const drain = this.request.subscribeDrain();
    poll([input.subscribe(), drain]);
    this.request.send(drain.isReady() && this.request.isDraining() ? "bye\n" : "hello\n");
  }

  who() {
    const { serverAddress, concurrency, generation } = this.request.server;
    const addresses = [serverAddress, this.request.clientAddress].map(inWords);
    this.request.send(`${addresses[0]} ${concurrency} ${generation} ${addresses[1]}`);
  }

  sendTo(text) {
    const ip = /^([0-9]+)\.([0-9]+)\.([0-9]+)\.([0-9]+):([0-9]+)$/.exec(text);
    try {
      this.request.sendTo("hello", ip ? ipv4(ip.slice(1).map(Number)) : { tag: "unix", val: { tag: "pathname", val: text } });
      this.request.send("sent");
    } catch (error) {
      this.request.send(error.message);
    }
  }
}

class Hooks extends BaseServerHooks {
  verifyRequest(request) {
    return !(request.isDatagram && new TextDecoder().decode(request.recv(6)) === "refuse");
  }

  handleError(server, failure) {
    const { phase, clientAddress, message } = failure;
    log(`handle_error: ${phase} ${inWords(clientAddress)} ${server.generation}: ${message}`);
  }

  handleTimeout(server) {
    log(`handle_timeout: ${server.concurrency}`);
  }

  serviceActions(server) {
    log(`service_actions: ${server.concurrency}`);
  }
}

function ipv4([a, b, c, d, port]) {
  return { tag: "ip", val: { tag: "ipv4", val: { port, address: [a, b, c, d] } } };
}

function inWords(address) {
  return address.tag === "ip" ? `${address.val.val.address.join(".")}:${address.val.val.port}` : "unix";
}

export const requestHandler = serve(Features);
export const serverHooks = serveHooks(Hooks);
