"""Answers with a packet's length."""

from plugsock import DatagramRequestHandler, export


class Length(DatagramRequestHandler):
    def handle(self):
        self.wfile.write(b"%d bytes" % len(self.packet))


RequestHandler = export(Length)
