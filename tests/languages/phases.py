"""Fails in the phase that the first line names."""

from plugsock import StreamRequestHandler, export


class Phases(StreamRequestHandler):
    def setup(self):
        self.line = self.rfile.readline()
        self.fail_in(b"setup\n")

    def handle(self):
        self.wfile.write(b"handle\n")
        self.fail_in(b"handle\n")

    def finish(self):
        self.wfile.write(b"finish\n")
        self.fail_in(b"finish\n")

    def fail_in(self, phase):
        if self.line == phase:
            raise ValueError("as asked")


RequestHandler = export(Phases)
