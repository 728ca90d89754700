"""Fails in the phase that the first line names, or starts TLS and answers with the same bytes."""

from plugsock import StreamRequestHandler, export


class Phases(StreamRequestHandler):
    def setup(self):
        self.line = self.rfile.readline()
        self.fail_in(b"setup\n")

    def handle(self):
        if self.line.startswith(b"STARTTLS"):
            return self.start_tls(*self.line.decode().split()[1:])
        self.wfile.write(b"handle\n")
        self.fail_in(b"handle\n")

    def finish(self):
        self.wfile.write(b"finish\n")
        self.fail_in(b"finish\n")

    def start_tls(self, identity=None):
        self.wfile.write(b"go ahead\n")
        tls = self.request.start_tls(identity, ["echo"])
        line = f"tls {tls.protocol} {tls.cipher_suite} {tls.server_name or '-'} {tls.alpn or '-'}\n"
        self.wfile.write(line.encode())
        if tls.client_names:
            length = sum(map(len, tls.client_certificates))
            line = f"client {len(tls.client_certificates)} {length} {tls.client_names[-1]}\n"
            self.wfile.write(line.encode())
        while data := self.rfile.read1():
            self.wfile.write(data)

    def fail_in(self, phase):
        if self.line == phase:
            raise ValueError("as asked")


RequestHandler = export(Phases)
