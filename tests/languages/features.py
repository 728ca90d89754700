"""Does what the first words of its client ask for, by all that the contract has besides reading and writing, and
answers with the same bytes otherwise. The hooks say that they were called."""

from plugsock import BaseRequestHandler, BaseServerHooks, export, export_hooks, poll, timer


class Features(BaseRequestHandler):
    def handle(self):
        data = self.request.recv(8192)
        match data.decode(errors="replace").split():
            case ["fail", *_]:
                raise ValueError("as the client wished")
            case ["tick"]:
                self.tick()
            case ["wait"]:
                self.wait()
            case ["who"]:
                self.who()
            case ["send-to", address]:
                self.send_to(address)
            case _:
                self.request.sendall(data)

    def tick(self):
        """Waits for the client and a timer at once, until the client's end."""
        input, output = self.request.input_stream(), self.request.output_stream()
        while True:
            with input.subscribe() as client, timer(0.02) as ticks:
                ready = poll([client, ticks])
            if ready[0] == 1:
                output.write(b"tick\n")
            elif (data := input.try_read(4096)) == b"":
                return
            elif data:
                output.write(data)

    def wait(self):
        """Waits for the drain and the client at once."""
        self.request.sendall(b"draining\n" if self.request.is_draining() else b"serving\n")
        input = self.request.input_stream()
        with input.subscribe() as client, self.request.subscribe_drain() as drain:
            poll([client, drain])
            is_over = drain.ready() and self.request.is_draining()
        self.request.sendall(b"bye\n" if is_over else b"hello\n")

    def who(self):
        server, (host, port) = self.request.server, self.client_address
        address = server.server_address.value.value
        server_host = ".".join(map(str, address.address))
        line = f"{server_host}:{address.port} {server.concurrency} {server.generation} {host}:{port}"
        self.request.sendall(line.encode())

    def send_to(self, text):
        host, colon, port = text.rpartition(":")
        try:
            self.request.sendto(b"hello", (host.strip("[]"), int(port)) if colon else text)
            self.request.sendall(b"sent")
        except OSError as error:
            self.request.sendall(str(error).encode())


class Hooks(BaseServerHooks):
    def verify_request(self, request):
        return not (request.is_datagram and request.recv(6) == b"refuse")

    def handle_error(self, server, failure):
        host, port = failure.client_address
        print(f"handle_error: {failure.phase} {host}:{port} {server.generation}: {failure.message}")

    def handle_timeout(self, server):
        print(f"handle_timeout: {server.concurrency}")

    def service_actions(self, server):
        print(f"service_actions: {server.concurrency}")


RequestHandler = export(Features)
ServerHooks = export_hooks(Hooks)
